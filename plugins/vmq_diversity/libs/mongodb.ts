import type { Document, FindCursor, MongoClientOptions, ReadPreferenceMode } from "mongodb";
import {
  type LibraryFactory,
  LuaError,
  LuaFloat,
  type LuaResult,
  type LuaTable,
  type LuaValue,
  tableOf,
  textOf,
} from "../worker/library.ts";
import { MongoPool, type MongoServer } from "./mongo-pool.ts";
import { type Bson, fromBson, toBson } from "./mongo-values.ts";
import { Pools } from "./pool.ts";
import { PoolConfig } from "./pool-config.ts";

const CONNECT_MS = 3_000;
/** Longest wait for a free connection, VerneMQ's. */
const WAIT_MS = 5_000;
const IDLE_MS = 60_000;
const HEARTBEAT_MS = 1_000;
const SOCKET_MS = 60_000;
/** Cursors that scripts have not closed; the oldest goes. */
const CURSORS_MAX = 1_000;
const READ_PREFERENCES: readonly ReadPreferenceMode[] = [
  "primary",
  "primaryPreferred",
  "secondary",
  "secondaryPreferred",
  "nearest",
];

/** `mongodb.*` */
export const mongodb: LibraryFactory = (host) => {
  const pools = new Pools<MongoPool>("mongodb");
  const readPreference =
    READ_PREFERENCES.find(
      (mode) => mode === host.settings.get("vmq_diversity.mongodb.read_preference"),
    ) ?? "primaryPreferred";
  const cursors = new Map<string, { pool: MongoPool; cursor: FindCursor<Document>; bson: Bson }>();
  let lastCursor = 0;

  const poolOf = (value: LuaValue, name: string): MongoPool =>
    pools.get(textOf(value, `mongodb.${name}: pool`));
  const collectionOf = (value: LuaValue, name: string): string =>
    textOf(value, `mongodb.${name}: collection`);
  const documentOf = (bson: Bson, value: LuaValue, name: string): Document =>
    toBson(bson, tableOf(value, name)) as Document;
  const nonEmpty = (value: LuaValue, name: string): LuaTable => {
    const table = tableOf(value, name);
    if (table.array.length + table.hash.size > 0) return table;
    throw new LuaError(`${name} must not be empty`);
  };
  const projectionOf = (args: LuaValue): { projection?: Document } => {
    if (args === undefined) return {};
    const projector = tableOf(args, "mongodb: arguments").hash.get("projector");
    if (projector === undefined) return {};
    const projection: Document = {};
    for (const [field, value] of tableOf(projector, "mongodb: projector").hash) {
      projection[String(field)] = value === true || value === 1 ? 1 : 0;
    }
    return { projection };
  };
  const cursorOf = (value: LuaValue, name: string) => {
    const id = textOf(value, `mongodb.${name}: cursor`);
    const found = cursors.get(id);
    if (found === undefined) throw new LuaError(`mongodb.${name}: there is no cursor ${id}`);
    return { id, ...found };
  };
  const closeCursor = (id: string): void => {
    const found = cursors.get(id);
    cursors.delete(id);
    found?.cursor.close().catch(() => undefined);
  };

  return {
    ensure_pool: (call, given) => {
      const config = new PoolConfig("mongodb", given, host, call);
      const server = serverOf(config);
      return pools.ensure(server.id, config, () => new MongoPool(host, server));
    },
    insert: (call, pool, collection, given) =>
      poolOf(pool, "insert").use(call, async (db, bson) => {
        const table = nonEmpty(given, "mongodb.insert: document");
        const isList = table.array.length > 0;
        const documents = isList
          ? table.array.map((one, at) =>
              documentOf(bson, one, `mongodb.insert: document ${at + 1}`),
            )
          : [documentOf(bson, table, "mongodb.insert: document")];
        await db.collection(collectionOf(collection, "insert")).insertMany(documents);
        const inserted = documents.map((document) => fromBson(bson, document));
        return isList ? inserted : inserted[0];
      }),
    update: (call, pool, collection, selector, given) =>
      poolOf(pool, "update").use(call, async (db, bson) => {
        const filter = documentOf(bson, nonEmpty(selector, "mongodb.update: selector"), "selector");
        const change = documentOf(bson, nonEmpty(given, "mongodb.update: document"), "document");
        await db.collection(collectionOf(collection, "update")).updateOne(filter, { $set: change });
        return true;
      }),
    delete: (call, pool, collection, selector) =>
      poolOf(pool, "delete").use(call, async (db, bson) => {
        const filter = documentOf(bson, selector, "mongodb.delete: selector");
        await db.collection(collectionOf(collection, "delete")).deleteMany(filter);
        return true;
      }),
    find: (call, poolId, collection, selector, args) => {
      const pool = poolOf(poolId, "find");
      return pool.use(call, async (db, bson) => {
        const filter = documentOf(bson, selector, "mongodb.find: selector");
        const name = collectionOf(collection, "find");
        const cursor = db.collection(name).find(filter, projectionOf(args));
        const id = `mongo-cursor-${++lastCursor}`;
        cursors.set(id, { pool, cursor, bson });
        if (cursors.size > CURSORS_MAX) closeCursor(cursors.keys().next().value ?? "");
        return id;
      });
    },
    find_one: (call, pool, collection, selector, args) =>
      poolOf(pool, "find_one").use(call, async (db, bson) => {
        const filter = documentOf(bson, selector, "mongodb.find_one: selector");
        const options = { ...projectionOf(args), readPreference };
        const name = collectionOf(collection, "find_one");
        const found = await db.collection(name).findOne(filter, options);
        return found === null ? false : fromBson(bson, found);
      }),
    next: (call, given) => {
      const { pool, cursor, bson } = cursorOf(given, "next");
      return pool.use(call, async () => {
        const found = await cursor.next();
        return found === null ? false : fromBson(bson, found);
      });
    },
    take: (call, given, count) => {
      const { pool, cursor, bson } = cursorOf(given, "take");
      const most = count instanceof LuaFloat ? count.value : count;
      if (typeof most !== "number" || most < 1) {
        throw new LuaError("mongodb.take: the number of documents must be above 0");
      }
      return pool.use(call, async () => {
        const taken: LuaResult[] = [];
        while (taken.length < most) {
          const found = await cursor.next();
          if (found === null) break;
          taken.push(fromBson(bson, found));
        }
        return taken.length === 0 ? false : taken;
      });
    },
    close: (_, given) => {
      closeCursor(textOf(given, "mongodb.close: cursor"));
      return true;
    },
  };
};

