import type {
  Db,
  Document,
  FindCursor,
  MongoClient,
  MongoClientOptions,
  ReadPreferenceMode,
} from "mongodb";
import {
  type LibraryFactory,
  type LuaCall,
  LuaError,
  LuaFloat,
  type LuaResult,
  type LuaTable,
  type LuaValue,
  tableOf,
  textOf,
} from "../worker/library.ts";
import { type Bson, fromBson, toBson } from "./mongo-values.ts";
import { Pools, reasonOf } from "./pool.ts";
import { PoolConfig } from "./pool-config.ts";

const CONNECT_MS = 3_000;
/** Longest wait for a free connection, VerneMQ's. */
const WAIT_MS = 5_000;
/** Cursors that scripts have not closed; the oldest goes. */
const CURSORS_MAX = 1_000;
const READ_PREFERENCES: readonly ReadPreferenceMode[] = [
  "primary",
  "primaryPreferred",
  "secondary",
  "secondaryPreferred",
  "nearest",
];

/** The driver has a pool of its own: it finds servers, opens connections and retries. */
class MongoPool {
  private client: Promise<{ client: MongoClient; bson: Bson }> | undefined;
  private readonly url: string;
  private readonly options: MongoClientOptions;
  private readonly database: string | undefined;
  readonly numbers = { calls: 0, errors: 0, busy: 0, waiting: 0, open: 0, totalMs: 0 };
  readonly id: string;
  lastError: string | undefined;
  private isDown = false;
  private readonly log: (level: "info" | "error", message: string, cause?: string) => void;

  constructor(options: {
    id: string;
    url: string;
    client: MongoClientOptions;
    database: string | undefined;
    log: MongoPool["log"];
  }) {
    this.id = options.id;
    this.url = options.url;
    this.options = options.client;
    this.database = options.database;
    this.log = options.log;
  }

  private connect(): Promise<{ client: MongoClient; bson: Bson }> {
    this.client ??= import("mongodb").then((bson) => {
      const client = new bson.MongoClient(this.url, this.options);
      client.on("connectionCreated", () => this.numbers.open++);
      client.on("connectionClosed", () => this.numbers.open--);
      client.on("connectionCheckOutStarted", () => this.numbers.waiting++);
      client.on("connectionCheckedOut", () => this.numbers.waiting--);
      client.on("connectionCheckOutFailed", () => this.numbers.waiting--);
      return { client, bson };
    });
    return this.client;
  }

  async use<T>(call: LuaCall, work: (db: Db, bson: Bson) => Promise<T>): Promise<T> {
    const { numbers } = this;
    const startMs = performance.now();
    numbers.calls++;
    numbers.busy++;
    let timer: NodeJS.Timeout | undefined;
    try {
      const { client, bson } = await this.connect();
      const late = new Promise<never>((_, reject) => {
        const leftMs = Math.max(1, call.deadlineMs - performance.now());
        timer = setTimeout(() => reject(new Error("no answer in time")), leftMs);
      });
      const answer = await Promise.race([work(client.db(this.database), bson), late]);
      if (this.isDown) this.log("info", `mongodb ${this.id} is available again`);
      this.isDown = false;
      return answer;
    } catch (error) {
      numbers.errors++;
      this.lastError = reasonOf(error);
      if (error instanceof LuaError) throw error;
      if (isRefusal(error)) throw new LuaError(`mongodb ${this.id}: ${this.lastError}`);
      if (!this.isDown) this.log("error", `mongodb ${this.id} is unavailable`, this.lastError);
      this.isDown = true;
      throw new LuaError(`unavailable: mongodb ${this.id}: ${this.lastError}`);
    } finally {
      clearTimeout(timer);
      numbers.busy--;
      numbers.totalMs += performance.now() - startMs;
    }
  }
}

/** The server understood and said no. */
function isRefusal(error: unknown): boolean {
  const name = error instanceof Error ? error.name : "";
  return name === "MongoServerError" || name === "MongoBulkWriteError" || name === "BSONError";
}

/** MongoDB (lua.md, section 4.2). */
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
    ensure_pool: (_, given) => {
      const made = readConfig(new PoolConfig("mongodb", given, host));
      return pools.ensure(made.id, () => {
        const pool = new MongoPool({
          ...made,
          log: (level, message, cause) =>
            host.log(level, message, cause === undefined ? {} : { cause }),
        });
        host.pool(() => ({
          kind: "mongodb",
          id: made.id,
          size: made.size,
          ...pool.numbers,
          lastError: pool.lastError,
        }));
        return pool;
      });
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

function readConfig(config: PoolConfig): {
  id: string;
  size: number;
  url: string;
  client: MongoClientOptions;
  database: string | undefined;
} {
  const { id, size } = config.idAndSize("pool_mongodb", "pool_size");
  const server = config.text("host", "host") ?? "localhost";
  const srv = config.text("srv", "srv");
  const port = config.port();
  const username = config.text("login", "login");
  const password = config.text("password", "password");
  const authSource = config.text("auth_source", "auth_source") ?? "admin";
  const writes = config.choice("w_mode", "w_mode", ["safe", "unsafe"]);
  const database = config.text("database", "database");
  const tls = config.tls(srv ?? server);
  config.ignore("r_mode", "max_overflow");
  config.end();
  const isIpv6 = server.includes(":");
  return {
    id,
    size,
    database,
    url:
      srv === undefined
        ? `mongodb://${isIpv6 ? `[${server}]` : server}:${port}/`
        : `mongodb+srv://${srv}/`,
    client: {
      maxPoolSize: size,
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
