import { createHash } from "node:crypto";
import type { Client, Connection } from "pg";
import type { LuaResult } from "../worker/library.ts";
import type { Parser } from "./postgres-types.ts";
import type { parametersOf } from "./sql-values.ts";

/** Statements that stay prepared on each connection; further ones are sent as text. */
const PREPARED_MAX = 200;
/**
 * The server does not know a prepared statement as this connection does: a table was altered, or a proxy gave
 * it another server connection (PostgreSQL, appendix A: invalid and duplicate statement name, changed plan).
 */
const STALE_STATES: readonly unknown[] = ["26000", "42P05", "0A000"];

export type Parameters = ReturnType<typeof parametersOf>;
type Row = ReadonlyMap<string, LuaResult>;
/** How values of a type, by its number, are read. */
export type ParserOf = (type: number) => Parser;

/** Columns of a result, with how their values are read. */
interface Columns {
  readonly names: readonly string[];
  readonly parsers: readonly Parser[];
}

/** What the driver has beside its declared types. */
interface Inner {
  readonly processID: number;
  readonly secretKey: number;
  readonly connection: DriverConnection;
}
interface DriverConnection extends Connection {
  readonly parsedStatements: Record<string, string>;
}

/** Names of statements, the same on all connections of a pool. */
export class StatementNames {
  private readonly names = new Map<string, string>();

  /** Undefined when there are too many already. */
  of(text: string): string | undefined {
    const known = this.names.get(text);
    if (known !== undefined || this.names.size >= PREPARED_MAX) return known;
    const name = createHash("sha1").update(text).digest("hex");
    this.names.set(text, name);
    return name;
  }
}

/** One connection, which prepares each statement once and asks for its columns once. */
export class PostgresSession {
  private readonly client: Client;
  private readonly parserOf: ParserOf;
  private readonly columns = new Map<string, Columns | undefined>();

  constructor(client: Client, parserOf: ParserOf) {
    this.client = client;
    this.parserOf = parserOf;
  }

  get connection(): DriverConnection {
    return (this.client as unknown as Inner).connection;
  }

  /** What a cancel request names (PostgreSQL, 55.2.8 Canceling Requests in Progress). */
  get key(): Pick<Inner, "processID" | "secretKey"> {
    return this.client as unknown as Inner;
  }

  /** Rows; true, or false when no row was changed. Without a name the statement is not kept. */
  async run(text: string, values: Parameters, name: string | undefined): Promise<LuaResult> {
    if (name === undefined) return this.send("", text, values);
    try {
      return await this.send(name, text, values);
    } catch (error) {
      if (!STALE_STATES.includes((error as { code?: unknown }).code)) throw error;
      delete this.connection.parsedStatements[name];
      await this.client.query(`DEALLOCATE "${name}"`).catch(() => undefined);
      return this.send("", text, values);
    }
  }

  private send(name: string, text: string, values: Parameters): Promise<LuaResult> {
    return new Promise((resolve, reject) => {
      const { columns, parserOf } = this;
      this.client.query(new Statement(name, text, values, { columns, parserOf, resolve, reject }));
    });
  }
}

interface StatementParts {
  /** Of prepared statements, by name; undefined for one that gives no rows. */
  readonly columns: Map<string, Columns | undefined>;
  readonly parserOf: ParserOf;
  resolve(result: LuaResult): void;
  reject(error: Error): void;
}

interface Message {
  readonly text: string;
  readonly fields: readonly unknown[];
}

/**
 * A query as the driver takes them from elsewhere (its `Submittable`). The driver's own asks for the columns of
 * each result anew, which costs both sides more than the rows of a login.
 */
class Statement {
  readonly name: string;
  readonly text: string;
  private readonly values: Parameters;
  private readonly parts: StatementParts;
  private columns: Columns | undefined;
  private readonly rows: Row[] = [];
  private command = "";
  private fault: Error | undefined;

  constructor(name: string, text: string, values: Parameters, parts: StatementParts) {
    this.name = name;
    this.text = text;
    this.values = values;
    this.parts = parts;
  }

  submit(connection: Connection): void {
    const { stream, parsedStatements } = connection as DriverConnection;
    const { name, text, parts } = this;
    const isPrepared = name !== "" && parsedStatements[name] !== undefined;
    const isKnown = isPrepared && parts.columns.has(name);
    if (isKnown) this.columns = parts.columns.get(name);
    stream.cork();
    try {
      if (!isPrepared) connection.parse({ name, text, types: [] }, true);
      const values = this.values.map(asSent);
      connection.bind({ portal: "", statement: name, values }, true);
      if (!isKnown) connection.describe({ type: "P", name: "" }, true);
      connection.execute(null, true);
      connection.sync();
    } finally {
      stream.uncork();
    }
  }

  handleRowDescription({ fields }: Message): void {
    const described = fields as readonly { readonly name: string; readonly dataTypeID: number }[];
    this.columns = {
      names: described.map(({ name }) => name),
      parsers: described.map(({ dataTypeID }) => this.parts.parserOf(dataTypeID)),
    };
  }

  handleDataRow({ fields }: Message): void {
    const { names = [], parsers = [] } = this.columns ?? {};
    const row = new Map<string, LuaResult>();
    try {
      for (let i = 0; i < names.length; i++) {
        const text = fields[i] as string | null;
        if (text !== null) row.set(names[i] as string, (parsers[i] as Parser)(text));
      }
    } catch (error) {
      this.fault ??= error as Error;
    }
    this.rows.push(row);
  }

  handleCommandComplete({ text }: Message): void {
    this.command = text;
  }

  handleReadyForQuery(): void {
    const { name, parts, columns, fault } = this;
    if (name !== "") parts.columns.set(name, columns);
    if (fault === undefined) parts.resolve(this.result());
    else parts.reject(fault);
  }

  private result(): LuaResult {
    if (this.columns !== undefined && this.columns.names.length > 0) return this.rows;
    const [, changed] = /^(?:INSERT \d+|UPDATE|DELETE) (\d+)$/.exec(this.command) ?? [];
    return changed !== "0";
  }

  handleError(error: Error): void {
    this.parts.reject(error);
  }

  handleEmptyQuery(): void {
    // An empty statement is done when the server is ready again.
  }

  handlePortalSuspended(): void {
    // Only where a number of rows is asked for.
  }

  handleCopyInResponse(connection: Connection & { sendCopyFail(reason: string): void }): void {
    connection.sendCopyFail("COPY FROM STDIN is not possible here");
    // The one behind the statement was taken for data.
    connection.sync();
  }

  handleCopyData(): void {
    // Nobody can take it: COPY TO STDOUT gives true.
  }
}

function asSent(value: Parameters[number]): string | Buffer | null {
  return typeof value === "number" || typeof value === "boolean" ? String(value) : value;
}
