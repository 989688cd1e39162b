/** How long the charts look back, in polls. */
export const POLL_MS = 2000;
const POINTS_MAX = 150;

/** A table answer of the management API, or the text of an alert as an error. */
export function tableOf(answer) {
  if (Array.isArray(answer)) return answer.flatMap(tableOf);
  if (answer?.type === "table") return answer.table;
  const texts = (answer?.alert ?? [answer]).map((part) => part?.text ?? "");
  throw new Error(texts.join(" ").trim() || "no table in the answer");
}

/** Figures of all nodes together. */
export function totalOf(status) {
  const totals = {};
  for (const node of Object.values(status[0] ?? {})) {
    for (const [name, value] of Object.entries(node)) {
      if (typeof value === "number") totals[name] = (totals[name] ?? 0) + value;
    }
  }
  return totals;
}

/** Rates over time: the counters of two polls become one point; the last five minutes are kept. */
export class History {
  times = [];
  series = { connections: [], in: [], out: [], bytesIn: [], bytesOut: [], drops: [], failures: [] };
  last = undefined;

  /** `metrics` of one poll at `nowS`, seconds. */
  add(metrics, failures, nowS) {
    const now = { metrics, failures, nowS };
    const before = this.last;
    this.last = now;
    // A broker that was restarted counts from 0 again.
    const isNew =
      before !== undefined && metrics.system_wallclock < before.metrics.system_wallclock;
    if (before === undefined || isNew) return;
    const seconds = Math.max(0.001, nowS - before.nowS);
    const rate = (name) => Math.max(0, metrics[name] - before.metrics[name]) / seconds;
    this.times.push(nowS);
    this.series.connections.push(metrics.total_active_connections);
    this.series.in.push(rate("mqtt_publish_received"));
    this.series.out.push(rate("mqtt_publish_sent"));
    this.series.bytesIn.push(rate("bytes_received"));
    this.series.bytesOut.push(rate("bytes_sent"));
    this.series.drops.push(rate("queue_message_drop"));
    this.series.failures.push(Math.max(0, failures - before.failures) / seconds);
    if (this.times.length <= POINTS_MAX) return;
    for (const values of [this.times, ...Object.values(this.series)]) values.shift();
  }

  latest(name) {
    return this.series[name].at(-1) ?? 0;
  }
}

/** Calls of hooks that failed, timed out or were spared, over all chains. */
export function failuresOf(hooks) {
  let sum = 0;
  for (const { links } of hooks) {
    for (const link of links) sum += link.failed + link.timeouts + link.skipped;
  }
  return sum;
}

/** What an operator should look at, in words. */
export function issuesOf(status, overview, history) {
  const issues = [];
  for (const { name, running } of overview.members) {
    if (!running) issues.push(`node ${name} is not running`);
  }
  for (const [node, { listeners }] of Object.entries(status[0] ?? {})) {
    for (const { type, ip, port, status: state } of listeners) {
      if (state !== "running") issues.push(`listener ${type} ${ip}:${port} of ${node} is ${state}`);
    }
  }
  if (history.latest("drops") > 0) {
    issues.push(`queues drop ${numberText(history.latest("drops"))} messages a second`);
  }
  if (history.latest("failures") > 0) {
    issues.push(`calls of hooks fail, ${numberText(history.latest("failures"))} a second`);
  }
  return issues;
}

/** 1234567 as 1,234,567; fractions with at most two digits. */
export function numberText(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  return value.toLocaleString("en", { maximumFractionDigits: Math.abs(value) < 100 ? 2 : 0 });
}

export function bytesText(bytes) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${numberText(unit === 0 ? Math.round(value) : Math.round(value * 10) / 10)} ${units[unit]}`;
}

export function durationText(ms) {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return `${Math.floor(ms / 1000)} s`;
  const [days, hours] = [Math.floor(minutes / 1440), Math.floor((minutes % 1440) / 60)];
  return days > 0 ? `${days} d ${hours} h` : `${hours} h ${minutes % 60} min`;
}

/** A text as a regular expression that matches it. */
export function literalPattern(text) {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}
