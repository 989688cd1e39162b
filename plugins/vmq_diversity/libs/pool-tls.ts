import { readFileSync } from "node:fs";
import {
  type ConnectionOptions,
  checkServerIdentity,
  type PeerCertificate,
  rootCertificates,
} from "node:tls";

/** What `ensure_pool` and the configuration say of TLS. */
export interface TlsFields {
  /** Name of the server in its certificate; undefined: the one by which it is asked. */
  readonly servername: string | undefined;
  /** That name was given on purpose, so the address does not count. */
  readonly isSni: boolean;
  /** PEM text. */
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
  readonly isVerified: boolean;
  /** CAs between the server's certificate and the root, the root counted. */
  readonly depth: number;
  readonly hasSystemCas: boolean;
}

/** Options of `tls.connect`. */
export function tlsOptionsOf(fields: TlsFields): ConnectionOptions {
  const { servername, isSni, ca, cert, key, isVerified, depth, hasSystemCas } = fields;
  const isName = servername !== undefined && !/^[\d.]+$|:/.test(servername);
  return {
    ca: [...(hasSystemCas ? systemCas() : []), ...(ca === undefined ? [] : [ca])],
    rejectUnauthorized: isVerified,
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    // An address is no server name [RFC 6066, 3].
    ...(isName ? { servername } : {}),
    checkServerIdentity: (name, peer) =>
      chainLength(peer) > depth + 1
        ? new Error(`the certificate chain is longer than depth ${depth}`)
        : checkServerIdentity(isSni ? (servername ?? name) : name, peer),
  };
}

/** Where systems keep the CAs that they trust: Debian and Alpine, Red Hat, SUSE, BSD and macOS. */
const SYSTEM_FILES = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/ssl/cert.pem",
];

let system: readonly string[] | undefined;

/** The system's CAs, `SSL_CERT_FILE` first as with OpenSSL; Node's own where none are found. */
function systemCas(): readonly string[] {
  if (system !== undefined) return system;
  const named = process.env.SSL_CERT_FILE;
  for (const file of named === undefined ? SYSTEM_FILES : [named, ...SYSTEM_FILES]) {
    try {
      const pem = readFileSync(file, "utf8");
      if (pem.includes("BEGIN CERTIFICATE")) {
        system = [pem];
        return system;
      }
    } catch {
      // The next place is looked at.
    }
  }
  system = rootCertificates;
  return system;
}

/** Certificates up to the one that signed itself. */
function chainLength(cert: PeerCertificate): number {
  let length = 1;
  let at = cert as PeerCertificate & { issuerCertificate?: PeerCertificate };
  while (at.issuerCertificate !== undefined && at.issuerCertificate !== at && length < 100) {
    if (at.issuerCertificate.fingerprint256 === at.fingerprint256) break;
    at = at.issuerCertificate;
    length++;
  }
  return length;
}
