import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ConnectionOptions } from "node:tls";
import { beforeAll, describe, expect, test } from "vitest";
import type { Broker } from "../../core/broker-types.ts";
import { startBroker, tempDir, waitFor } from "../support/broker.ts";
import { createCa, createSelfSigned, type KeyPair, type TestCa } from "../support/certs.ts";
import { pluginWith, recordingPlugin } from "../support/plugins.ts";
import { connectClient, openClient, type RawClient, type Target } from "../support/raw-client.ts";

/** Check M-81: TLS. */

describe("M-81 TLS", () => {
  let ca: TestCa;
  let server: KeyPair;
  let good: KeyPair;
  let expired: KeyPair;
  let revoked: KeyPair;
  let stranger: KeyPair;
  let selfSigned: KeyPair;
  let crl: string;

  beforeAll(() => {
    const folder = tempDir("file");
    ca = createCa(join(folder, "ca"), "Test CA");
    server = ca.issue("localhost");
    good = ca.issue("good client", { subject: "/CN=good client/O=tests" });
    expired = ca.issue("expired", { from: "20200101", to: "20210101" });
    revoked = ca.issue("revoked");
    ca.revoke(revoked);
    crl = join(folder, "list.crl");
    ca.writeCrl(crl);
    stranger = createCa(join(folder, "other"), "Other CA").issue("stranger");
    selfSigned = createSelfSigned(folder, "self");
  });

  function tlsBroker(
    settings: Record<string, string> = {},
    kind: "ssl" | "wss" = "ssl",
    plugins: Parameters<typeof startBroker>[1] = [],
  ): Promise<Broker> {
    const own = {
      cafile: ca.cert,
      certfile: server.cert,
      keyfile: server.key,
      ...settings,
    };
    const named = Object.entries(own).map(([key, value]) =>
      key.includes(".") || key === "allow_anonymous"
        ? [key, value]
        : [`listener.${kind}.default.${key}`, value],
    );
    return startBroker(
      { [`listener.${kind}.default`]: "127.0.0.1:0", ...Object.fromEntries(named) },
      plugins,
    );
  }

  function secure(
    broker: Broker,
    pair?: KeyPair,
    tls: ConnectionOptions = {},
    kind: "ssl" | "wss" = "ssl",
  ): Target {
    return {
      transport: kind === "ssl" ? "tls" : "wss",
      port: broker.port(kind),
      tls: {
        ca: [readFileSync(ca.cert)],
        rejectUnauthorized: true,
        servername: "localhost",
        ...(pair === undefined
          ? {}
          : { cert: readFileSync(pair.cert), key: readFileSync(pair.key) }),
        ...tls,
      },
    };
  }

  /** No MQTT: the handshake fails, or with TLS 1.3 the connection right behind it. */
  async function isRefused(target: Target): Promise<void> {
    let client: RawClient;
    try {
      client = await openClient(target);
    } catch {
      return;
    }
    client.connect({ clientId: "c" });
    await client.closed();
  }

  test("M-81 the server's certificate is enough by default", async () => {
    const broker = await tlsBroker();
    const client = await connectClient(secure(broker), 5, { clientId: "c" });
    await client.subscribed("a", { qos: 1 });
    await client.published({ topic: "b", qos: 1 });
    const plain = await connectClient(broker, 4, { clientId: "p" });
    await plain.published({ topic: "a", payload: "over TLS", qos: 1 });
    await client.delivered({ payload: "over TLS" });
  });

  test("M-81 a client that does not know the CA does not connect", async () => {
    const broker = await tlsBroker();
    await expect(openClient(secure(broker, undefined, { ca: [] }))).rejects.toThrow();
  });

  test.each(["ssl", "wss"] as const)(
    "M-81 %s require_certificate: good one in, none at all fails",
    async (kind) => {
      const broker = await tlsBroker({ require_certificate: "on" }, kind);
      await connectClient(secure(broker, good, {}, kind), 4, { clientId: "c" });
      await isRefused(secure(broker, undefined, {}, kind));
      expect(broker.sessions()).toHaveLength(1);
    },
  );

  test("M-81 expired, unknown CA, self-signed and revoked certificates fail", async () => {
    const broker = await tlsBroker({ require_certificate: "on", crlfile: crl });
    for (const pair of [expired, stranger, selfSigned, revoked]) {
      await isRefused(secure(broker, pair));
    }
    await connectClient(secure(broker, good), 4, { clientId: "c" });
    expect(broker.sessions()).toHaveLength(1);
  });

  test("M-81 without the CRL the revoked certificate passes", async () => {
    const broker = await tlsBroker({ require_certificate: "on" });
    await connectClient(secure(broker, revoked), 4, { clientId: "c" });
  });

  test.each(["tlsv1.2", "tlsv1.3"])(
    "M-81 tls_version %s: refusals work there, too",
    async (version) => {
      const broker = await tlsBroker({
        tls_version: version,
        require_certificate: "on",
        crlfile: crl,
      });
      await connectClient(secure(broker, good), 4, { clientId: "c" });
      for (const pair of [expired, revoked]) await isRefused(secure(broker, pair));
      const other = version === "tlsv1.2" ? "TLSv1.3" : "TLSv1.2";
      await isRefused(secure(broker, good, { minVersion: other, maxVersion: other }));
      expect(broker.sessions()).toHaveLength(1);
    },
  );

  test.each(["ssl", "wss"] as const)("M-81 %s the CN becomes the user name", async (kind) => {
    const recorder = recordingPlugin();
    const broker = await tlsBroker(
      {
        require_certificate: "on",
        use_identity_as_username: "on",
        forward_connection_opts: "on",
        allow_anonymous: "off",
      },
      kind,
      [recorder.plugin],
    );
    const connect = { clientId: "c", username: "mqtt", password: "p" };
    await connectClient(secure(broker, good, {}, kind), 4, connect);
    expect(broker.sessions()[0]?.user).toBe("good client");
    const [asked] = recorder.of("auth_on_register");
    expect(asked?.username).toBe("good client");
    expect(asked?.connection_meta?.listener_type).toBe(kind === "ssl" ? "mqtts" : "mqttwss");
    expect(asked?.connection_meta?.client_cert?.length).toBeGreaterThan(100);
  });

  test("M-81 identity: allow_anonymous_override on → CONNACK 0, off → hooks decide", async () => {
    for (const [flag, code] of [
      ["on", 0],
      ["off", 5],
    ] as const) {
      const recorder = recordingPlugin();
      const broker = await tlsBroker(
        {
          require_certificate: "on",
          use_identity_as_username: "on",
          allow_anonymous_override: flag,
          allow_anonymous: "off",
        },
        "ssl",
        [recorder.plugin, pluginWith({ auth_on_register: () => ({ error: "not_authorized" }) })],
      );
      const client = await openClient(secure(broker, good), 4);
      client.connect({ clientId: "c" });
      await client.expect("connack", { code });
      expect(recorder.of("auth_on_register")).toHaveLength(flag === "on" ? 0 : 1);
    }
  });

  test("M-81 a plain TCP client on a TLS listener gets no MQTT", async () => {
    const broker = await tlsBroker();
    const client = await openClient(broker.port("ssl"));
    client.connect({ clientId: "c" });
    // A TLS alert may come; it is no packet.
    await waitFor("the broker closed", () => client.isClosed);
    expect(client.received).toEqual([]);
    expect(broker.sessions()).toEqual([]);
  });

  test("M-81 tls_handshake_timeout closes a client that is silent", async () => {
    const broker = await tlsBroker({ tls_handshake_timeout: "300" });
    const client = await openClient(broker.port("ssl"));
    await client.closed(3000);
  });

  describe("PSK", () => {
    function psk(identity: string, key: string): ConnectionOptions {
      return {
        ciphers: "PSK-AES256-GCM-SHA384:PSK-AES128-GCM-SHA256",
        maxVersion: "TLSv1.2",
        pskCallback: () => ({ identity, psk: Buffer.from(key) }),
        checkServerIdentity: () => undefined,
        ca: [],
      };
    }

    function pskBroker(separator = ":"): Promise<Broker> {
      const pskfile = join(tempDir(), "vmq.psk");
      writeFileSync(pskfile, `alice${separator}secret one\nbob${separator}two\n`);
      // No certificate is needed.
      return startBroker({
        "listener.ssl.default": "127.0.0.1:0",
        "listener.ssl.psk_support": "on",
        "listener.ssl.pskfile": pskfile,
        ...(separator === ":" ? {} : { "listener.ssl.pskfile_separator": separator }),
      });
    }

    test("M-81 PSK right identity and key → works", async () => {
      const broker = await pskBroker();
      await connectClient(secure(broker, undefined, psk("alice", "secret one")), 4);
      await connectClient(secure(broker, undefined, psk("bob", "two")), 5);
    });

    test("M-81 PSK with another separator", async () => {
      const broker = await pskBroker("|");
      await connectClient(secure(broker, undefined, psk("alice", "secret one")), 4);
    });

    test.each([
      { what: "wrong identity", identity: "mallory", key: "secret one" },
      { what: "wrong key", identity: "alice", key: "two" },
    ])("M-81 PSK $what → handshake fails", async ({ identity, key }) => {
      const broker = await pskBroker();
      const opening = openClient(secure(broker, undefined, psk(identity, key)));
      await expect(opening).rejects.toThrow();
    });
  });
});
