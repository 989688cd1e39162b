import { readFileSync } from "node:fs";
import { errorMessage, nearest, type PluginContext } from "../../core/plugin-api.ts";
import type { BodyOptions } from "./bodies.ts";
import { WEBHOOKS, type WebhookHook, webhookRow } from "./hooks.ts";

/** What one registration says; conf keys are `vmq_webhooks.<name>.<option>`. */
export interface WebhookOptions extends BodyOptions {
  readonly responseTimeoutMs: number;
  readonly connectTimeoutMs: number;
  /** What a failed call means. */
  readonly onError: "deny" | "next" | "ok";
  readonly isOrdered: boolean;
  readonly negativeCacheMs: number;
  /** Name and value in turn. */
  readonly headers: readonly string[];
  /** Key of the signature. */
  readonly secret: Buffer | undefined;
}

export const DEFAULT_OPTIONS: WebhookOptions = {
  base64: true,
  noPayload: false,
  notUtf8: "replace",
  responseTimeoutMs: 5_000,
  connectTimeoutMs: 8_000,
  onError: "deny",
  isOrdered: false,
  negativeCacheMs: 0,
  headers: [],
  secret: undefined,
};

/** A registration as written, checked. */
export interface WebhookSpec {
  /** As in the configuration; undefined for those of a command. */
  readonly name: string | undefined;
  readonly hook: WebhookHook;
  readonly endpoint: string;
  readonly options: WebhookOptions;
}

/** Where an endpoint is. */
export interface EndpointAddress {
  /** `http://host:port` */
  readonly origin: string;
  /** With its query. */
  readonly path: string;
  readonly isTls: boolean;
  readonly socketPath: string | undefined;
}

