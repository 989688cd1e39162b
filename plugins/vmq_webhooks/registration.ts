import { type Logger, withoutPassword } from "../../core/plugin-api.ts";
import type { CacheTarget } from "./cache.ts";
import type { Endpoint } from "./endpoint.ts";
import type { Call, Exchange, Failure, Outcome, RequestParts, Response } from "./exchange.ts";
import { type WebhookRow, webhookRow } from "./hooks.ts";
import type { HookMetrics, WebhookMetrics } from "./metrics.ts";
import type { WebhookOptions, WebhookSpec } from "./options.ts";
import { SIGNATURE_HEADER, signatureOf } from "./signature.ts";

export interface RegistrationParts {
  readonly endpoint: Endpoint;
  readonly cache: CacheTarget;
  readonly metrics: WebhookMetrics;
  readonly log: Logger;
}

/** A failed call, for whoever decides what it means. */
export interface CallFailure extends Failure {
  /** What the refusal is called. */
  readonly name: string;
}

/** Lines of one kind of trouble with one webhook a second. */
const LINES_PER_S = 2;

/** One hook at one endpoint. */
export class Registration {
  readonly row: WebhookRow;
  readonly spec: WebhookSpec;
  readonly options: WebhookOptions;
  readonly endpoint: Endpoint;
  readonly cache: CacheTarget;
  readonly all: WebhookMetrics;
  readonly metrics: HookMetrics;
  /** Its last answer could be kept; undefined until there was one that says. */
  isCaching: boolean | undefined;
  requests = 0;
  errors = 0;
  /** Events that did not fit. */
  dropped = 0;
  private readonly log: Logger;
  private readonly headers: string[];

  constructor(spec: WebhookSpec, parts: RegistrationParts) {
    this.spec = spec;
    this.row = webhookRow(spec.hook) as WebhookRow;
    this.options = spec.options;
    this.endpoint = parts.endpoint;
    this.cache = parts.cache;
    this.all = parts.metrics;
    this.metrics = parts.metrics.byHook.get(spec.hook) as HookMetrics;
    this.log = parts.log;
    this.headers = ["Content-Type", "application/json", "vernemq-hook", spec.hook];
    const names = spec.options.headers.map((name) => name.toLowerCase());
    if (!names.includes("user-agent")) this.headers.push("User-Agent", "nautilus");
    this.headers.push(...spec.options.headers);
  }

  /** Asks the endpoint; `done` is called once, perhaps at once. */
  ask(body: () => string, done: (answer: Response | CallFailure) => void): Exchange | undefined {
    const startMs = performance.now();
    return this.endpoint.ask(this.call(body, (outcome) => done(this.counted(outcome, startMs))));
  }

  /** Queues an event; false: it is dropped. */
  tell(body: string, lane: string | undefined): boolean {
    const { endpoint } = this;
    const isQueued = endpoint.events.push({
      bytes: body.length,
      lane,
      send: (done) => {
        const startMs = performance.now();
        const call = this.call(
          () => body,
          (outcome) => {
            this.heard(this.counted(outcome, startMs));
            done();
          },
        );
        endpoint.tell(call);
      },
    });
    if (isQueued) return true;
    this.dropped++;
    this.all.eventsDropped.increment();
    const queued = endpoint.events.length;
    this.limited("dropped").warn("webhook event dropped, queue full", { ...this.where, queued });
    return false;
  }

  /** A failure, or an answer that is not usable: counted and logged. */
  failed(name: string, reason: string): void {
    this.errors++;
    this.metrics.errors.increment();
    const on_error = this.row.kind === "decides" ? this.options.onError : undefined;
    this.limited(name).error("webhook failed", {
      ...this.where,
      error: name,
      reason,
      ...(on_error === undefined ? {} : { on_error }),
    });
  }

  /** The endpoint said no: nothing is wrong. */
  refused(error: unknown): void {
    this.errors++;
    this.metrics.errors.increment();
    if (!this.log.isEnabled("debug")) return;
    this.log.debug("webhook refused a client", { ...this.where, error: JSON.stringify(error) });
  }

  warn(message: string, fields: object): void {
    this.limited(message).warn(message, { ...this.where, ...fields });
  }

  private get where(): { endpoint: string; hook: string } {
    return { endpoint: withoutPassword(this.spec.endpoint), hook: this.spec.hook };
  }

  private limited(what: string): Logger {
    const { hook, endpoint } = this.spec;
    return this.log.limited(`webhook ${hook} ${endpoint} ${what}`, LINES_PER_S);
  }

  private call(body: () => string, done: (outcome: Outcome) => void): Call {
    const { options, row, endpoint } = this;
    return {
      path: endpoint.address.path,
      request: () => this.signed(body()),
      timeoutMs: options.responseTimeoutMs,
      connectTimeoutMs: options.connectTimeoutMs,
      mayRetry: row.isCached,
      onSend: this.sent,
      done,
    };
  }

  private signed(body: string): RequestParts {
    const { headers, options, spec } = this;
    if (options.secret === undefined) return { headers, body };
    const signature = signatureOf(options.secret, spec.hook, body, Date.now());
    return { headers: [...headers, SIGNATURE_HEADER, signature], body };
  }

  private readonly sent = (bytes: number, isRetry: boolean): void => {
    this.requests++;
    this.metrics.requests.increment();
    this.metrics.bytesSent.increment(bytes);
    if (isRetry) this.all.retries.increment();
  };

  private counted(outcome: Outcome, startMs: number): Response | CallFailure {
    const { metrics } = this;
    const kind = "failure" in outcome ? outcome.failure.kind : undefined;
    metrics.register?.elapsedMs.increment(Math.round(performance.now() - startMs));
    if (kind === "suspended") this.all.suspended.increment();
    if (kind === "timeout") {
      this.all.timeouts.increment();
      metrics.register?.timeouts.increment();
    }
    if (kind === "cancelled") metrics.register?.cancelled.increment();
    if ("response" in outcome) return outcome.response;
    return { ...outcome.failure, name: NAMES[outcome.failure.kind] };
  }

  private heard(answer: Response | CallFailure): void {
    if ("name" in answer) this.failed(answer.name, answer.reason);
    else if (answer.status !== 200) {
      this.failed("invalid_response_code", `HTTP status ${answer.status}, not 200`);
    } else if (!isJson(answer.body)) {
      this.failed("received_payload_not_json", "the answer is not JSON");
    }
  }
}

const NAMES: Readonly<Record<Failure["kind"], string>> = {
  timeout: "timeout",
  cancelled: "request_cancelled_client_closed",
  connection: "connection_failed",
  too_large: "answer_too_large",
  suspended: "endpoint_suspended",
  overloaded: "endpoint_overloaded",
};

function isJson(body: string): boolean {
  if (body === "{}") return true;
  try {
    JSON.parse(body);
    return true;
  } catch {
    return false;
  }
}
