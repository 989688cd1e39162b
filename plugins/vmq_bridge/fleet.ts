/** All bridges of a broker: made from the configuration, changed by commands. */
import { errorMessage, type PluginContext } from "../../core/plugin-api.ts";
import { Bridge } from "./bridge.ts";
import { IDENTITY_TOPIC, type LoopGuard } from "./loops.ts";
import { addMetrics } from "./metrics.ts";
import { type BridgeSettings, fingerprint, readBridges } from "./settings.ts";

interface Member {
  readonly bridge: Bridge;
  readonly fingerprint: string;
  removeMetrics(): void;
}

export class Fleet {
  readonly guard: LoopGuard;
  /** Messages that bridges of other brokers pushed here a second time. */
  loopsPushed = 0;
  private readonly context: PluginContext;
  private readonly members = new Map<string, Member>();
  private overrides = new Map<string, string | undefined>();
  /** Of bridges that are gone. */
  private droppedBefore = 0;
  private readonly changed: () => void;
  /** Mountpoints where this broker has told its id. */
  private readonly told = new Set<string>();
  private isReading = false;

  /** `changed`: bridges came, went or have other settings. */
  constructor(context: PluginContext, guard: LoopGuard, changed: () => void) {
    this.context = context;
    this.guard = guard;
    this.changed = changed;
    const counter = { type: "counter" } as const;
    context.metrics.gauge("vmq_bridge_dropped_msgs", () => this.dropped, counter);
    context.metrics.gauge("vmq_bridge_loops_pushed", () => this.loopsPushed, counter);
  }

  private get dropped(): number {
    let sum = this.droppedBefore;
    for (const { bridge } of this.members.values()) sum += bridge.dropped;
    return sum;
  }

  /** In the order of the configuration. */
  bridges(): Bridge[] {
    return [...this.members.values()].map(({ bridge }) => bridge);
  }

  find(name: string): Bridge[] {
    return this.bridges().filter(({ settings }) => settings.name === name);
  }

  /** Bridges of other brokers find the id of this one under a topic; see loops.ts. */
  async tellIdentity(): Promise<void> {
    const mountpoints = this.bridges().map(({ settings }) => settings.mountpoint);
    for (const mountpoint of ["", ...mountpoints]) {
      if (this.told.has(mountpoint)) continue;
      this.told.add(mountpoint);
      await this.context.broker.publish({
        topic: IDENTITY_TOPIC,
        payload: this.guard.brokerId,
        retain: true,
        mountpoint,
      });
    }
  }

  /** Some bridge marks its messages: what is pushed here is looked at. */
  isGuarding(): boolean {
    return this.bridges().some(
      ({ settings }) => settings.version === 5 && settings.loopProtection !== "off",
    );
  }

  /** @throws Error naming the key when the configuration is wrong; then nothing has started. */
  startAll(): void {
    this.follow(readBridges(this.context, this.overrides));
  }

  stopAll(): void {
    for (const { bridge } of this.members.values()) bridge.end(false);
  }

  /** Other settings, undefined = as if not written. Only bridges that are changed by it restart. */
  change(changes: ReadonlyMap<string, string | undefined>): void {
    const next = new Map(this.overrides);
    for (const [key, text] of changes) {
      next.set(key, text);
      if (text !== undefined) {
        // An unknown key is nobody's option.
        this.context.readValue(key, text);
        continue;
      }
      for (const below of next.keys()) if (below.startsWith(`${key}.`)) next.delete(below);
    }
    const wanted = readBridges(this.context, next);
    this.overrides = next;
    this.follow(wanted);
    this.changed();
  }

  /** A key of the configuration was set; several in a turn are read together. */
  configured(key: string): void {
    this.overrides.delete(key);
    if (this.isReading) return;
    this.isReading = true;
    this.context.setTimeout(() => {
      this.isReading = false;
      try {
        this.change(new Map());
      } catch (error) {
        const reason = errorMessage(error);
        this.context.log.error("bridges stay as they are", { reason });
      }
    }, 0);
  }

  private follow(wanted: readonly BridgeSettings[]): void {
    const keys = new Set(wanted.map(keyOf));
    for (const [key, member] of this.members) if (!keys.has(key)) this.drop(key, member, true);
    for (const settings of wanted) {
      const key = keyOf(settings);
      const old = this.members.get(key);
      if (old?.fingerprint === fingerprint(settings)) continue;
      const wasStopped = old?.bridge.state === "stopped";
      if (old !== undefined)
        this.drop(key, old, old.bridge.settings.mountpoint !== settings.mountpoint);
      const bridge = new Bridge(this.context, settings, this.guard);
      this.members.set(key, {
        bridge,
        fingerprint: fingerprint(settings),
        removeMetrics: addMetrics(this.context, bridge),
      });
      if (!wasStopped) bridge.start();
    }
    this.tellIdentity().catch((error: unknown) => {
      this.context.log.error("this broker's id could not be published", { reason: String(error) });
    });
  }

  private drop(key: string, { bridge, removeMetrics }: Member, cleanup: boolean): void {
    this.members.delete(key);
    this.droppedBefore += bridge.dropped;
    removeMetrics();
    bridge.end(cleanup);
  }
}

function keyOf({ transport, name }: BridgeSettings): string {
  return `${transport}.${name}`;
}
