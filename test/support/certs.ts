/** Certificates for TLS tests, made with the `openssl` command in a temporary folder. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Paths of a certificate and its key. */
export interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

/** A CA with its own folder. */
export interface TestCa extends KeyPair {
  readonly folder: string;
  /** Signs a certificate. `subject` is OpenSSL's `/CN=name`; `from` and `to` are `YYYYMMDD`. */
  issue(name: string, options?: IssueOptions): KeyPair;
  revoke(pair: KeyPair): void;
  /** Writes the list of revoked certificates; `to` in the past makes an expired list. */
  writeCrl(file: string, validity?: { from: string; to: string }): void;
}

export interface IssueOptions {
  readonly subject?: string;
  readonly from?: string;
  readonly to?: string;
  readonly isCa?: boolean;
  /** Subject alternative names of a leaf instead of localhost, such as `DNS:*.example`. */
  readonly altNames?: string;
}

const CONFIG = `
[ca]
default_ca = test
[test]
dir = DIR
database = DIR/index.txt
new_certs_dir = DIR/issued
certificate = DIR/ca.pem
private_key = DIR/ca.key
rand_serial = yes
default_md = sha256
default_days = 3650
default_crl_days = 3650
policy = anything
unique_subject = no
x509_extensions = leaf
[anything]
commonName = supplied
${leafSection("DNS:localhost, IP:127.0.0.1")}[ca_extensions]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[req]
distinguished_name = empty
[empty]
`;

function leafSection(altNames: string): string {
  return `[leaf]\nbasicConstraints = CA:false\nsubjectAltName = ${altNames}\n`;
}

function openssl(...args: string[]): void {
  execFileSync("openssl", args, { stdio: ["ignore", "ignore", "pipe"] });
}

function newKey(file: string): void {
  openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", file);
}

/** A folder that `remove` deletes with all in it. */
export function tempFolder(): { folder: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), "nautilus-certs-"));
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** A self-signed root, or a CA below `parent`. */
export function createCa(folder: string, name: string, parent?: TestCa): TestCa {
  mkdirSync(join(folder, "issued"), { recursive: true });
  const config = join(folder, "openssl.cnf");
  const [cert, key] = [join(folder, "ca.pem"), join(folder, "ca.key")];
  writeFileSync(config, CONFIG.replaceAll("DIR", folder));
  writeFileSync(join(folder, "index.txt"), "");
  if (parent === undefined) {
    newKey(key);
    openssl(
      ...["req", "-x509", "-new", "-config", config, "-extensions", "ca_extensions"],
      ...["-key", key, "-subj", `/CN=${name}`, "-days", "3650", "-out", cert],
    );
  } else {
    const pair = parent.issue(name, { isCa: true });
    writeFileSync(cert, readFileSync(pair.cert));
    writeFileSync(key, readFileSync(pair.key));
  }
  return {
    folder,
    cert,
    key,
    issue(leaf, options = {}) {
      const pair = { cert: join(folder, `${leaf}.pem`), key: join(folder, `${leaf}.key`) };
      const request = join(folder, `${leaf}.csr`);
      const names = options.altNames;
      if (names !== undefined) writeFileSync(`${pair.cert}.cnf`, leafSection(names));
      newKey(pair.key);
      const subject = options.subject ?? `/CN=${leaf}`;
      openssl(
        ...["req", "-new", "-config", config, "-key", pair.key],
        ...["-subj", subject, "-out", request],
      );
      openssl(
        ...["ca", "-batch", "-notext", "-preserveDN", "-config", config],
        ...["-startdate", `${options.from ?? "20200101"}000000Z`],
        ...["-enddate", `${options.to ?? "20400101"}000000Z`],
        ...["-extensions", options.isCa ? "ca_extensions" : "leaf"],
        ...(names === undefined ? [] : ["-extfile", `${pair.cert}.cnf`]),
        ...["-in", request, "-out", pair.cert],
      );
      return pair;
    },
    revoke(pair) {
      openssl("ca", "-config", config, "-revoke", pair.cert);
    },
    writeCrl(file, validity) {
      const period = validity
        ? ["-crl_lastupdate", `${validity.from}000000Z`, "-crl_nextupdate", `${validity.to}000000Z`]
        : [];
      openssl("ca", "-config", config, "-gencrl", ...period, "-out", file);
    },
  };
}

/** A certificate that signs itself, as no CA would vouch for. */
export function createSelfSigned(folder: string, name: string): KeyPair {
  const pair = { cert: join(folder, `${name}-self.pem`), key: join(folder, `${name}-self.key`) };
  newKey(pair.key);
  openssl(
    ...["req", "-x509", "-new", "-key", pair.key, "-subj", `/CN=${name}`],
    ...["-days", "3650", "-out", pair.cert],
  );
  return pair;
}

/** The same key behind a password. */
export function encryptKey(key: string, password: string): string {
  const file = `${key}.enc`;
  openssl("pkcs8", "-topk8", "-in", key, "-passout", `pass:${password}`, "-out", file);
  return file;
}
