import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { ConnectionOptions } from "node:tls";
import {
  type LibraryHost,
  type LuaCall,
  LuaError,
  LuaFloat,
  type LuaTable,
  type LuaValue,
  tableOf,
  typeNameOf,
} from "../worker/library.ts";
import type { PoolSize } from "./pool.ts";
import { tlsOptionsOf } from "./pool-tls.ts";

/** Most connections of one pool. */
const SIZE_MAX = 1000;
/** Connections of a pool beyond its size, as VerneMQ's pools have them. */
const OVERFLOW = 20;
/** Fields whose values no message shows, whatever is wrong with them. */
const SECRETS: readonly string[] = ["password"];

/**
 * The table that a script gives to `ensure_pool`, with the configuration behind it. Every reader
 * names the field and what is allowed when a value is not usable; `end` names unknown fields.
 */
export class PoolConfig {
  readonly provider: string;
  private readonly fields: LuaTable["hash"];
  private readonly host: LibraryHost;
  private readonly section: string;
  private readonly known = new Set<string>();

  private readonly call: LuaCall;

  /** `section` is the provider's part of the configuration's keys. */
  constructor(
    provider: string,
    config: LuaValue,
    host: LibraryHost,
    call: LuaCall,
    section = provider,
  ) {
    this.provider = provider;
    this.call = call;
    this.fields = tableOf(config, `${provider}.ensure_pool: config`).hash;
    this.host = host;
    this.section = section;
  }

  /** Of the fields as they were given; the configuration behind them does not change. */
  get digest(): string {
    const hash = createHash("sha256");
    const entries = [...this.fields].map(([key, value]) => [String(key), value] as const);
    for (const [key, value] of entries.sort(([a], [b]) => (a < b ? -1 : 1))) {
      hash.update(JSON.stringify([key, Buffer.isBuffer(value) ? value.toString("hex") : value]));
    }
    return hash.digest("base64");
  }

  warnOfOther(id: string): void {
    const text = `${this.provider}.ensure_pool: the pool "${id}" is there already with other options`;
    const hint = "restart the broker to change it, or give it another pool_id";
    this.host.log("warn", text, { hint }, this.call);
  }

  private fault(field: string, allowed: string, given: LuaValue): LuaError {
    const isPlain = typeof given === "number" || typeof given === "boolean";
    const shown = isPlain && !SECRETS.includes(field) ? given : typeNameOf(given);
    return new LuaError(`${this.provider}.ensure_pool: ${field} must be ${allowed}, not ${shown}`);
  }

  private configured(setting: string | undefined): string | number | boolean | undefined {
    if (setting === undefined) return undefined;
    return this.host.settings.get(`vmq_diversity.${this.section}.${setting}`);
  }

  private take(field: string): LuaValue {
    this.known.add(field);
    return this.fields.get(field);
  }

  /** "" counts as not given. */
  text(field: string, setting?: string): string | undefined {
    const value = this.take(field);
    const found = value === undefined ? this.configured(setting) : value;
    if (found === undefined || found === "") return undefined;
    if (typeof found === "string") return found;
    if (!Buffer.isBuffer(found)) throw this.fault(field, "a string", value);
    return found.length === 0 ? undefined : found.toString("utf8");
  }

  integer(field: string, setting: string | undefined, range: { min: number; max: number }): number {
    const { min, max } = range;
    const value = this.take(field);
    const given = value instanceof LuaFloat ? value.value : value;
    const found = given === undefined ? this.configured(setting) : given;
    if (typeof found === "number" && Number.isInteger(found) && found >= min && found <= max) {
      return found;
    }
    throw this.fault(field, `a number from ${min} to ${max}`, value);
  }

  flag(field: string, setting: string | undefined, fallback: boolean): boolean {
    const value = this.take(field);
    if (value === undefined) {
      const found = this.configured(setting);
      return typeof found === "boolean" ? found : fallback;
    }
    if (typeof value === "boolean") return value;
    const text = Buffer.isBuffer(value) ? value.toString("utf8") : undefined;
    if (text === "on" || text === "true") return true;
    if (text === "off" || text === "false") return false;
    throw this.fault(field, "true or false", value);
  }

