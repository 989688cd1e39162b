import { type EventLoopUtilization, PerformanceObserver, performance } from "node:perf_hooks";

/** Load is the mean over at least this time, however often it is asked for. */
const LOAD_MS = 1000;

/** What else the process knows of itself. */
export interface SystemSources {
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly sessions: number;
}

/** The nearest values of a Node process to VerneMQ's virtual machine metrics. */
export class SystemMetrics {
  private readonly startMs = performance.now();
  private readonly collections = new PerformanceObserver((list) => {
    this.gcCount += list.getEntries().length;
  });
  private gcCount = 0;
  private last: { atMs: number; loop: EventLoopUtilization } | undefined;
  private loadPercent = 0;

  start(): void {
    this.collections.observe({ entryTypes: ["gc"] });
    this.last = { atMs: performance.now(), loop: performance.eventLoopUtilization() };
  }

  stop(): void {
    this.collections.disconnect();
  }

  read({ bytesIn, bytesOut, sessions }: SystemSources): [name: string, value: number][] {
    const usage = process.resourceUsage();
    const memory = process.memoryUsage();
    const load = this.load();
    return [
      [
        "system_context_switches",
        usage.voluntaryContextSwitches + usage.involuntaryContextSwitches,
      ],
      ["system_exact_reductions", 0],
      ["system_gc_count", this.gcCount],
      ["system_io_in", bytesIn],
      ["system_io_out", bytesOut],
      ["system_process_count", sessions],
      ["system_reductions", 0],
      ["system_run_queue", 0],
      ["system_runtime", Math.round((usage.userCPUTime + usage.systemCPUTime) / 1000)],
      ["system_utilization", load],
      ["system_utilization_scheduler_1", load],
      ["system_wallclock", Math.round(performance.now() - this.startMs)],
      ["system_words_reclaimed_by_gc", 0],
      ["vm_memory_atom", 0],
      ["vm_memory_atom_used", 0],
      ["vm_memory_binary", memory.external],
      ["vm_memory_code", 0],
      ["vm_memory_ets", 0],
      ["vm_memory_processes", memory.heapTotal],
      ["vm_memory_processes_used", memory.heapUsed],
      ["vm_memory_system", Math.max(0, memory.rss - memory.heapTotal)],
      ["vm_memory_total", memory.rss],
    ];
  }

  private load(): number {
    const atMs = performance.now();
    if (this.last !== undefined && atMs - this.last.atMs >= LOAD_MS) {
      const loop = performance.eventLoopUtilization();
      const { utilization } = performance.eventLoopUtilization(loop, this.last.loop);
      this.loadPercent = Math.round(utilization * 100);
      this.last = { atMs, loop };
    }
    return this.loadPercent;
  }
}
