import { expect, it } from "vitest";
import { startBroker, waitFor } from "../../support/broker.ts";
import { connect } from "../../support/mqtt-js.ts";
import { connectClient } from "../../support/raw-client.ts";

it("top shows the busiest clients and topics by rate, while it looks", async () => {
  const broker = await startBroker();
  const [busy, idle] = await Promise.all([connect(broker, "busy"), connect(broker, "idle")]);
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

it("top --by=queue shows where messages wait, whoever is busy", async () => {
  const broker = await startBroker({ max_inflight_messages: "1" });
  const slow = await connectClient(broker, 4, { clientId: "slow" });
  await slow.subscribed("jobs/#", { qos: 1 });
  const busy = await connect(broker, "busy");
  for (let n = 0; n < 3; n++) await busy.publishAsync("jobs/1", "x", { qos: 1 });
  await waitFor("two wait", () => broker.sessions().some(({ queue_size }) => queue_size === 2));
  const looked = await broker.control("top", ["--by=queue", "--interval=100", "--format=json"]);
  const [clients] = JSON.parse(looked.stdout) as [{ table: Record<string, unknown>[] }];
  expect(clients.table).toMatchObject([{ client_id: "slow", waiting: 2, in_flight: 1 }]);
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
