import { isUtf8 } from "node:buffer";
import type {
  ConnectionMeta,
  HookArgs,
  HookProperties,
  SubscriberId,
} from "../../core/plugin-api.ts";
import type { WebhookHook } from "./hooks.ts";
import { NotText, type NotUtf8, replacingText } from "./text.ts";

/** What a registration says about bodies. */
export interface BodyOptions {
  /** Payload and certificate as base64, else as text. */
  readonly base64: boolean;
  /** auth_on_publish and auth_on_publish_m5 without `payload`. */
  readonly noPayload: boolean;
  readonly notUtf8: NotUtf8;
}

/**
 * Writes one body. Written by hand since each message has one: fields and their order are VerneMQ's.
 */
class Writer {
  private readonly options: BodyOptions;
  /** For the key of a cache: without `payload` and `peer_port`. */
  private readonly isKey: boolean;
  private readonly encoded: string[] = [];
  private text = "";

  constructor(options: BodyOptions, isKey: boolean) {
    this.options = options;
    this.isKey = isKey;
  }

  raw(name: string, json: string | number | boolean): this {
    this.text += `${this.text === "" ? "" : ","}"${name}":${json}`;
    return this;
  }

  string(name: string, value: string | undefined): this {
    return this.raw(name, value === undefined ? "null" : JSON.stringify(value));
  }

  user(username: string | undefined): this {
    return this.string("username", username);
  }

  subscriber({ mountpoint, client_id }: SubscriberId): this {
    return this.string("mountpoint", mountpoint).string("client_id", client_id);
  }

  peer({ address, port }: { readonly address: string; readonly port: number }): this {
    // Clients of unix sockets have no address.
    const isLocal = port === 0 && address === "127.0.0.1";
    this.string("peer_addr", isLocal ? "local" : address);
    return this.isKey ? this : this.raw("peer_port", port);
  }

  password(password: Buffer | undefined): this {
    return this.string("password", password === undefined ? undefined : replacingText(password));
  }

  payload(payload: () => Buffer, isLeftOut = false): this {
    if (this.isKey || isLeftOut) return this;
    return this.raw("payload", this.bytes("payload", payload()));
  }

  properties(properties: HookProperties): this {
    const names = Object.keys(properties) as (keyof HookProperties)[];
    if (names.length === 0) return this.raw("properties", "{}");
    const parts: string[] = [];
    for (const name of names.sort()) {
      const value = properties[name];
      if (value !== undefined) parts.push(`"${name}":${this.property(name, value)}`);
    }
    return this.raw("properties", `{${parts.join(",")}}`);
  }

  connection(meta: ConnectionMeta | undefined): this {
    if (meta === undefined) return this;
    const { listener_addr: address, listener_port, listener_type, client_cert } = meta;
    this.string("listener_addr", address.startsWith("/") ? "local" : address);
    this.raw("listener_port", listener_port).string("listener_type", listener_type);
    if (client_cert === undefined) return this;
    return this.raw("client_cert", this.bytes("client_cert", client_cert));
  }

  body(): string {
    if (this.encoded.length > 0) this.raw("base64", JSON.stringify(this.encoded));
    return `{${this.text}}`;
  }

  private bytes(name: string, bytes: Buffer): string {
    return this.options.base64 ? `"${bytes.toString("base64")}"` : this.plain(name, bytes);
  }

  /** Bytes that should be text. */
  private plain(name: string, bytes: Buffer): string {
    const { notUtf8 } = this.options;
    if (notUtf8 !== "replace" && !isUtf8(bytes)) {
      if (notUtf8 === "deny") throw new NotText(name);
      this.encoded.push(name);
      return `"${bytes.toString("base64")}"`;
    }
    return JSON.stringify(replacingText(bytes));
  }

  private property(
    name: keyof HookProperties,
    value: NonNullable<HookProperties[keyof HookProperties]>,
  ): string {
    if (name === "p_user_property") {
      const pairs = value as NonNullable<HookProperties["p_user_property"]>;
      const texts = pairs.map(
        ({ key, val }) => `{"key":"${encoded(key)}","val":"${encoded(val)}"}`,
      );
      return `[${texts.join(",")}]`;
    }
    if (name === "p_authentication_data") return `"${(value as Buffer).toString("base64")}"`;
    if (Buffer.isBuffer(value)) return this.plain(name, value);
    return JSON.stringify(value);
  }
}

function encoded(text: string): string {
  return Buffer.from(text).toString("base64");
}

/** VerneMQ hands its hooks the filters in reverse packet order; answers come in that order, too. */
function reversed<T>(list: readonly T[], write: (one: T) => string): string {
  let json = "";
  for (let i = list.length - 1; i >= 0; i--) {
    json += (json === "" ? "" : ",") + write(list[i] as T);
  }
  return `[${json}]`;
}

type Args<H extends WebhookHook> = HookArgs[H];

