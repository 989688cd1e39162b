/** Metrics of one bridge: VerneMQ's names, and the same with labels. */
import type { PluginContext } from "../../core/plugin-api.ts";
import type { Bridge } from "./bridge.ts";

const LEVELS = [0, 1, 2] as const;

/** Registers them; gives the function that removes them. */
export function addMetrics(context: PluginContext, bridge: Bridge): () => void {
  const { counters, settings } = bridge;
  const removals: (() => void)[] = [];
  const add = (
    type: "counter" | "gauge",
    name: string,
    read: () => number,
    labels?: Record<string, string>,
  ): void => {
    const options = labels === undefined ? { type } : { type, labels };
    removals.push(context.metrics.gauge(name, read, options));
  };
  const { name, transport } = settings;
  // Names of bridges may have dots and dashes, those of metrics not; tcp.x and ssl.x are two bridges.
  const word = name.replace(/\W/g, "_").toLowerCase();
  const prefix = /^[a-z_]/.test(word) ? word : `_${word}`;
  const labels = { bridge: name, transport };
  try {
    for (const qos of LEVELS) {
      add("counter", `${prefix}_vmq_bridge_publish_out_${qos}`, () => counters.out[qos]);
      add("counter", `${prefix}_vmq_bridge_publish_in_${qos}`, () => counters.in[qos]);
    }
  } catch {
    context.log.warn("another bridge has the same metrics names; this one has those with labels", {
      bridge: name,
    });
  }
  for (const qos of LEVELS) {
    const withQos = { ...labels, qos: String(qos) };
    add("counter", "vmq_bridge_publish_out", () => counters.out[qos], withQos);
    add("counter", "vmq_bridge_publish_in", () => counters.in[qos], withQos);
  }
  add("gauge", "vmq_bridge_connected", () => (bridge.state === "connected" ? 1 : 0), labels);
  add("counter", "vmq_bridge_connects", () => counters.connects, labels);
  add("gauge", "vmq_bridge_queue_size", () => bridge.queued, labels);
  add("gauge", "vmq_bridge_queue_max", () => settings.bufferMax, labels);
  add("gauge", "vmq_bridge_unacknowledged", () => bridge.inflight, labels);
  add("counter", "vmq_bridge_dropped", () => bridge.dropped, labels);
  add("counter", "vmq_bridge_loops_dropped", () => counters.loops, labels);
  add("gauge", "vmq_bridge_round_trip_ms", () => Math.round(bridge.roundTripMs ?? 0), labels);
  return () => {
    for (const remove of removals) remove();
  };
}
