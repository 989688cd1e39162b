import { hashSync } from "bcrypt";
import type { IClientOptions } from "mqtt";
import { beforeAll, describe, expect, it } from "vitest";
import { waitFor } from "../../support/broker.ts";
import { ROOT } from "../../support/build.ts";
import { type LuaBroker, refusalOf, startLua } from "../../support/lua.ts";
import {
  hasMariadb,
  hasMongo,
  hasPostgres,
  hasRedis,
  startMariadb,
  startMongo,
  startPostgres,
  startRedis,
} from "../../support/servers/databases.ts";
import type { Service } from "../../support/servers/service.ts";

/** The bundled scripts with real databases and real clients. */

interface Row {
  readonly client: string;
  readonly user: string;
  readonly password: string;
  readonly publish: readonly object[] | null;
  readonly subscribe: readonly object[] | null;
}

const ROWS: readonly Row[] = [
  {
    client: "*",
    user: "bob",
    password: "secret",
    publish: [
      { pattern: "a/+/c", max_qos: 1, max_payload_size: 10, allowed_retain: false },
      { pattern: "%u/%c/#" },
      { pattern: "in", modifiers: { topic: "out", payload: "changed" } },
    ],
    subscribe: [
      { pattern: "a/+/c" },
      { pattern: "%u/#" },
      { pattern: "out" },
      { pattern: "old", modifiers: [["a/new/c", 1]] },
    ],
  },
  {
    client: "special",
    user: "bob",
    password: "secret",
    publish: [{ pattern: "special" }],
    subscribe: null,
  },
  { client: "*", user: "nothing", password: "secret", publish: null, subscribe: null },
];

const SQL_TABLE = (json: string): string => `CREATE TABLE vmq_auth_acl (
  mountpoint VARCHAR(10) NOT NULL, client_id VARCHAR(128) NOT NULL, username VARCHAR(128) NOT NULL,
  password VARCHAR(128), publish_acl ${json}, subscribe_acl ${json},
  CONSTRAINT vmq_auth_acl_primary_key PRIMARY KEY (mountpoint, client_id, username))`;

const aclText = (acl: readonly object[] | null): string =>
  acl === null ? "NULL" : `'${JSON.stringify(acl)}'`;
const insert = (row: Row, password: string): string =>
  `INSERT INTO vmq_auth_acl VALUES ('', '${row.client}', '${row.user}', ${password}, ${aclText(row.publish)}, ${aclText(row.subscribe)})`;

interface Backend {
  readonly name: string;
  readonly method: string;
  readonly has: () => boolean;
  /** Starts the server with the rows in it. */
  start(): Promise<Service>;
  readonly settings: Readonly<Record<string, string>>;
}

const bcryptHash = hashSync("secret", 4).replace(/^\$2b/, "$2a");
const document = (row: Row): object => ({
  passhash: bcryptHash,
  publish_acl: row.publish ?? [],
  subscribe_acl: row.subscribe ?? [],
});

async function postgresWith(password: (row: Row) => string): Promise<Service> {
  const server = await startPostgres();
  await server.query("CREATE EXTENSION pgcrypto");
  await server.query(SQL_TABLE("json"));
  for (const row of ROWS) await server.query(insert(row, password(row)));
  return server;
}

async function mariadbWith(hash: (password: string) => string): Promise<Service> {
  const server = await startMariadb();
  await server.query(SQL_TABLE("TEXT"));
  for (const row of ROWS) await server.query(insert(row, hash(row.password)));
  return server;
}