/** `http://unix:/run/auth.sock:/path`, as nginx writes it; then any http or https URL. */
const UNIX = /^(https?):\/\/unix:(\/[^:]+):?(\/[^\s#]*)?$/;
/** No host may be called so. */
const UNIX_PREFIX = /^https?:\/\/unix:(?!\d)/;

/** Takes an endpoint apart; undefined when it is no address. */
export function addressOf(endpoint: string): EndpointAddress | undefined {
  const unix = UNIX.exec(endpoint);
  if (unix !== null) {
    const [, scheme = "http", socketPath, path = "/"] = unix;
    return { origin: `${scheme}://localhost`, path, isTls: scheme === "https", socketPath };
  }
  if (UNIX_PREFIX.test(endpoint) || !URL.canParse(endpoint)) return undefined;
  const { protocol, origin, pathname, search } = new URL(endpoint);
  if (protocol !== "http:" && protocol !== "https:") return undefined;
  return { origin, path: pathname + search, isTls: protocol === "https:", socketPath: undefined };
}

/** User name and password of a URL as the header they stand for. */
function authorizationOf(endpoint: string): string[] {
  if (UNIX.test(endpoint) || !URL.canParse(endpoint)) return [];
  const { username, password } = new URL(endpoint);
  if (username === "" && password === "") return [];
  const pair = `${decoded(username)}:${decoded(password)}`;
  return ["Authorization", `Basic ${Buffer.from(pair).toString("base64")}`];
}

/** A percent sign may stand for itself. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

const HEADER_NAME = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/;
/** Ours to set, or of the connection. */
const OWN_HEADERS: ReadonlySet<string> = new Set(
  "content-type content-length vernemq-hook nautilus-signature connection transfer-encoding host keep-alive upgrade expect".split(
    " ",
  ),
);

/** Throws an Error naming the header when it cannot be sent. */
function checkedHeader(name: string, value: string): [string, string] {
  if (!HEADER_NAME.test(name)) throw new Error(`"${name}" is not a name for a header`);
  if (OWN_HEADERS.has(name.toLowerCase())) throw new Error(`header ${name} cannot be set`);
  if (/[^\t\x20-\x7e\x80-\xff]/.test(value)) {
    throw new Error(`header ${name}: its value has a character that no header may have`);
  }
  return [name, value];
}

/** Throws an Error that begins with what is wrong when a hook or endpoint cannot be used. */
export function checkedTarget(hook: string, endpoint: string): WebhookHook {
  const row = webhookRow(hook);
  if (row === undefined) {
    const names = WEBHOOKS.map((known) => known.hook);
    const [near] = nearest(hook, names, 1);
    const meant = near === undefined ? "" : `, did you mean ${near}?`;
    throw new Error(`"${hook}" is no hook of webhooks${meant}`);
  }
  if (addressOf(endpoint) === undefined) {
    throw new Error(
      `"${endpoint}" is no endpoint: http://host/path, https://host/path or http://unix:/socket:/path`,
    );
  }
  return row.hook;
}

type Context = Pick<PluginContext, "config" | "keysBelow" | "resolvePath">;

/** Every registration of the configuration, by `<name>` ascending. Throws an Error naming the key. */
export function configuredWebhooks(context: Context): WebhookSpec[] {
  const names = new Set<string>();
  for (const key of context.keysBelow("vmq_webhooks.")) {
    const [, name = "", option] = key.split(/(?<!\\)\./);
    if (option !== undefined) names.add(name);
  }
  return [...names].sort().flatMap((name) => configuredWebhook(context, name) ?? []);
}

function configuredWebhook(context: Context, name: string): WebhookSpec | undefined {
  const key = (option: string): string => `vmq_webhooks.${name}.${option}`;
  const value = (option: string): unknown => context.config(key(option));
  const [hook, endpoint] = [value("hook"), value("endpoint")];
  if (hook === undefined || endpoint === undefined) {
    const missing = hook === undefined ? "hook" : "endpoint";
    throw new Error(`${key(missing)} is not defined`);
  }
  const inKey = <T>(option: string, make: () => T): T => {
    try {
      return make();
    } catch (error) {
      throw new Error(`${key(option)}: ${errorMessage(error)}`);
    }
  };
  const headers = context.keysBelow(key("header.")).flatMap((full) => {
    const header = full.slice(key("header.").length).replaceAll("\\.", ".");
    return inKey(`header.${header}`, () => checkedHeader(header, String(context.config(full))));
  });
  const [secret, secretFile] = [value("secret"), value("secret_file")].map((text) =>
    text === undefined ? "" : String(text),
  );
  if (secret && secretFile) throw new Error(`${key("secret")}: ${key("secret_file")} is set, too`);
  const options: WebhookOptions = {
    base64: value("base64encode") !== false,
    noPayload: value("no_payload") === true,
    notUtf8: value("not_utf8") as WebhookOptions["notUtf8"],
    responseTimeoutMs: Number(value("response_timeout")),
    connectTimeoutMs: Number(value("connect_timeout")),
    onError: value("on_error") as WebhookOptions["onError"],
    isOrdered: value("ordered") === true,
    negativeCacheMs: Number(value("negative_cache")),
    headers: [...authorizationOf(String(endpoint)), ...headers],
    secret: inKey("secret_file", () => secretOf(secret, secretFile, context)),
  };
  return {
    name,
    hook: inKey("endpoint", () => checkedTarget(String(hook), String(endpoint))),
    endpoint: String(endpoint),
    options,
  };
}

/** The key of the signature; of a file its content without the last line break. */
function secretOf(
  secret: string | undefined,
  file: string | undefined,
  context: Pick<Context, "resolvePath">,
): Buffer | undefined {
  if (secret) return Buffer.from(secret);
  if (!file) return undefined;
  const key = readFileSync(context.resolvePath(file), "utf8").replace(/\r?\n$/, "");
  if (key === "") throw new Error(`"${file}" is empty`);
  return Buffer.from(key);
}

/** Options of `webhooks register`; throws an Error naming a wrong one. */
export function commandOptions(
  endpoint: string,
  args: ReadonlyMap<string, string>,
  context: Pick<Context, "resolvePath">,
): WebhookOptions {
  const flag = (name: string, fallback: boolean): boolean => {
    const text = args.get(name);
    if (text === undefined) return fallback;
    if (text === "true" || text === "on" || text === "") return true;
    if (text === "false" || text === "off") return false;
    throw new Error(`Invalid value: ${name}="${text}", true or false`);
  };
  const ms = (name: string, fallback: number, min: number): number => {
    const text = args.get(name);
    if (text === undefined) return fallback;
    const number = Number(text);
    if (Number.isInteger(number) && number >= min && number <= 3_600_000) return number;
    throw new Error(`Invalid value: ${name}="${text}", milliseconds from ${min} to 3600000`);
  };
  const choice = <T extends string>(name: string, values: readonly T[], fallback: T): T => {
    const text = args.get(name) as T | undefined;
    if (text === undefined) return fallback;
    if (values.includes(text)) return text;
    throw new Error(`Invalid value: ${name}="${text}", one of ${values.join(", ")}`);
  };
  const header = args.get("header");
  const at = header?.indexOf(":") ?? -1;
  if (header !== undefined && at < 1) {
    throw new Error(`Invalid value: header="${header}", Name:value`);
  }
  const own = header === undefined ? [] : [header.slice(0, at), header.slice(at + 1).trim()];
  const fallback = DEFAULT_OPTIONS;
  return {
    base64: flag("base64payload", fallback.base64),
    noPayload: flag("no_payload", fallback.noPayload),
    notUtf8: choice("not_utf8", ["replace", "base64", "deny"], fallback.notUtf8),
    responseTimeoutMs: ms("response_timeout", fallback.responseTimeoutMs, 1),
    connectTimeoutMs: ms("connect_timeout", fallback.connectTimeoutMs, 1),
    onError: choice("on_error", ["deny", "next", "ok"], fallback.onError),
    isOrdered: flag("ordered", fallback.isOrdered),
    negativeCacheMs: ms("negative_cache", fallback.negativeCacheMs, 0),
    headers: [
      ...authorizationOf(endpoint),
      ...(own.length === 2 ? checkedHeader(own[0] as string, own[1] as string) : []),
    ],
    secret: secretOf(undefined, args.get("secret_file"), context),
  };
}