  choice<T extends string>(field: string, setting: string | undefined, values: readonly T[]): T {
    const text = this.text(field, setting);
    const found = values.find((value) => value === text);
    if (found !== undefined) return found;
    throw new LuaError(
      `${this.provider}.ensure_pool: ${field} must be one of ${values.join(", ")}, not "${text}"`,
    );
  }

  /** `pool_id`, and this thread's share of `size` and `max_overflow`. */
  idAndSize(fallbackId: string, setting: string | undefined, fallback = 5): PoolSize {
    const id = this.text("pool_id") ?? fallbackId;
    const share = (connections: number): number => Math.ceil(connections / this.host.threads);
    return {
      id,
      size: share(this.optionalInteger("size", setting, { min: 1, max: SIZE_MAX, fallback })),
      overflow: share(
        this.optionalInteger("max_overflow", undefined, {
          min: 0,
          max: SIZE_MAX,
          fallback: OVERFLOW,
        }),
      ),
    };
  }

  private optionalInteger(
    field: string,
    setting: string | undefined,
    { fallback, ...range }: { min: number; max: number; fallback: number },
  ): number {
    const isGiven = this.fields.get(field) !== undefined || this.configured(setting) !== undefined;
    this.known.add(field);
    return isGiven ? this.integer(field, setting, range) : fallback;
  }

  port(setting: string | undefined = "port"): number {
    return this.integer("port", setting, { min: 1, max: 65_535 });
  }

  /** TLS options, undefined without `ssl`; the same for every provider. */
  tls(host: string): ConnectionOptions | undefined {
    return this.tlsOf(host, this.flag("ssl", "ssl", false));
  }

  /** For servers that are asked by several names. */
  tlsOfAnyServer(): ConnectionOptions {
    return this.tlsOf(undefined, true) ?? {};
  }

  private tlsOf(host: string | undefined, isOn: boolean): ConnectionOptions | undefined {
    const cafile = this.text("cacertfile", "cafile") ?? this.text("cafile", "cafile");
    const certfile = this.text("certfile", "certfile");
    const keyfile = this.text("keyfile", "keyfile");
    const isVerified = this.verifies(this.take("verify"));
    const depth = this.optionalInteger("depth", "ssl.depth", { min: 0, max: 100, fallback: 3 });
    const hasSystemCas = this.flag("use_system_cas", "ssl.use_system_cas", true);
    const sni = this.text("sni", "ssl.sni");
    const check = this.text("customize_hostname_check", "ssl.customize_hostname_check") ?? "https";
    if (check !== "https") {
      throw new LuaError(
        `${this.provider}.ensure_pool: customize_hostname_check must be https, not "${check}"`,
      );
    }
    if (!isOn) return undefined;
    return tlsOptionsOf({
      ...{ isVerified, depth, hasSystemCas, servername: sni ?? host, isSni: sni !== undefined },
      ca: this.file("cacertfile", cafile),
      cert: this.file("certfile", certfile),
      key: this.file("keyfile", keyfile),
    });
  }

  private verifies(value: LuaValue): boolean {
    const found = value === undefined ? this.configured("ssl.verify") : value;
    if (found === undefined) return true;
    if (typeof found === "boolean") return found;
    const text = Buffer.isBuffer(found) ? found.toString("utf8") : found;
    if (text === "verify_peer") return true;
    if (text === "verify_none") return false;
    throw this.fault("verify", "verify_peer or verify_none", value);
  }

  private file(field: string, path: string | undefined): string | undefined {
    if (path === undefined) return undefined;
    try {
      return readFileSync(path, "utf8");
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw new LuaError(`${this.provider}.ensure_pool: ${field}: ${reason}`);
    }
  }

  /** Fields that VerneMQ knows and this driver has no use for. */
  ignore(...fields: readonly string[]): void {
    for (const field of fields) this.known.add(field);
  }

  /** After all fields were read: throws for one that nobody knows. */
  end(): void {
    for (const field of this.fields.keys()) {
      if (this.known.has(String(field))) continue;
      const known = [...this.known].join(", ");
      throw new LuaError(
        `${this.provider}.ensure_pool: there is no field ${field}; there are ${known}`,
      );
    }
  }
}