function register(w: Writer, args: Args<"auth_on_register">): Writer {
  w.peer(args.peer).subscriber(args.subscriber_id).user(args.username).password(args.password);
  return w.raw("clean_session", args.clean_session).connection(args.connection_meta);
}

function registerM5(w: Writer, args: Args<"auth_on_register_m5">): Writer {
  w.peer(args.peer).subscriber(args.subscriber_id).user(args.username).password(args.password);
  w.raw("clean_start", args.clean_start).properties(args.properties);
  return w.connection(args.connection_meta);
}

function registered(w: Writer, args: Args<"on_register">): Writer {
  return w.peer(args.peer).subscriber(args.subscriber_id).user(args.username);
}

/** What CONNACK tells of the broker itself is nothing of the client's, and not in VerneMQ's body. */
function registeredM5(w: Writer, args: Args<"on_register_m5">): Writer {
  const {
    p_topic_alias_max: _,
    p_receive_max: __,
    p_max_packet_size: ___,
    ...properties
  } = args.properties;
  return registered(w, args).properties(properties);
}

function message(w: Writer, args: Args<"auth_on_publish">, isPayloadLeftOut = false): Writer {
  w.user(args.username).subscriber(args.subscriber_id).raw("qos", args.qos);
  w.string("topic", args.topic).payload(() => args.payload, isPayloadLeftOut);
  return w.raw("retain", args.retain);
}

function subscribe(w: Writer, args: Args<"auth_on_subscribe">): Writer {
  w.user(args.username).subscriber(args.subscriber_id);
  return w.raw(
    "topics",
    reversed(
      args.topics,
      ({ topic, qos }) => `{"topic":${JSON.stringify(topic)},"qos":${qos < 3 ? qos : 128}}`,
    ),
  );
}

function subscribeM5(w: Writer, args: Args<"auth_on_subscribe_m5">): Writer {
  w.user(args.username).subscriber(args.subscriber_id);
  const topics = reversed(args.topics, (one) => {
    const { topic, qos, no_local = false, rap = false, retain_handling = "send_retain" } = one;
    return `{"topic":${JSON.stringify(topic)},"qos":${qos},"no_local":${no_local},"rap":${rap},"retain_handling":"${retain_handling}"}`;
  });
  return w.raw("topics", topics).properties(args.properties);
}

function unsubscribe(w: Writer, args: Args<"on_unsubscribe">): Writer {
  w.user(args.username).subscriber(args.subscriber_id);
  return w.raw(
    "topics",
    reversed(args.topics, (topic) => JSON.stringify(topic)),
  );
}

function client(w: Writer, args: Args<"on_client_wakeup">): Writer {
  return w.subscriber(args.subscriber_id);
}

const WRITERS: {
  readonly [H in WebhookHook]: (w: Writer, args: Args<H>, options: BodyOptions) => Writer;
} = {
  auth_on_register: register,
  auth_on_register_m5: registerM5,
  on_register: registered,
  on_register_m5: registeredM5,
  auth_on_publish: (w, args, { noPayload }) => message(w, args, noPayload),
  auth_on_publish_m5: (w, args, { noPayload }) =>
    message(w, args, noPayload).properties(args.properties),
  on_publish: (w, args) => message(w, args),
  on_publish_m5: (w, args) => message(w, args).properties(args.properties),
  auth_on_subscribe: subscribe,
  auth_on_subscribe_m5: subscribeM5,
  on_subscribe: subscribe,
  on_subscribe_m5: subscribeM5,
  on_unsubscribe: unsubscribe,
  on_unsubscribe_m5: (w, args) => unsubscribe(w, args).properties(args.properties),
  on_deliver: (w, args) => message(w, args).properties(args.properties),
  on_deliver_m5: (w, args) => message(w, args).properties(args.properties),
  on_auth_m5: (w, args) =>
    w.user(args.username).subscriber(args.subscriber_id).properties(args.properties),
  on_offline_message: (w, args) => {
    w.subscriber(args.subscriber_id).raw("qos", args.qos).string("topic", args.topic);
    return w.payload(() => args.payload).raw("retain", args.retain);
  },
  on_client_wakeup: client,
  on_client_offline: client,
  on_client_gone: client,
  on_session_expired: client,
};

/** The body of a request. Throws NotText when the registration wants no call for such bytes. */
export function bodyOf<H extends WebhookHook>(
  hook: H,
  args: HookArgs[H],
  options: BodyOptions,
): string {
  return WRITERS[hook](new Writer(options, false), args, options).body();
}

const KEY_OPTIONS: BodyOptions = { base64: true, noPayload: true, notUtf8: "base64" };

/** All that decides whether two calls of a hook are alike: everything but payload and peer port. */
export function keyTextOf<H extends WebhookHook>(hook: H, args: HookArgs[H]): string {
  return WRITERS[hook](new Writer(KEY_OPTIONS, true), args, KEY_OPTIONS).body();
}
