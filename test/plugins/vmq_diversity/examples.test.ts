import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { hashSync } from "bcrypt";
import { describe, expect, it } from "vitest";
import { waitFor } from "../../support/broker.ts";
import { ROOT } from "../../support/build.ts";
import { atEnd } from "../../support/cleanup.ts";
import { refusalOf, startLua } from "../../support/lua.ts";
import {
  hasMemcached,
  hasMongo,
  hasPostgres,
  startMemcached,
  startMongo,
  startPostgres,
} from "../../support/servers/databases.ts";

/** The scripts in lua/examples, run as they are. */

const example = (name: string): string =>
  readFileSync(join(ROOT, "lua/examples", `${name}.lua`), "utf8");
const ALLOW = `local function yes() return true end
  hooks = { auth_on_register = yes, auth_on_subscribe = yes, auth_on_publish = yes }`;
const BOB = { username: "bob", password: "secret", clientId: "c" };

const postgresKeys = (port: number): Record<string, string> => ({
  "vmq_diversity.postgres.host": "127.0.0.1",
  "vmq_diversity.postgres.port": String(port),
});

it("http_auth asks a web service, and leaves the decision to others when that has no answer", async () => {
  const seen: unknown[] = [];
  const server = createServer((request, response) => {
    let text = "";
    request.on("data", (part: Buffer) => {
      text += part.toString();
    });
    request.on("end", () => {
      const body = JSON.parse(text) as { username: string; password: string };
      seen.push(body);
      if (body.username === "broken") response.writeHead(500).end();
      else if (body.password !== "secret") response.writeHead(403).end();
      else response.end(JSON.stringify({ publish_acl: [{ pattern: "%u/#" }], subscribe_acl: [] }));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  atEnd(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  const port = typeof address === "object" ? address?.port : 0;
  const script = example("http_auth").replace("127.0.0.1:8080", `127.0.0.1:${port}`);
  const { connect } = await startLua({ scripts: { "http_auth.lua": script } });
  const client = await connect({ ...BOB, protocolVersion: 5 });
  await client.publishAsync("bob/x", "x", { qos: 1 });
  await expect(client.publishAsync("eve/x", "x", { qos: 1 })).rejects.toThrow("Not authorized");
  expect(await refusalOf(connect({ ...BOB, password: "wrong" }))).toBe(4);
  expect(await refusalOf(connect({ ...BOB, username: "broken" }))).toBe(5);
  expect(seen[0]).toEqual({ client_id: "c", mountpoint: "", username: "bob", password: "secret" });
});

it.skipIf(!hasPostgres() || !hasMemcached())(
  "memcached_sql_auth reads a user once from the database, and does without its cache",
  async () => {
    const [postgres, memcached] = await Promise.all([
      startPostgres("test"),
      startMemcached("test"),
    ]);
    await postgres.query(`CREATE TABLE vmq_auth_acl (mountpoint text, client_id text, username text,
      password text, publish_acl json, subscribe_acl json)`);
    await postgres.query("INSERT INTO vmq_auth_acl VALUES ('', '*', 'bob', $1, '[]', '[]')", [
      hashSync("secret", 4),
    ]);
    const { connect } = await startLua({
      scripts: { "auth.lua": example("memcached_sql_auth") },
      settings: {
        ...postgresKeys(postgres.port),
        "vmq_diversity.memcache.host": "127.0.0.1",
        "vmq_diversity.memcache.port": String(memcached.port),
      },
    });
    await connect(BOB);
    await postgres.query("DELETE FROM vmq_auth_acl");
    await connect(BOB);
    expect(await refusalOf(connect({ ...BOB, password: "wrong" }))).toBe(4);
    await memcached.stop();
    expect(await refusalOf(connect(BOB))).toBe(4);
  },
  120_000,
);

describe.skipIf(!hasPostgres())("postgres_store", () => {
  it("writes every message, bytes included", async () => {
    const postgres = await startPostgres("test");
    await postgres.query(`CREATE TABLE mqtt_messages (at timestamptz NOT NULL DEFAULT now(),
      client_id text, username text, topic text, qos int, retain boolean, payload bytea)`);
    const { connect } = await startLua({
      scripts: { "a.lua": ALLOW, "store.lua": example("postgres_store") },
      settings: postgresKeys(postgres.port),
    });
    const client = await connect(BOB);
    await client.publishAsync("a/b", Buffer.from([0, 255, 104]), { qos: 1 });
    const rows = await waitFor("the row", async () => {
      const found = await postgres.query(
        "SELECT client_id, username, topic, qos, retain, payload FROM mqtt_messages",
      );
      return found.length > 0 && found;
    });
    expect(rows).toEqual([
      {
        ...{ client_id: "c", username: "bob", topic: "a/b", qos: 1, retain: false },
        payload: Buffer.from([0, 255, 104]),
      },
    ]);
  }, 120_000);
});

describe.skipIf(!hasMongo())("mongodb_store", () => {
  it("writes every message", async () => {
    const mongo = await startMongo("test");
    const { connect } = await startLua({
      scripts: { "a.lua": ALLOW, "store.lua": example("mongodb_store") },
      settings: {
        "vmq_diversity.mongodb.host": "127.0.0.1",
        "vmq_diversity.mongodb.port": String(mongo.port),
        "vmq_diversity.mongodb.database": "mqtt",
      },
    });
    const client = await connect(BOB);
    await client.publishAsync("a/b", "hello", { qos: 1 });
    const { MongoClient } = await import("mongodb");
    const reader = new MongoClient(`mongodb://127.0.0.1:${mongo.port}/`, {
      directConnection: true,
    });
    atEnd(() => reader.close());
    const found = await waitFor("the document", async () => {
      const document = await reader
        .db("mqtt")
        .collection("mqtt_messages")
        .findOne({ topic: "a/b" });
      return document ?? undefined;
    });
    expect(found).toMatchObject({ client_id: "c", username: "bob", qos: 1, payload: "hello" });
  }, 300_000);
});

it("rate_limit refuses what is more than its limit, for that client only", async () => {
  const { connect } = await startLua({
    scripts: {
      "a_limit.lua": example("rate_limit").replace(
        "limit, window_s = 100, 10",
        "limit, window_s = 3, 60",
      ),
      "b.lua": `${ALLOW} hooks.auth_on_register_m5 = yes hooks.auth_on_publish_m5 = yes`.replace(
        "local function yes",
        "function yes",
      ),
    },
  });
  const client = await connect({ ...BOB, protocolVersion: 5 });
  for (let i = 0; i < 3; i++) await client.publishAsync("t", "x", { qos: 1 });
  await expect(client.publishAsync("t", "x", { qos: 1 })).rejects.toThrow("Not authorized");
  const other = await connect({ ...BOB, clientId: "other", protocolVersion: 5 });
  await other.publishAsync("t", "x", { qos: 1 });
});

it("rewrite_payload converts JSON below sensors/ and nothing else", async () => {
  const { connect } = await startLua({
    scripts: { "a_rewrite.lua": example("rewrite_payload"), "b.lua": ALLOW },
  });
  const client = await connect(BOB);
  await client.subscribeAsync("#");
  const received: string[] = [];
  client.on("message", (topic, payload) => received.push(`${topic} ${payload}`));
  await client.publishAsync("sensors/1", '{"fahrenheit":100.4}', { qos: 1 });
  await client.publishAsync("sensors/1", "no json", { qos: 1 });
  await client.publishAsync("else", '{"fahrenheit":1}', { qos: 1 });
  await waitFor("all messages", () => received.length === 3);
  const [first = "", ...others] = received;
  expect(JSON.parse(first.slice("sensors/1 ".length))).toEqual({ celsius: 38, client: "c" });
  expect(others).toEqual(["sensors/1 no json", 'else {"fahrenheit":1}']);
});
