import { createHash, randomBytes, randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Config } from "../config/types.ts";
import { errorMessage, NautilusError } from "../errors.ts";

/** What a key opens. Modules of plugins have scopes of their own. */
export const API_KEY_SCOPES = ["status", "mgmt", "metrics", "health", "api2", "httppub"] as const;

/** Keys of a broker; far more than anybody hands out. */
const KEYS_MAX = 10_000;
const KEY_LENGTH = 32;
const CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
/** A key that came over HTTP is longer than no header may be; one that is added must not be either. */
const KEY_BYTES_MAX = 1024;
const DAY_MS = 86_400_000;
/** Characters of a fingerprint: enough to tell keys apart, far too few to find one. */
const FINGERPRINT_LENGTH = 12;

/** One key for one scope, as it is kept: without the key itself. */
interface KeyRecord {
  /** SHA-256 of salt, scope and key, hexadecimal. */
  readonly hash: string;
  readonly scope: string;
  /** Milliseconds since 1970; null = never. */
  readonly expiresAtMs: number | null;
}

interface KeyFile {
  readonly salt: string;
  readonly keys: readonly KeyRecord[];
}

/** A key as `api-key show` lists it. */
export interface ShownKey {
  readonly fingerprint: string;
  readonly scope: string;
  readonly expiresAtMs: number | null;
  readonly isExpired: boolean;
}

/** Why a key is not added or deleted; VerneMQ's words. */
export type KeyFault =
  | "invalid_key_length"
  | "key_already_exists"
  | "key_not_found"
  | "invalid_scope"
  | "invalid_expiry_date"
  | "too_many_keys";

export interface ApiKeysOptions {
  /** Without a file keys end with the broker. */
  readonly file?: string | undefined;
  /** Milliseconds since 1970, for tests. */
  readonly now?: () => number;
  /** Scopes of plugins' modules. */
  readonly moreScopes?: () => readonly string[];
}

/**
 * API keys with scope and expiry. Differs from VerneMQ, which keeps and lists them in clear text: here
 * only hashes are kept, so that whoever reads the data directory has no key.
 */
export class ApiKeys {
  private readonly config: Config;
  private readonly file: string | undefined;
  private readonly now: () => number;
  private readonly moreScopes: () => readonly string[];
  private readonly records = new Map<string, KeyRecord>();
  private salt = randomBytes(16).toString("hex");
  private writing: Promise<void> = Promise.resolve();

  /** Throws API_KEYS_FILE for one that cannot be used. */
  constructor(config: Config, options: ApiKeysOptions = {}) {
    const { file, now = Date.now, moreScopes = () => [] } = options;
    this.config = config;
    this.file = file;
    this.now = now;
    this.moreScopes = moreScopes;
    if (file !== undefined) this.load(file);
  }

  /** True for a key of this scope that has not expired. */
  check(key: string, scope: string): boolean {
    const record = this.records.get(this.hashOf(key, scope));
    return record !== undefined && !this.isExpired(record);
  }

  /** What is wrong with a scope or a date, if anything. */
  faultOf(scope: string, expires?: string): KeyFault | undefined {
    if (!this.isScope(scope)) return "invalid_scope";
    return this.expiryOf(expires) === undefined ? "invalid_expiry_date" : undefined;
  }

  /** A new random key, which nobody can read again later. */
  async create(scope: string, expires?: string): Promise<{ key: string } | { fault: KeyFault }> {
    const length = Math.max(KEY_LENGTH, this.config.int("min_apikey_length"));
    let key = "";
    while (key.length < length) key += CHARACTERS[randomInt(CHARACTERS.length)];
    const fault = await this.add(key, scope, expires);
    return fault === undefined ? { key } : { fault };
  }

