import { beforeAll, describe, expect, it } from "vitest";

/** What the page's figures are made of, without a browser; the file is served as it is and has no types. */
interface Model {
  History: new () => {
    times: number[];
    series: Record<string, number[]>;
    add(metrics: object, failures: number, nowS: number): void;
    latest(name: string): number;
  };
  issuesOf(status: unknown, overview: unknown, history: unknown): string[];
  numberText(value: unknown): string;
  bytesText(bytes: number): string;
  literalPattern(text: string): string;
  tableOf(answer: unknown): object[];
}

let model: Model;

beforeAll(async () => {
  const url = new URL("../../../../core/admin/http/status-page/model.js", import.meta.url);
  model = (await import(url.href)) as Model;
});

const metrics = (published: number, wallclock: number, dropped = 0) => ({
  system_wallclock: wallclock,
  total_active_connections: 5,
  mqtt_publish_received: published,
  mqtt_publish_sent: 2 * published,
  bytes_received: 0,
  bytes_sent: 0,
  queue_message_drop: dropped,
});

describe("rates of the status page", () => {
  it("are differences of counters over the time between two polls", () => {
    const history = new model.History();
    history.add(metrics(100, 1000), 0, 10);
    expect(history.times).toEqual([]);
    history.add(metrics(150, 3000), 3, 12);
    expect(history.series.in).toEqual([25]);
    expect(history.series.out).toEqual([50]);
    expect(history.latest("failures")).toBe(1.5);
    expect(history.latest("connections")).toBe(5);
  });

  it("have a gap where the broker was started anew", () => {
    const history = new model.History();
    history.add(metrics(100, 50_000), 0, 10);
    history.add(metrics(3, 1000), 0, 12);
    expect(history.times).toEqual([]);
    history.add(metrics(5, 3000), 0, 14);
    expect(history.series.in).toEqual([1]);
  });

  it("are kept for five minutes", () => {
    const history = new model.History();
    for (let i = 0; i < 1000; i++) history.add(metrics(i, i * 2000), 0, i * 2);
    expect(history.times).toHaveLength(150);
    expect(history.series.drops).toHaveLength(150);
  });
});

it("needs attention: nodes and listeners that do not run, drops, failing hooks", () => {
  const history = new model.History();
  history.add(metrics(0, 1000), 0, 0);
  history.add(metrics(0, 3000, 10), 4, 2);
  const listeners = [
    { type: "mqtt", ip: "::", port: 1883, status: "running" },
    { type: "mqtts", ip: "::", port: 8883, status: "stopped" },
  ];
  const members = [
    { name: "a@h", running: true },
    { name: "b@h", running: false },
  ];
  expect(model.issuesOf([{ "a@h": { listeners } }], { members }, history)).toEqual([
    "node b@h is not running",
    "listener mqtts :::8883 of a@h is stopped",
    "queues drop 5 messages a second",
    "calls of hooks fail, 2 a second",
  ]);
});

it("shows numbers in full, and bytes in the unit that fits", () => {
  expect([0, 1234567, 0.126, null, "x"].map(model.numberText)).toEqual([
    "0",
    "1,234,567",
    "0.13",
    "–",
    "x",
  ]);
  expect([0, 1023, 1536, 5_000_000].map(model.bytesText)).toEqual([
    "0 B",
    "1,023 B",
    "1.5 KB",
    "4.8 MB",
  ]);
});

it("searches for a text as it is, whatever it means in a pattern", () => {
  for (const text of ["plant.a", "a+b(c)[d]{2}|^$\\"]) {
    const pattern = new RegExp(`^${model.literalPattern(text)}$`);
    expect(pattern.test(text)).toBe(true);
    expect(pattern.test(text.replace(".", "x").replace("+", ""))).toBe(false);
  }
});

it("takes tables from one answer or several, and an alert as an error", () => {
  const table = { type: "table", table: [{ a: 1 }] };
  expect(model.tableOf(table)).toEqual([{ a: 1 }]);
  expect(model.tableOf([table, table])).toHaveLength(2);
  expect(() => model.tableOf({ type: "alert", alert: [{ type: "text", text: "no" }] })).toThrow(
    "no",
  );
});
