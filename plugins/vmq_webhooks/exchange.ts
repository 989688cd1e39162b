import { Client, type Dispatcher } from "undici";

/** Longest answer; a payload of 8 MB rewritten in base64 still fits. */
const ANSWER_BYTES_MAX = 16 * 1024 * 1024;

/** Why there is no answer. */
export type FailureKind =
  | "timeout"
  | "cancelled"
  | "connection"
  | "too_large"
  /** The breaker is open. */
  | "suspended"
  /** Too many calls wait. */
  | "overloaded";

export interface Failure {
  readonly kind: FailureKind;
  readonly reason: string;
}

/** What came back. */
export interface Response {
  readonly status: number;
  readonly cacheControl: string | undefined;
  readonly body: string;
}

export type Outcome = { readonly response: Response } | { readonly failure: Failure };

/** What goes out. */
export interface RequestParts {
  readonly headers: string[];
  readonly body: string;
}

/** One call of an endpoint. */
export interface Call {
  readonly path: string;
  /** Called when it goes out: what waits for a connection then is small, and a signature is fresh. */
  readonly request: () => RequestParts;
  /** From now until the last byte of the answer. */
  readonly timeoutMs: number;
  /** To open a connection, if one is needed. */
  readonly connectTimeoutMs: number;
  /** Asked again, once, when a connection that served before breaks without an answer. */
  readonly mayRetry: boolean;
  /** It goes out, for the second time if `isRetry`. */
  readonly onSend: (bytes: number, isRetry: boolean) => void;
  readonly done: (outcome: Outcome) => void;
}

/** A connection that knows whether it has served before. */
export class CountingClient extends Client {
  served = 0;

  constructor(origin: URL, options: Client.Options) {
    super(origin, options);
    this.on("disconnect", () => {
      this.served = 0;
    });
  }

  override dispatch(
    options: Dispatcher.DispatchOptions & { exchange?: Exchange },
    handler: Dispatcher.DispatchHandler,
  ): boolean {
    if (options.exchange !== undefined) options.exchange.client = this;
    return super.dispatch(options, handler);
  }
}

const BROKEN: ReadonlySet<string> = new Set(["UND_ERR_SOCKET", "ECONNRESET", "EPIPE"]);

/** Whose connections an exchange takes. */
export interface ExchangeOwner {
  /** It has an outcome. */
  settled(exchange: Exchange, outcome: Outcome): void;
  /** The connection that it had, or waited for, is free: perhaps long after its deadline. */
  released(exchange: Exchange): void;
}

/** A call on its way: deadline, cancellation, one retry, and the answer collected. */
export class Exchange implements Dispatcher.DispatchHandler {
  readonly call: Call;
  client: CountingClient | undefined;
  /** Neighbours of those that wait for a connection (waiting.ts). */
  before: Exchange | undefined;
  after: Exchange | undefined;
  /** It has been given to a connection, perhaps one that is still being opened. */
  isStarted = false;
  /** It goes by a connection beyond `pool_max_connections`. */
  isExtra = false;
  private readonly owner: ExchangeOwner;
  private readonly timer: NodeJS.Timeout;
  private dispatcher: Dispatcher | undefined;
  private controller: Dispatcher.DispatchController | undefined;
  private isSettled = false;
  private isReleased = false;
  private wasUsed = false;
  private hasRetried = false;
  private status = 0;
  private cacheControl: string | undefined;
  private first: Buffer | undefined;
  private others: Buffer[] | undefined;
  private bytes = 0;

  constructor(owner: ExchangeOwner, call: Call) {
    this.owner = owner;
    this.call = call;
    this.timer = setTimeout(Exchange.late, call.timeoutMs, this);
  }

  /** Sends the request by the pool that `pool` gives, if there can be one. */
  start(pool: () => Dispatcher): void {
    this.isStarted = true;
    try {
      this.dispatcher = pool();
    } catch (error) {
      this.release();
      this.fail("connection", reasonOf(error));
      return;
    }
    this.dispatch();
  }

  private static late(exchange: Exchange): void {
    exchange.fail("timeout", `no answer within ${exchange.call.timeoutMs} ms`);
  }

  /** The client has gone: nobody waits for the answer. */
  cancel(): void {
    this.fail("cancelled", "the client has closed its connection");
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    if (this.isSettled) {
      controller.abort(new Error("no longer wanted"));
      return;
    }
    this.controller = controller;
    this.wasUsed = this.client !== undefined && this.client.served > 0;
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    // Announcements such as 103 come before the answer itself.
    if (status < 200) return;
    this.controller = controller;
    this.status = status;
    const cacheControl = headers["cache-control"];
    this.cacheControl = Array.isArray(cacheControl) ? cacheControl.join(",") : cacheControl;
  }

  onResponseData(_: Dispatcher.DispatchController, chunk: Buffer): void {
    this.bytes += chunk.length;
    if (this.bytes > ANSWER_BYTES_MAX) {
      this.fail("too_large", `the answer is longer than ${ANSWER_BYTES_MAX} bytes`);
    } else if (this.first === undefined) this.first = chunk;
    else {
      this.others ??= [];
      this.others.push(chunk);
    }
  }

  onResponseEnd(): void {
    if (this.client !== undefined) this.client.served++;
    const { status, cacheControl } = this;
    const body = this.text();
    this.release();
    this.settle({ response: { status, cacheControl, body } });
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error & { code?: string }): void {
    const { call, status, wasUsed, hasRetried } = this;
    const isBroken = BROKEN.has(error.code ?? "") && status === 0 && wasUsed;
    if (isBroken && call.mayRetry && !hasRetried && !this.isSettled) {
      this.hasRetried = true;
      this.controller = undefined;
      this.dispatch();
      return;
    }
    this.release();
    this.fail("connection", reasonOf(error));
  }

  private dispatch(): void {
    const { path, request } = this.call;
    const { headers, body } = request();
    this.call.onSend(Buffer.byteLength(body), this.hasRetried);
    const options = { path, method: "POST", headers, body, exchange: this } as const;
    try {
      this.dispatcher?.dispatch(options as Dispatcher.DispatchOptions, this);
    } catch (error) {
      this.release();
      this.fail("connection", reasonOf(error));
    }
  }

  private fail(kind: FailureKind, reason: string): void {
    if (this.isSettled) return;
    this.settle({ failure: { kind, reason } });
    this.controller?.abort(new Error(reason));
  }

  private settle(outcome: Outcome): void {
    if (this.isSettled) return;
    this.isSettled = true;
    clearTimeout(this.timer);
    this.owner.settled(this, outcome);
  }

  private release(): void {
    if (this.isReleased) return;
    this.isReleased = true;
    this.owner.released(this);
  }

  private text(): string {
    const { first, others } = this;
    if (first === undefined) return "";
    return (others === undefined ? first : Buffer.concat([first, ...others])).toString("utf8");
  }
}

/** What is wrong with a connection, with its code where that says more. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { code } = error as { code?: unknown };
  const inner = (error as { errors?: unknown }).errors;
  const message =
    error.message === "" && Array.isArray(inner)
      ? inner.map((one) => reasonOf(one)).join(", ")
      : error.message;
  return typeof code === "string" && !message.includes(code) ? `${message} (${code})` : message;
}
