import { connectAsync } from "mqtt";
import { expect, it } from "vitest";
import { startBroker } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";

it("top shows the busiest clients and topics by rate, while it looks", async () => {
  const broker = await startBroker();
  const url = `mqtt://127.0.0.1:${broker.port()}`;
  const [busy, idle] = await Promise.all([
    connectAsync(url, { clientId: "busy" }),
    connectAsync(url, { clientId: "idle" }),
  ]);
  atEnd(() => Promise.all([busy.endAsync(true), idle.endAsync(true)]));
  await idle.subscribeAsync("hot/#");
  for (let n = 0; n < 5; n++) await busy.publishAsync("before", "x", { qos: 1 });
  const looking = broker.control("top", ["--interval=300", "--format=json"]);
  for (let n = 0; n < 20; n++) await busy.publishAsync("hot/1", "x", { qos: 1 });
  for (let n = 0; n < 3; n++) await busy.publishAsync("cold", "x");
  const [clients, topics] = JSON.parse((await looking).stdout) as [
    { table: Record<string, unknown>[] },
    { table: Record<string, unknown>[] },
  ];
  expect(clients.table.map(({ client_id }) => client_id)).toEqual(["busy", "idle"]);
  expect(clients.table[0]).toMatchObject({ "sent/s": 0, waiting: 0, in_flight: 0, dropped: 0 });
  const received = Number(clients.table[0]?.["received/s"]);
  expect(received).toBeGreaterThan(0);
  expect(clients.table[1]).toMatchObject({ "received/s": 0 });
  expect(Number(clients.table[1]?.["sent/s"])).toBeLessThan(received);
  expect(topics.table.map(({ topic }) => topic)).toEqual(["hot/1", "cold"]);
});

it("top watch goes on until it is interrupted", async () => {
  const broker = await startBroker();
  const stop = new AbortController();
  const said: string[] = [];
  await broker.control("top", ["watch", "--interval=100"], {
    say: (text) => {
      said.push(text);
      if (said.length === 2) stop.abort();
    },
    signal: stop.signal,
  });
  expect(said).toHaveLength(2);
  expect(said[0]).toMatch(/^\d{4}-\d\d-\d\dT[\d:]{8}Z\n/);
});