const sqlAuth = { user: "root", password: "password", database: "vernemq_db", host: "127.0.0.1" };
const keys = (db: string, values: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(
    Object.entries(values).map(([key, value]) => [`vmq_diversity.${db}.${key}`, value]),
  );

const BACKENDS: readonly Backend[] = [
  {
    name: "postgres",
    has: hasPostgres,
    start: () => postgresWith((row) => `crypt('${row.password}', gen_salt('bf', 4))`),
    method: "crypt",
    settings: keys("postgres", { ...sqlAuth, password_hash_method: "crypt" }),
  },
  {
    name: "postgres",
    has: hasPostgres,
    start: () => postgresWith(() => `'${bcryptHash}'`),
    method: "bcrypt",
    settings: keys("postgres", { ...sqlAuth, password_hash_method: "bcrypt" }),
  },
  {
    // It speaks PostgreSQL's protocol and takes this statement alike.
    name: "cockroachdb",
    has: hasPostgres,
    start: () => postgresWith(() => `'${bcryptHash}'`),
    method: "bcrypt",
    settings: keys("cockroachdb", { ...sqlAuth, password_hash_method: "bcrypt", ssl: "off" }),
  },
  ...(["password", "md5", "sha1", "sha256"] as const).map(
    (method): Backend => ({
      name: method === "password" ? "mysql" : "mysql2",
      method,
      has: hasMariadb,
      start: () =>
        mariadbWith((password) =>
          method === "sha256" ? `SHA2('${password}', 256)` : `${method}('${password}')`,
        ),
      settings: keys(method === "password" ? "mysql" : "mysql2", {
        ...sqlAuth,
        password_hash_method: method,
      }),
    }),
  ),
  {
    name: "mongodb",
    method: "bcrypt",
    has: hasMongo,
    start: async () => {
      const server = await startMongo();
      const { MongoClient } = await import("mongodb");
      const client = new MongoClient(`mongodb://127.0.0.1:${server.port}/`, {
        directConnection: true,
      });
      await client
        .db("auth")
        .collection("vmq_acl_auth")
        .insertMany(
          ROWS.map((row) => ({
            mountpoint: "",
            client_id: row.client,
            username: row.user,
            ...document(row),
            // This server stores no lists inside lists.
            subscribe_acl: row.subscribe?.filter((rule) => !Array.isArray(Object.values(rule)[1])),
          })),
        );
      await client.close();
      return server;
    },
    settings: keys("mongodb", { host: "127.0.0.1", database: "auth" }),
  },
  {
    name: "redis",
    method: "bcrypt",
    has: hasRedis,
    start: async () => {
      const server = await startRedis();
      const { Redis } = await import("ioredis");
      const client = new Redis(server.port, "127.0.0.1");
      for (const row of ROWS) {
        await client.set(JSON.stringify(["", row.client, row.user]), JSON.stringify(document(row)));
      }
      client.disconnect();
      return server;
    },
    settings: keys("redis", { host: "127.0.0.1" }),
  },
];

for (const { name, method, has, start, settings } of BACKENDS) {
  describe.skipIf(!has())(`auth/${name}.lua with ${method}`, () => {
    let server: Service;
    let broker: LuaBroker;
    const bob = (more: IClientOptions = {}): IClientOptions => ({
      username: "bob",
      password: "secret",
      clientId: "c1",
      ...more,
    });
    beforeAll(async () => {
      server = await start();
      broker = await startLua({
        scope: "file",
        settings: {
          [`vmq_diversity.auth_${name}.enabled`]: "on",
          [`vmq_diversity.auth_${name}.script`]: `${ROOT}/lua/auth/${name}.lua`,
          ...settings,
          [`vmq_diversity.${name}.port`]: String(server.port),
        },
      });
    }, 300_000);

    it("[check 43] accepts the right password, refuses a wrong one, an unknown user and none", async () => {
      await broker.connect(bob());
      await broker.connect(bob({ clientId: "c5", protocolVersion: 5 }));
      expect(await refusalOf(broker.connect(bob({ password: "wrong" })))).toBe(4);
      expect(await refusalOf(broker.connect(bob({ password: "wrong", protocolVersion: 5 })))).toBe(
        0x86,
      );
      expect(await refusalOf(broker.connect(bob({ username: "eve" })))).toBe(4);
      expect(await refusalOf(broker.connect({ clientId: "c1" }))).toBe(4);
      expect(await refusalOf(broker.connect(bob({ username: "x' OR '1'='1" })))).toBe(4);
    });

    it("[check 41] [check 36] obeys the ACLs: wildcards, substitution, limits, and whole packets only", async () => {
      const client = await broker.connect(bob({ protocolVersion: 5 }));
      await client.subscribeAsync(["a/b/c", "bob/#", "out"], { qos: 1 });
      await expect(client.subscribeAsync("a/#")).rejects.toThrow();
      await expect(client.subscribeAsync(["a/b/c", "elsewhere"])).rejects.toThrow();
      const publish = (topic: string, payload = "x", options: object = {}): Promise<unknown> =>
        client.publishAsync(topic, payload, { qos: 1, ...options });
      await publish("a/x/c");
      await publish("bob/c1/deep/er");
      for (const refused of [
        publish("bob/other/deep"),
        publish("a/x/c", "x", { qos: 2 }),
        publish("a/x/c", "longer than ten"),
        publish("a/x/c", "x", { retain: true }),
        publish("nowhere"),
      ]) {
        await expect(refused).rejects.toThrow("Not authorized");
      }
    });

    it("applies modifiers of publish and subscribe ACLs", async () => {
      const client = await broker.connect(bob({ clientId: "modified" }));
      const hasLists = name !== "mongodb";
      await client.subscribeAsync(hasLists ? ["out", "old"] : ["out"], { qos: 1 });
      const topics = broker.broker
        .sessions()
        .find((session) => session.client_id === "modified")
        ?.subscriptions.map(({ topic }) => topic);
      expect(topics?.sort()).toEqual(hasLists ? ["a/new/c", "out"] : ["out"]);
      const received = new Promise((resolve) =>
        client.once("message", (topic, payload) => resolve([topic, payload.toString()])),
      );
      await client.publishAsync("in", "original", { qos: 1 });
      expect(await received).toEqual(["out", "changed"]);
    });

    it("[check 44] prefers the row of the very client; without ACLs nothing is allowed", async () => {
      const special = await broker.connect(bob({ clientId: "special", protocolVersion: 5 }));
      await special.publishAsync("special", "x", { qos: 1 });
      await expect(special.publishAsync("a/x/c", "x", { qos: 1 })).rejects.toThrow(
        "Not authorized",
      );
      await expect(special.subscribeAsync("a/b/c")).rejects.toThrow();
      const nothing = await broker.connect(bob({ username: "nothing", protocolVersion: 5 }));
      await expect(nothing.publishAsync("a/x/c", "x", { qos: 1 })).rejects.toThrow(
        "Not authorized",
      );
    });

    it("[check 35] answers connected clients from the cache, [check 37] as long as they are there", async () => {
      const shown = async (): Promise<string> =>
        (await broker.script("cache show", "client-id=cached")).stdout;
      const client = await broker.connect(bob({ clientId: "cached" }));
      expect(await shown()).toContain("bob/cached/#");
      const before = broker.broker.metrics();
      await client.publishAsync("bob/cached/x", "x", { qos: 1 });
      const after = broker.broker.metrics();
      expect(after.vmq_diversity_cache_hits).toBe(Number(before.vmq_diversity_cache_hits) + 1);
      expect(after.vmq_diversity_calls).toBe(before.vmq_diversity_calls);
      // A takeover keeps the entry of the new session.
      const second = await broker.connect(bob({ clientId: "cached" }));
      await second.publishAsync("bob/cached/x", "x", { qos: 1 });
      expect(await shown()).toContain("bob/cached/#");
      await second.endAsync();
      await waitFor("the entry is gone", async () => !(await shown()).includes("bob/cached/#"));
    });

    it("has numbers of its pool", async () => {
      const number = (what: string): number =>
        broker.broker.metrics()[`vmq_diversity_${name}_pool_${what}`] ?? 0;
      const told = ["calls", "open", "elapsed_ms"];
      await waitFor("the pool has told its numbers", () => told.every((what) => number(what) > 0));
      expect(number("size")).toBeGreaterThanOrEqual(number("open"));
    });

    it("[check 42] never takes an outage for a wrong password, and recovers by itself", async () => {
      const online = await broker.connect(bob({ clientId: "online" }));
      await server.stop();
      const code = await refusalOf(broker.connect(bob({ clientId: "late" })));
      expect([3, 5]).toContain(code);
      const late = broker.connect(bob({ clientId: "late", protocolVersion: 5 }));
      expect(await refusalOf(late)).toBe(0x88);
      await online.publishAsync("a/x/c", "x", { qos: 1 });
      await server.start();
      await waitFor(
        "the right password is right again",
        () =>
          broker.connect(bob({ clientId: "late" })).then(
            () => true,
            () => false,
          ),
        30_000,
      );
      expect(await refusalOf(broker.connect(bob({ password: "wrong", clientId: "w" })))).toBe(4);
    }, 60_000);

    it("decides for many clients at once without mixing them up", async () => {
      const results = await Promise.all(
        Array.from({ length: 60 }, (_, i) => {
          const isRight = i % 2 === 0;
          const options = bob({ clientId: `m${i}`, password: isRight ? "secret" : "wrong" });
          return broker.connect(options).then(
            () => "accepted",
            (error: { code: number }) => error.code,
          );
        }),
      );
      expect(results).toEqual(Array.from({ length: 60 }, (_, i) => (i % 2 === 0 ? "accepted" : 4)));
    });
  });
}
