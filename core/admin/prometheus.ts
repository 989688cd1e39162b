import { LATENCY_BOUNDS_S, type LatencyHistogram } from "../counters.ts";
import { HISTOGRAM_HELP, METRIC_TABLE } from "./metric-table.ts";
import type { Series } from "./metrics.ts";

/** A histogram with its labels. */
export interface HistogramSeries {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly histogram: LatencyHistogram;
}

export interface PrometheusOptions {
  readonly node: string;
  /** `prometheus_namespace`, put before each name as it is. */
  readonly namespace: string;
}

/** The text format, with VerneMQ's names: HELP and TYPE once, series of a name together, node first. */
export function prometheusText(
  series: readonly Series[],
  histograms: readonly HistogramSeries[],
  { node, namespace }: PrometheusOptions,
): string {
  const byName = new Map<string, Series[]>();
  for (const one of series) {
    const others = byName.get(one.name);
    if (others === undefined) byName.set(one.name, [one]);
    else others.push(one);
  }
  const nodeLabel = `node="${escapeLabel(node)}"`;
  const lines: string[] = [];
  for (const [name, group] of byName) {
    const { type, help } = METRIC_TABLE[name] ?? {
      type: group[0]?.type ?? "counter",
      help: "Metric of a plugin.",
    };
    lines.push(`# HELP ${namespace}${name} ${help}`, `# TYPE ${namespace}${name} ${type}`);
    for (const { labels, value } of group) {
      lines.push(`${namespace}${name}{${nodeLabel}${labelText(labels)}} ${integerText(value)}`);
    }
  }
  const seen = new Set<string>();
  for (const { name, labels, histogram } of histograms) {
    const full = namespace + name;
    if (!seen.has(name)) {
      lines.push(`# HELP ${full} ${HISTOGRAM_HELP[name] ?? ""}`, `# TYPE ${full} histogram`);
      seen.add(name);
    }
    addHistogram(lines, full, nodeLabel, labelText(labels), histogram);
  }
  return `${lines.join("\n")}\n`;
}

/** Every other bound is enough on the way out: 0.25 µs, 1 µs, 4 µs ... 4 s. */
const BOUNDS = LATENCY_BOUNDS_S.flatMap((seconds, bucket) =>
  bucket % 2 === 0 ? [{ bucket, text: String(Math.round(seconds * 1e8) / 100) }] : [],
);

function addHistogram(
  lines: string[],
  name: string,
  node: string,
  labels: string,
  { counts, sumMs }: LatencyHistogram,
): void {
  let total = 0;
  let next = 0;
  for (const { bucket, text } of BOUNDS) {
    while (next <= bucket) total += counts[next++] as number;
    lines.push(`${name}_bucket{${node},le="${text}"${labels}} ${total}`);
  }
  while (next < counts.length) total += counts[next++] as number;
  lines.push(`${name}_bucket{${node},le="+Inf"${labels}} ${total}`);
  lines.push(`${name}_sum{${node}${labels}} ${integerText(sumMs * 1000)}`);
  lines.push(`${name}_count{${node}${labels}} ${total}`);
}

function labelText(labels: Readonly<Record<string, string>>): string {
  let text = "";
  for (const name in labels) text += `,${name}="${escapeLabel(labels[name] as string)}"`;
  return text;
}

/** Differs from VerneMQ, which escapes nothing: a quote in a name would break the whole text. */
function escapeLabel(value: string): string {
  if (!/["\\\n]/.test(value)) return value;
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function integerText(value: number): string {
  return String(Number.isInteger(value) ? value : Math.round(value));
}
