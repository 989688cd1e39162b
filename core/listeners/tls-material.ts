/** What a TLS listener reads from disk, checked part by part so that a fault names its file. */
import { constants } from "node:crypto";
import { readFileSync } from "node:fs";
import tls from "node:tls";
import { errorMessage, NautilusError } from "../errors.ts";
import { splitCrls } from "./crl.ts";
import { parsePskFile, withPskCiphers } from "./psk.ts";
import type { SocketSettings, TlsSettings } from "./types.ts";

/** One part of the material: the last good version stays in force when a new one is broken. */
export interface TlsMaterial {
  readonly ca: Buffer | undefined;
  readonly identity: { readonly cert: Buffer; readonly key: Buffer } | undefined;
  readonly crls: readonly string[];
  readonly pskKeys: ReadonlyMap<string, Buffer>;
}

export type MaterialPart = keyof TlsMaterial;

/** Whether clients are asked for a certificate. */
export function verifiesClients(settings: TlsSettings): boolean {
  return settings.requireCertificate || settings.useIdentityAsUsername;
}

/** Files of the parts that are re-read together; the CRL has its own interval. */
export function watchedFiles(settings: TlsSettings): string[] {
  const { cafile, certfile, keyfile } = settings;
  const files = [cafile, certfile, keyfile, settings.pskSupport ? settings.pskfile : ""];
  return files.filter((file) => file !== "");
}

/** Reads and checks single parts of one listener's material. */
export class MaterialReader {
  private readonly listener: SocketSettings;
  private readonly settings: TlsSettings;

  constructor(listener: SocketSettings, settings: TlsSettings) {
    this.listener = listener;
    this.settings = settings;
  }

  /** Throws LISTENER_FILE or LISTENER_TLS. `warn` hears of lines that are skipped. */
  readAll(warn: (message: string) => void): TlsMaterial {
    return {
      ca: this.ca(),
      identity: this.identity(),
      crls: this.crls(),
      pskKeys: this.pskKeys(warn),
    };
  }

  /**
   * Re-reads one part at a time; a broken part is reported to `warn` and stays as it was in `old`.
   */
  reread(old: TlsMaterial, parts: readonly MaterialPart[], warn: (message: string) => void) {
    const keep = <T>(part: MaterialPart, read: () => T, before: T): T => {
      if (!parts.includes(part)) return before;
      try {
        return read();
      } catch (error) {
        if (!(error instanceof NautilusError)) throw error;
        warn(`${error.message}; the version read before stays in use`);
        return before;
      }
    };
    return {
      ca: keep("ca", () => this.ca(), old.ca),
      identity: keep("identity", () => this.identity(), old.identity),
      crls: keep("crls", () => this.crls(), old.crls),
      pskKeys: keep("pskKeys", () => this.pskKeys(warn), old.pskKeys),
    } satisfies TlsMaterial;
  }

  /** Options for `tls.createServer` and `setSecureContext`; throws LISTENER_TLS. */
  contextOptions(material: TlsMaterial): tls.SecureContextOptions {
    const { settings } = this;
    const ciphers = settings.ciphers === "" ? tls.DEFAULT_CIPHERS : settings.ciphers;
    const withPsk = settings.pskSupport ? withPskCiphers(ciphers) : ciphers;
    const options: tls.SecureContextOptions = {
      ...versionOptions(settings.versions, verifiesClients(settings)),
      ciphers: allowsOldVersions(settings.versions) ? withSecurityLevel0(withPsk) : withPsk,
      ecdhCurve: settings.eccs.length === 0 ? tls.DEFAULT_ECDH_CURVE : settings.eccs.join(":"),
      ...(material.ca === undefined ? {} : { ca: material.ca }),
      ...material.identity,
      ...(settings.keypasswd === "" ? {} : { passphrase: settings.keypasswd }),
      ...(material.crls.length === 0 ? {} : { crl: [...material.crls] }),
    };
    try {
      tls.createSecureContext(options);
    } catch (error) {
      throw this.fault("LISTENER_TLS", {}, error);
    }
    return options;
  }

  private ca(): Buffer | undefined {
    const { cafile } = this.settings;
    if (cafile === "") {
      // Node would fall back to the public CAs: any bought certificate would be a client's.
      if (verifiesClients(this.settings)) throw this.unset("cafile");
      return undefined;
    }
    const ca = this.read(cafile);
    if (!ca.includes("-----BEGIN")) throw this.fileFault(cafile, new Error("no PEM certificate"));
    this.check(cafile, { ca });
    return ca;
  }