  /** Resolves when the key is on disk. */
  async add(key: string, scope: string, expires?: string): Promise<KeyFault | undefined> {
    const wrong = this.faultOf(scope, expires);
    if (wrong !== undefined) return wrong;
    const bytes = Buffer.byteLength(key);
    if (bytes < Math.max(1, this.config.int("min_apikey_length")) || bytes > KEY_BYTES_MAX) {
      return "invalid_key_length";
    }
    const expiresAtMs = this.expiryOf(expires) ?? null;
    const hash = this.hashOf(key, scope);
    if (this.records.has(hash)) return "key_already_exists";
    if (this.records.size >= KEYS_MAX) return "too_many_keys";
    this.records.set(hash, { hash, scope, expiresAtMs });
    await this.save();
    return undefined;
  }

  /** By the key itself or by its fingerprint; of one scope, or of all. */
  async delete(key: string, scope?: string): Promise<KeyFault | undefined> {
    if (scope !== undefined && !this.isScope(scope)) return "invalid_scope";
    const found = [...this.records.values()].filter(
      (record) =>
        (scope === undefined || record.scope === scope) &&
        (record.hash === this.hashOf(key, record.scope) || fingerprint(record) === key),
    );
    if (found.length === 0) return "key_not_found";
    for (const { hash } of found) this.records.delete(hash);
    await this.save();
    return undefined;
  }

  list(scope?: string): ShownKey[] {
    return [...this.records.values()]
      .filter((record) => scope === undefined || record.scope === scope)
      .map((record) => ({
        fingerprint: fingerprint(record),
        scope: record.scope,
        expiresAtMs: record.expiresAtMs,
        isExpired: this.isExpired(record),
      }));
  }

  /** Undefined = no date, in the past, or later than `max_apikey_expiry_days` allows. */
  private expiryOf(text: string | undefined): number | null | undefined {
    const daysMax = this.config.value("max_apikey_expiry_days");
    const latestMs =
      typeof daysMax === "number" ? this.now() + daysMax * DAY_MS : Number.POSITIVE_INFINITY;
    if (text === undefined) return Number.isFinite(latestMs) ? latestMs : null;
    const atMs = Date.parse(/[zZ]|[+-]\d\d:?\d\d$/.test(text) ? text : `${text}Z`);
    if (Number.isNaN(atMs) || atMs <= this.now() || atMs > latestMs) return undefined;
    return atMs;
  }

  private isScope(scope: string): boolean {
    return [...API_KEY_SCOPES, ...this.moreScopes()].includes(scope);
  }

  private isExpired({ expiresAtMs }: KeyRecord): boolean {
    return expiresAtMs !== null && expiresAtMs <= this.now();
  }

  private hashOf(key: string, scope: string): string {
    return createHash("sha256").update(`${this.salt}\0${scope}\0${key}`).digest("hex");
  }

  private load(file: string): void {
    let text: string;
    try {
      text = readFileSync(file, "utf8");
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === "ENOENT") return;
      throw fileFault(file, cause);
    }
    try {
      const { salt, keys } = JSON.parse(text) as KeyFile;
      if (typeof salt !== "string") throw new Error("it has no salt");
      for (const { hash, scope, expiresAtMs } of keys) {
        this.records.set(hash, { hash, scope, expiresAtMs });
      }
      this.salt = salt;
    } catch (cause) {
      throw fileFault(file, cause);
    }
  }

  /** One write after the other; each has all that is there when it begins. */
  private save(): Promise<void> {
    const { file } = this;
    if (file === undefined) return Promise.resolve();
    this.writing = this.writing
      .catch(() => undefined)
      .then(async () => {
        const content: KeyFile = { salt: this.salt, keys: [...this.records.values()] };
        try {
          await writeFile(`${file}.new`, `${JSON.stringify(content, null, 1)}\n`, { mode: 0o600 });
          await rename(`${file}.new`, file);
        } catch (cause) {
          throw fileFault(file, cause);
        }
      });
    return this.writing;
  }
}

/** Where the keys of a broker with a data directory are. */
export function apiKeysFile(dataDir: string): string {
  return join(dataDir, "api-keys.json");
}

function fingerprint({ hash }: KeyRecord): string {
  return hash.slice(0, FINGERPRINT_LENGTH);
}

function fileFault(file: string, cause: unknown): NautilusError {
  const reason = errorMessage(cause);
  return new NautilusError("API_KEYS_FILE", { file, reason }, cause);
}
