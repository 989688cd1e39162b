import type { Db, MongoClient, MongoClientOptions } from "mongodb";
import { type LibraryHost, type LuaCall, LuaError, type PoolStats } from "../worker/library.ts";
import type { Bson } from "./mongo-values.ts";
import { type PoolSize, reasonOf } from "./pool.ts";

/** Calls of one pool that may run or wait for a connection. */
const CALLS_MAX = 10_000;

export interface MongoServer extends PoolSize {
  readonly url: string;
  readonly client: MongoClientOptions;
  readonly database: string | undefined;
}

/**
 * Connections to MongoDB. The driver has a pool of its own: it finds servers, watches them, opens connections and
 * retries. Here are deadlines, numbers, and an answer at once while no server can be reached.
 */
export class MongoPool {
  private readonly host: LibraryHost;
  private readonly server: MongoServer;
  private made: Promise<{ client: MongoClient; bson: Bson }> | undefined;
  /** What the driver's last look at each server said. */
  private readonly reachable = new Map<string, boolean>();
  private downReason: string | undefined;
  /** Ends each call that runs. */
  private readonly running = new Set<(reason: string) => void>();
  private readonly connections = { open: 0, busy: 0, waiting: 0 };
  private readonly counts = { calls: 0, errors: 0, totalMs: 0 };
  private lastError: string | undefined;

  constructor(host: LibraryHost, server: MongoServer) {
    this.host = host;
    this.server = server;
    host.pool(() => this.stats());
  }

  private stats(): PoolStats {
    const { id, size, overflow } = this.server;
    const { connections, counts, lastError } = this;
    return { kind: "mongodb", id, size: size + overflow, ...connections, ...counts, lastError };
  }

  private client(): Promise<{ client: MongoClient; bson: Bson }> {
    this.made ??= import("mongodb").then((bson) => {
      const client = new bson.MongoClient(this.server.url, this.server.client);
      this.follow(client);
      return { client, bson };
    });
    return this.made;
  }

  private follow(client: MongoClient): void {
    const { connections } = this;
    client.on("connectionCreated", () => connections.open++);
    client.on("connectionClosed", () => connections.open--);
    client.on("connectionCheckOutStarted", () => connections.waiting++);
    client.on("connectionCheckOutFailed", () => connections.waiting--);
    client.on("connectionCheckedOut", () => {
      connections.waiting--;
      connections.busy++;
    });
    client.on("connectionCheckedIn", () => connections.busy--);
    client.on("serverHeartbeatSucceeded", ({ connectionId }) => {
      this.reachable.set(serverOf(connectionId), true);
      if (this.downReason !== undefined) this.log("info", "is available again");
      this.downReason = undefined;
    });
    client.on("serverHeartbeatFailed", ({ connectionId, failure }) => {
      this.reachable.set(serverOf(connectionId), false);
      if ([...this.reachable.values()].includes(true)) return;
      this.isDown(reasonOf(failure));
    });
    client.on("serverClosed", ({ address }) => this.reachable.delete(address));
  }

  private isDown(reason: string): void {
    if (this.downReason === undefined) this.log("error", "is unavailable", reason);
    this.downReason = reason;
    for (const end of this.running) end(reason);
  }

  private log(level: "info" | "error", message: string, cause?: string): void {
    this.host.log(
      level,
      `mongodb ${this.server.id} ${message}`,
      cause === undefined ? {} : { cause },
    );
  }

  private unavailable(reason: string): LuaError {
    return new LuaError(`unavailable: mongodb ${this.server.id}: ${reason}`);
  }

  /** Does work with the database; ends with the call, whatever the server does. */
  async use<T>(call: LuaCall, work: (db: Db, bson: Bson) => Promise<T>): Promise<T> {
    const startMs = performance.now();
    this.counts.calls++;
    try {
      if (this.downReason !== undefined) throw this.unavailable(this.downReason);
      if (this.running.size >= CALLS_MAX) throw this.unavailable(`${CALLS_MAX} calls wait`);
      const { client, bson } = await this.client();
      return await this.untilDeadline(call, work(client.db(this.server.database), bson));
    } catch (error) {
      this.counts.errors++;
      this.lastError = reasonOf(error);
      if (error instanceof LuaError) throw error;
      if (!isRefusal(error)) throw this.unavailable(this.lastError);
      throw new LuaError(`mongodb ${this.server.id}: ${this.lastError}`);
    } finally {
      this.counts.totalMs += performance.now() - startMs;
    }
  }

  /** The driver keeps the connection until the server has answered; nobody waits for that. */
  private untilDeadline<T>(call: LuaCall, work: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const end = (reason: string): void => {
        done();
        reject(this.unavailable(reason));
      };
      const leftMs = Math.max(1, call.deadlineMs - performance.now());
      const timer = setTimeout(() => end("no answer in time"), leftMs);
      const takeBack = call.onCancel(() => end("the call was given up"));
      const done = (): void => {
        clearTimeout(timer);
        takeBack();
        this.running.delete(end);
      };
      this.running.add(end);
      work.then(resolve, reject).finally(done);
    });
  }
}

/** `127.0.0.1:27017 <monitor>` without the remark. */
function serverOf(connectionId: string): string {
  return connectionId.split(" ")[0] ?? connectionId;
}

/** The server understood and said no, or the values cannot be stored. */
function isRefusal(error: unknown): boolean {
  const name = error instanceof Error ? error.name : "";
  return ["MongoServerError", "MongoBulkWriteError", "BSONError"].includes(name);
}