  private identity(): TlsMaterial["identity"] {
    const { certfile, keyfile, keypasswd, pskSupport } = this.settings;
    if (certfile === "") {
      if (!pskSupport) throw this.unset("certfile");
      return undefined;
    }
    const cert = this.read(certfile);
    const key = this.read(keyfile === "" ? certfile : keyfile);
    this.check(certfile, { cert });
    const passphrase = keypasswd === "" ? {} : { passphrase: keypasswd };
    this.check(keyfile === "" ? certfile : keyfile, { cert, key, ...passphrase });
    return { cert, key };
  }

  private crls(): readonly string[] {
    const { crlfile } = this.settings;
    if (crlfile === "" || !verifiesClients(this.settings)) return [];
    const crls = splitCrls(this.read(crlfile).toString("latin1"));
    if (crls.length === 0) throw this.fileFault(crlfile, new Error("no PEM revocation list"));
    this.check(crlfile, { crl: crls });
    return crls;
  }

  private pskKeys(warn: (message: string) => void): ReadonlyMap<string, Buffer> {
    const { pskSupport, pskfile, pskfileSeparator } = this.settings;
    if (!pskSupport) return new Map();
    const { keys, badLines } = parsePskFile(this.read(pskfile).toString("utf8"), pskfileSeparator);
    for (const line of badLines)
      warn(`${pskfile}:${line}: not identity${pskfileSeparator}key, skipped`);
    if (keys.size === 0 && badLines.length > 0) {
      throw this.fileFault(pskfile, new Error("no line is identity and key"));
    }
    return keys;
  }

  private read(file: string): Buffer {
    try {
      return readFileSync(file);
    } catch (error) {
      throw this.fileFault(file, error);
    }
  }

  private check(file: string, options: tls.SecureContextOptions): void {
    try {
      tls.createSecureContext(options);
    } catch (error) {
      throw this.fileFault(file, error);
    }
  }

  private unset(key: string): NautilusError {
    return this.fault("LISTENER_TLS", {}, new Error(`${key} is not set`));
  }

  private fileFault(file: string, cause: unknown): NautilusError {
    return this.fault("LISTENER_FILE", { file }, cause);
  }

  private fault(
    code: "LISTENER_FILE" | "LISTENER_TLS",
    fields: Record<string, string>,
    cause: unknown,
  ): NautilusError {
    const { kind, name } = this.listener;
    const reason = errorMessage(cause);
    return new NautilusError(code, { kind, name, ...fields, reason }, cause);
  }
}

/** In order of age; `flag` switches off one that lies between two allowed ones. */
const VERSIONS = [
  { name: "tlsv1", node: "TLSv1", flag: constants.SSL_OP_NO_TLSv1 },
  { name: "tlsv1.1", node: "TLSv1.1", flag: constants.SSL_OP_NO_TLSv1_1 },
  { name: "tlsv1.2", node: "TLSv1.2", flag: constants.SSL_OP_NO_TLSv1_2 },
  { name: "tlsv1.3", node: "TLSv1.3", flag: constants.SSL_OP_NO_TLSv1_3 },
] as const;

function versionOptions(versions: readonly string[], verifies: boolean): tls.SecureContextOptions {
  const allowed = VERSIONS.filter(({ name }) => versions.includes(name));
  const first = allowed[0] ?? VERSIONS[2];
  const last = allowed.at(-1) ?? VERSIONS[2];
  const between = VERSIONS.slice(VERSIONS.indexOf(first), VERSIONS.indexOf(last));
  const holes = between.filter((version) => version !== first && !allowed.includes(version));
  // A resumed session is not verified again: a ticket would outlive the certificate's revocation.
  const tickets = verifies ? constants.SSL_OP_NO_TICKET : 0;
  const secureOptions = holes.reduce((flags, { flag }) => flags | flag, tickets);
  return { minVersion: first.node, maxVersion: last.node, secureOptions };
}

function allowsOldVersions(versions: readonly string[]): boolean {
  return versions.includes("tlsv1") || versions.includes("tlsv1.1");
}

/** OpenSSL 3 speaks TLS 1.0 and 1.1 only at level 0, since their signatures use SHA-1. */
function withSecurityLevel0(ciphers: string): string {
  return ciphers.includes("@SECLEVEL") ? ciphers : `${ciphers}:@SECLEVEL=0`;
}
