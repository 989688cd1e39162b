import { once } from "node:events";
import { copyFileSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import tls from "node:tls";
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from "vitest";
import type { ListenerSettings, TlsSettings } from "../../../core/listeners/types.ts";
import {
  createCa,
  createSelfSigned,
  encryptKey,
  type KeyPair,
  type TestCa,
  tempFolder,
} from "../../support/certs.ts";
import { v2Header } from "./proxy-headers.ts";
import { plainTls } from "./settings.ts";
import { dial, listen, readAll, readBytes } from "./support.ts";

const temp = tempFolder();
afterAll(temp.remove);

interface Fixture {
  readonly ca: TestCa;
  readonly server: KeyPair;
  readonly client: KeyPair;
  readonly twoNames: KeyPair;
  readonly expired: KeyPair;
  readonly revoked: KeyPair;
  readonly selfSigned: KeyPair;
  readonly stranger: KeyPair;
  /** Signed by a CA below `ca`; the file holds both certificates. */
  readonly deep: KeyPair;
  readonly middle: TestCa;
  readonly crl: string;
}
let certs: Fixture;

beforeAll(() => {
  const ca = createCa(join(temp.folder, "ca"), "Test Root");
  const middle = createCa(join(temp.folder, "middle"), "Test Middle", ca);
  const other = createCa(join(temp.folder, "other"), "Other Root");
  const deepLeaf = middle.issue("deep");
  const deep = { cert: `${deepLeaf.cert}.chain`, key: deepLeaf.key };
  writeFileSync(deep.cert, readFileSync(deepLeaf.cert, "utf8") + readFileSync(middle.cert, "utf8"));
  const revoked = ca.issue("revoked");
  const crl = join(temp.folder, "crl.pem");
  certs = {
    ca,
    middle,
    deep,
    revoked,
    crl,
    server: ca.issue("localhost"),
    client: ca.issue("client"),
    twoNames: ca.issue("twonames", { subject: "/O=Test/CN=alpha/CN=beta" }),
    expired: ca.issue("expired", { from: "20200101", to: "20200201" }),
    selfSigned: createSelfSigned(temp.folder, "client"),
    stranger: other.issue("client"),
  };
  ca.revoke(revoked);
  ca.writeCrl(crl);
});

function tlsSettings(options: Partial<TlsSettings> = {}): TlsSettings {
  const { ca, server } = certs;
  return { ...plainTls(), cafile: ca.cert, certfile: server.cert, keyfile: server.key, ...options };
}

async function listenTls(
  options: Partial<TlsSettings> = {},
  settings: Partial<ListenerSettings> = {},
  deps: { filePollMs?: number } = {},
) {
  return listen({ kind: "ssl", ...settings, tls: tlsSettings(options) }, deps);
}

/** A client that trusts the test CA. */
function open(port: number, options: tls.ConnectionOptions = {}): tls.TLSSocket {
  const ca = readFileSync(certs.ca.cert);
  const socket = tls.connect({ host: "127.0.0.1", port, ca, ...options });
  socket.on("error", () => {});
  onTestFinished(() => {
    socket.destroy();
  });
  return socket;
}

function identity({ cert, key }: KeyPair): tls.ConnectionOptions {
  return { cert: readFileSync(cert), key: readFileSync(key) };
}

/** `once` of node:events would reject when an error comes first. */
function happens(socket: tls.TLSSocket, event: string): Promise<unknown> {
  return new Promise((resolve) => socket.once(event, resolve));
}

describe("TLS", () => {
  it("carries bytes both ways and flushes before it closes", async () => {
    const { port, sessions } = await listenTls();
    const client = open(port);
    await once(client, "secureConnect");
    const session = await sessions.next();
    expect(session.transport.peer).toEqual({ address: "127.0.0.1", port: client.localPort });
    expect(session.transport.preAuthUsername).toBeUndefined();
    expect(session.transport.clientCert).toBeUndefined();
    client.write("ping");
    expect((await session.received(4)).toString()).toBe("ping");
    const block = Buffer.alloc(3_000_000, "z");
    session.transport.write(block);
    session.transport.end();
    expect((await readAll(client)).equals(block)).toBe(true);
    client.end();
    await session.closed;
    expect(session.closeCalls).toBe(1);
  });

  it("says false for a write, since TLS keeps the bytes, and then calls onDrain once", async () => {
    const { port, sessions } = await listenTls();
    const client = open(port);
    const { transport, drains } = await sessions.next();
    expect(transport.write(Buffer.from("small"))).toBe(false);
    expect(await drains.next()).toBe(0);
    const block = Buffer.alloc(1_000_000);
    for (let i = 0; i < 8; i++) expect(transport.write(block)).toBe(false);
    expect(transport.bufferedBytes).toBe(8_000_000);
    await readBytes(client, 5 + 8_000_000);
    expect(await drains.next()).toBe(0);
    transport.end();
    client.end();
    await happens(client, "close");
    expect(drains.all).toEqual([0, 0]);
  });

  it("ends a connection that does not shake hands in time", async () => {
    const { port, refused, listener } = await listenTls({ handshakeTimeoutMs: 30 });
    const client = await dial({ host: "127.0.0.1", port });
    await readAll(client);
    expect((await refused.next()).reason).toMatch(/^TLS: .*timeout/i);
    while (listener.connections > 0) await new Promise((resolve) => setImmediate(resolve));
  });

  it("refuses plain MQTT", async () => {
    const { port, refused, sessions } = await listenTls();
    const client = await dial({ host: "127.0.0.1", port });
    client.write(Buffer.from("100c00044d5154540402003c0000", "hex"));
    await readAll(client);
    expect((await refused.next()).reason).toMatch(/^TLS: /);
    expect(sessions.all).toEqual([]);
  });

  it("takes the peer from a PROXY header in front of the handshake", async () => {
    const { port, sessions } = await listenTls({}, { proxyProtocol: true });
    const inner = await dial({ host: "127.0.0.1", port });
    inner.write(v2Header());
    const client = open(port, { socket: inner });
    client.write("x");
    const session = await sessions.next();
    expect(session.transport.peer).toEqual({ address: "192.0.2.7", port: 4711 });
    await session.received(1);
  });

  it("counts a connection until it is closed and holds max_connections", async () => {
    const { port, sessions, refused, listener } = await listenTls({}, { maxConnections: 1 });
    const first = open(port);
    const session = await sessions.next();
    await readAll(await dial({ host: "127.0.0.1", port }));
    expect((await refused.next()).reason).toBe("max_connections");
    first.destroy();
    await session.closed;
    while (listener.connections > 0) await new Promise((resolve) => setImmediate(resolve));
    open(port);
    await sessions.next();
  });
});

describe("TLS versions, ciphers and curves", () => {
  const offer = async (port: number, version: tls.SecureVersion) => {
    const ciphers = "DEFAULT:@SECLEVEL=0";
    const client = open(port, { minVersion: version, maxVersion: version, ciphers });
    return Promise.race([
      happens(client, "secureConnect").then(() => client.getProtocol()),
      happens(client, "error").then(() => "refused"),
    ]);
  };

  it.each([
    [["tlsv1.2"], ["refused", "refused", "TLSv1.2", "refused"]],
    [["tlsv1.3"], ["refused", "refused", "refused", "TLSv1.3"]],
    [
      ["tlsv1.3", "tlsv1.2"],
      ["refused", "refused", "TLSv1.2", "TLSv1.3"],
    ],
    [
      ["tlsv1", "tlsv1.1", "tlsv1.2"],
      ["TLSv1", "TLSv1.1", "TLSv1.2", "refused"],
    ],
    [
      ["tlsv1.1", "tlsv1.3"],
      ["refused", "TLSv1.1", "refused", "TLSv1.3"],
    ],
  ])("%j", async (versions, outcome) => {
    const { port } = await listenTls({ versions });
    const offered = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"] as const;
    expect(await Promise.all(offered.map((version) => offer(port, version)))).toEqual(outcome);
  });

  it("uses the configured cipher and curve only", async () => {
    const { port } = await listenTls({
      ciphers: "ECDHE-ECDSA-AES256-GCM-SHA384",
      eccs: ["secp384r1"],
    });
    const client = open(port);
    await once(client, "secureConnect");
    expect(client.getCipher().name).toBe("ECDHE-ECDSA-AES256-GCM-SHA384");
    expect(client.getEphemeralKeyInfo()).toMatchObject({ name: "secp384r1" });
    const other = open(port, { ciphers: "ECDHE-ECDSA-AES128-GCM-SHA256" });
    await happens(other, "error");
  });

  it.each([
    [{ ciphers: "NO-SUCH-CIPHER" }],
    [{ eccs: ["no-such-curve"] }],
    [{ certfile: "" }],
    [{ cafile: "", requireCertificate: true }],
  ])("does not start with %j", async (options) => {
    await expect(listenTls(options)).rejects.toMatchObject({ code: "LISTENER_TLS" });
  });

  it.each(["cafile", "certfile", "keyfile", "crlfile"] as const)(
    "does not start with a missing or broken %s, and names it",
    async (key) => {
      const on = { requireCertificate: true };
      for (const file of ["/no/such/file.pem", join(certs.ca.folder, "openssl.cnf")]) {
        await expect(listenTls({ ...on, [key]: file })).rejects.toMatchObject({
          code: "LISTENER_FILE",
          message: expect.stringContaining(`listener.ssl.test: ${file}`),
        });
      }
    },
  );

  it("opens a key with its password, and not with another", async () => {
    const keyfile = encryptKey(certs.server.key, "s3cret");
    const { port } = await listenTls({ keyfile, keypasswd: "s3cret" });
    await once(open(port), "secureConnect");
    await expect(listenTls({ keyfile, keypasswd: "wrong" })).rejects.toMatchObject({
      code: "LISTENER_FILE",
    });
  });
});

describe("M-81 client certificates", () => {
  /** Refused: the client's socket closes, and no session ever saw it. */
  async function expectRefusal(
    options: Partial<TlsSettings>,
    pair: KeyPair | undefined,
    why: RegExp,
  ) {
    const { port, refused, sessions, listener } = await listenTls(options);
    const client = open(port, pair === undefined ? {} : identity(pair));
    client.write("CONNECT");
    await happens(client, "close");
    expect((await refused.next()).reason).toMatch(why);
    expect(sessions.all).toEqual([]);
    while (listener.connections > 0) await new Promise((resolve) => setImmediate(resolve));
    expect(refused.all.length).toBe(1);
  }

  it.each(["tlsv1.2", "tlsv1.3"])("lets in the CA's client (%s)", async (version) => {
    const { port, sessions } = await listenTls({ requireCertificate: true, versions: [version] });
    const client = open(port, identity(certs.client));
    client.write("CONNECT");
    const session = await sessions.next();
    await session.received(7);
    expect(session.transport.preAuthUsername).toBeUndefined();
    const der = session.transport.clientCert?.toString("base64") ?? "";
    const pem = readFileSync(certs.client.cert, "utf8").replaceAll(/-----.+-----|\s/g, "");
    expect(der).toBe(pem);
  });

  describe.each(["tlsv1.2", "tlsv1.3"])("over %s refuses", (version) => {
    const required = { requireCertificate: true, versions: [version] };
    it("no certificate", () => expectRefusal(required, undefined, /did not return a cert/));
    it("an expired one", () => expectRefusal(required, certs.expired, /CERT_HAS_EXPIRED/));
    it("a self-signed one", () => expectRefusal(required, certs.selfSigned, /SELF_SIGNED/));
    it("an unknown CA's", () => expectRefusal(required, certs.stranger, /ISSUER|LEAF_SIGNATURE/));
    it("a revoked one", () =>
      expectRefusal({ ...required, crlfile: certs.crl }, certs.revoked, /CERT_REVOKED/));
    it("a bad one although none is required", () =>
      expectRefusal(
        { useIdentityAsUsername: true, versions: [version] },
        certs.expired,
        /CERT_HAS_EXPIRED/,
      ));
  });

  it("lets in a revoked one when there is no CRL, and others when there is one", async () => {
    const open1 = await listenTls({ requireCertificate: true });
    open(open1.port, identity(certs.revoked));
    await open1.sessions.next();
    const open2 = await listenTls({ requireCertificate: true, crlfile: certs.crl });
    open(open2.port, identity(certs.client));
    await open2.sessions.next();
  });

  it("takes the first common name as user name", async () => {
    const { port, sessions } = await listenTls({ useIdentityAsUsername: true });
    open(port, identity(certs.client));
    expect((await sessions.next()).transport.preAuthUsername).toBe("client");
    open(port, identity(certs.twoNames));
    expect((await sessions.next()).transport.preAuthUsername).toBe("alpha");
  });

  it("gives no user name without certificate when none is required", async () => {
    const { port, sessions } = await listenTls({ useIdentityAsUsername: true });
    open(port);
    const { transport } = await sessions.next();
    expect(transport.preAuthUsername).toBeUndefined();
    expect(transport.clientCert).toBeUndefined();
  });

  it("holds depth: intermediate CAs between client and root", async () => {
    const { port, sessions } = await listenTls({ requireCertificate: true, depth: 1 });
    open(port, identity(certs.deep));
    await sessions.next();
    await expectRefusal({ requireCertificate: true, depth: 0 }, certs.deep, /chain of 1/);
    const flat = await listenTls({ requireCertificate: true, depth: 0 });
    open(flat.port, identity(certs.client));
    await flat.sessions.next();
  });

  it("checks a revocation again when a client resumes its session", async () => {
    const { port, sessions } = await listenTls({ requireCertificate: true });
    const first = open(port, identity(certs.client));
    await sessions.next();
    const session = first.getSession();
    const second = open(port, { ...identity(certs.client), ...(session ? { session } : {}) });
    await sessions.next();
    expect(second.isSessionReused()).toBe(false);
  });
});

describe("W-40 revocation lists", () => {
  const required = { requireCertificate: true };
  const reasonFor = async (crlfile: string, pair: KeyPair) => {
    const { port, refused, sessions } = await listenTls({ ...required, crlfile });
    open(port, identity(pair));
    return Promise.race([
      refused.next().then(({ reason }) => reason),
      sessions.next().then(() => "accepted"),
    ]);
  };

  it("reads several lists from one file and matches issuer and serial", async () => {
    const both = join(temp.folder, "both.pem");
    const second = join(temp.folder, "middle-crl.pem");
    certs.middle.writeCrl(second);
    writeFileSync(both, readFileSync(second, "utf8") + readFileSync(certs.crl, "utf8"));
    expect(await reasonFor(both, certs.deep)).toBe("accepted");
    expect(await reasonFor(both, certs.client)).toBe("accepted");
    expect(await reasonFor(both, certs.revoked)).toMatch(/CERT_REVOKED/);
  });

  it("refuses when the list is out of date", async () => {
    const old = join(temp.folder, "old-crl.pem");
    certs.ca.writeCrl(old, { from: "20200101", to: "20200201" });
    expect(await reasonFor(old, certs.client)).toMatch(/CRL_HAS_EXPIRED/);
  });

  it("refuses when a CA of the chain has no list", async () => {
    expect(await reasonFor(certs.crl, certs.deep)).toMatch(/UNABLE_TO_GET_CRL/);
  });

  it("refuses when the list is not signed by the CA it names", async () => {
    const fake = createCa(join(temp.folder, "fake"), "Test Root");
    const file = join(temp.folder, "fake-crl.pem");
    fake.writeCrl(file);
    expect(await reasonFor(file, certs.client)).toMatch(/CRL_SIGNATURE_FAILURE|UNABLE_TO_GET_CRL/);
  });
});

describe("files that change on disk", () => {
  function copies() {
    const own = tempFolder();
    onTestFinished(own.remove);
    const file = (name: string): string => join(own.folder, name);
    copyFileSync(certs.server.cert, file("cert.pem"));
    copyFileSync(certs.server.key, file("cert.key"));
    copyFileSync(certs.ca.cert, file("ca.pem"));
    copyFileSync(certs.crl, file("crl.pem"));
    return {
      certfile: file("cert.pem"),
      keyfile: file("cert.key"),
      cafile: file("ca.pem"),
      crlfile: file("crl.pem"),
    };
  }
  const serverName = async (port: number): Promise<string> => {
    const client = open(port, { checkServerIdentity: () => undefined });
    await once(client, "secureConnect");
    return String(client.getPeerCertificate().subject.CN);
  };
  const replace = (from: string, to: string): void => {
    copyFileSync(from, `${to}.new`);
    renameSync(`${to}.new`, to);
  };

  it("serves a new certificate, and old connections stay", async () => {
    const files = copies();
    const { port, sessions, infos } = await listenTls(
      { certfile: files.certfile, keyfile: files.keyfile },
      {},
      { filePollMs: 5 },
    );
    const before = open(port);
    const session = await sessions.next();
    const renewed = certs.ca.issue("renewed");
    replace(renewed.key, files.keyfile);
    replace(renewed.cert, files.certfile);
    for (let text = ""; !text.includes(files.certfile); ) text = await infos.next();
    expect(await serverName(port)).toBe("renewed");
    before.write("still");
    await session.received(5);
  });

  it("keeps the old certificate when the new one is broken, and says which file", async () => {
    const files = copies();
    const { port, warnings, infos } = await listenTls(
      { certfile: files.certfile, keyfile: files.keyfile },
      {},
      { filePollMs: 5 },
    );
    writeFileSync(files.certfile, "half a certific");
    expect(await warnings.next()).toContain(files.certfile);
    expect(await serverName(port)).toBe("localhost");
    const renewed = certs.ca.issue("repaired");
    replace(renewed.cert, files.certfile);
    expect(await warnings.next()).toContain(files.keyfile); // its key is not there yet
    expect(await serverName(port)).toBe("localhost");
    replace(renewed.key, files.keyfile);
    await infos.next();
    expect(await serverName(port)).toBe("repaired");
  });

  it("follows the CA file", async () => {
    const files = copies();
    const { port, sessions, refused, infos } = await listenTls(
      { requireCertificate: true, cafile: files.cafile },
      {},
      { filePollMs: 5 },
    );
    open(port, identity(certs.stranger));
    await refused.next();
    replace(join(temp.folder, "other", "ca.pem"), files.cafile);
    await infos.next();
    open(port, identity(certs.stranger));
    await sessions.next();
  });

  it("follows the CRL at its own interval, and keeps it when it cannot be read", async () => {
    const files = copies();
    const victim = certs.ca.issue("victim");
    const { port, sessions, refused, infos, warnings } = await listenTls({
      requireCertificate: true,
      crlfile: files.crlfile,
      crlRefreshIntervalMs: 5,
    });
    open(port, identity(victim));
    await sessions.next();
    certs.ca.revoke(victim);
    certs.ca.writeCrl(`${files.crlfile}.new`);
    renameSync(`${files.crlfile}.new`, files.crlfile);
    await infos.next();
    open(port, identity(victim));
    expect((await refused.next()).reason).toMatch(/CERT_REVOKED/);
    renameSync(files.crlfile, `${files.crlfile}.away`);
    expect(await warnings.next()).toContain(files.crlfile);
    open(port, identity(victim));
    expect((await refused.next()).reason).toMatch(/CERT_REVOKED/);
    open(port, identity(certs.client));
    await sessions.next();
  });
});

describe("M-81 pre-shared keys", () => {
  function pskFile(text: string): string {
    const own = tempFolder();
    onTestFinished(own.remove);
    const file = join(own.folder, "vmq.psk");
    writeFileSync(file, text);
    return file;
  }
  const onlyPsk = (pskfile: string): Partial<TlsSettings> => ({
    ...{ certfile: "", keyfile: "", cafile: "" },
    ...{ pskSupport: true, pskfile, useIdentityAsUsername: false },
  });
  const key = (identity: string, secret: string, ciphers = "PSK"): tls.ConnectionOptions => ({
    ciphers,
    maxVersion: "TLSv1.2",
    checkServerIdentity: () => undefined,
    pskCallback: () => ({ identity, psk: Buffer.from(secret) }),
  });

  it.each([
    "PSK-AES256-GCM-SHA384",
    "PSK-AES256-CBC-SHA",
    "PSK-AES128-GCM-SHA256",
    "PSK-AES128-CBC-SHA",
  ])("works without a certificate over %s", async (cipher) => {
    const { port, sessions } = await listenTls(onlyPsk(pskFile("alice:s3cret\n")));
    const client = open(port, key("alice", "s3cret", cipher));
    client.write("hi");
    const session = await sessions.next();
    await session.received(2);
    expect(client.getCipher().standardName).toMatch(/^TLS_PSK_/);
    expect(session.transport.preAuthUsername).toBeUndefined();
  });

  it.each([
    ["an unknown identity", "mallory", "s3cret"],
    ["a wrong key", "alice", "guess"],
  ])("refuses %s", async (_, identity, secret) => {
    const { port, refused, sessions } = await listenTls(onlyPsk(pskFile("alice:s3cret\n")));
    const client = open(port, key(identity, secret));
    await happens(client, "error");
    expect((await refused.next()).reason).toMatch(/^TLS: /);
    expect(sessions.all).toEqual([]);
  });

  it("sends the identity hint", async () => {
    const { port, sessions } = await listenTls({
      ...onlyPsk(pskFile("alice:s3cret\n")),
      pskIdentityHint: "who are you",
    });
    const hints: (string | null)[] = [];
    open(port, {
      ...key("", ""),
      pskCallback: (hint) => {
        hints.push(hint);
        return { identity: "alice", psk: Buffer.from("s3cret") };
      },
    });
    await sessions.next();
    expect(hints).toEqual(["who are you"]);
  });

  it("gives the identity as user name, beside certificates on the same listener", async () => {
    const { port, sessions } = await listenTls({
      pskSupport: true,
      pskfile: pskFile("alice:s3cret\n"),
      useIdentityAsUsername: true,
      requireCertificate: true,
    });
    open(port, key("alice", "s3cret"));
    expect((await sessions.next()).transport.preAuthUsername).toBe("alice");
    open(port, identity(certs.client));
    expect((await sessions.next()).transport.preAuthUsername).toBe("client");
  });

  it("does not take an identity as proven that TLS 1.3 lets a client merely claim", async () => {
    const { port, sessions } = await listenTls({
      pskSupport: true,
      pskfile: pskFile("alice:s3cret\n"),
      useIdentityAsUsername: true,
      versions: ["tlsv1.2", "tlsv1.3"],
    });
    for (const claimed of ["alice", "nobody"]) {
      const client = open(port, {
        ...key(claimed, "guess", "TLS_AES_128_GCM_SHA256"),
        maxVersion: "TLSv1.3",
      });
      const { transport } = await sessions.next();
      expect(client.getProtocol()).toBe("TLSv1.3");
      expect(transport.preAuthUsername).toBeUndefined();
    }
  });

  it("follows the file, and keeps the keys when it breaks", async () => {
    const pskfile = pskFile("alice:s3cret\n");
    const host = await listenTls(onlyPsk(pskfile), {}, { filePollMs: 5 });
    writeFileSync(pskfile, "bob:hunter22\n");
    await host.infos.next();
    open(host.port, key("bob", "hunter22"));
    await host.sessions.next();
    await happens(open(host.port, key("alice", "s3cret")), "error");
    writeFileSync(pskfile, "no separator here\n");
    expect(await host.warnings.next()).toContain(`${pskfile}:1`);
    expect(await host.warnings.next()).toContain("stays in use");
    open(host.port, key("bob", "hunter22"));
    await host.sessions.next();
  });
});