function serverOf(config: PoolConfig): MongoServer {
  const size = config.idAndSize("pool_mongodb", "pool_size");
  const server = config.text("host", "host") ?? "localhost";
  const srv = config.text("srv", "srv");
  const port = config.port();
  const username = config.text("login", "login");
  const password = config.text("password", "password");
  const authSource = config.text("auth_source", "auth_source") ?? "admin";
  const writes = config.choice("w_mode", "w_mode", ["safe", "unsafe"]);
  const database = config.text("database", "database");
  const tls = config.tls(srv ?? server);
  config.ignore("r_mode");
  config.end();
  const isIpv6 = server.includes(":");
  return {
    ...size,
    database,
    url:
      srv === undefined
        ? `mongodb://${isIpv6 ? `[${server}]` : server}:${port}/`
        : `mongodb+srv://${srv}/`,
    client: {
      maxPoolSize: size.size + size.overflow,
      maxIdleTimeMS: IDLE_MS,
      // A server that is down is looked at so often, one that answers tells changes by itself.
      heartbeatFrequencyMS: HEARTBEAT_MS,
      // A server that does not answer keeps no connection for ever; calls end with their deadline.
      socketTimeoutMS: SOCKET_MS,
      serverSelectionTimeoutMS: CONNECT_MS,
      connectTimeoutMS: CONNECT_MS,
      waitQueueTimeoutMS: WAIT_MS,
      writeConcern: { w: writes === "safe" ? 1 : 0 },
      // One server by name is talked to as it is; members of a set are found by srv.
      directConnection: srv === undefined,
      ...(username === undefined
        ? {}
        : { auth: { username, ...(password === undefined ? {} : { password }) }, authSource }),
      ...(tls === undefined
        ? {}
        : { tls: true, ...(tls as Pick<MongoClientOptions, "ca" | "cert" | "key">) }),
    },
  };
}
