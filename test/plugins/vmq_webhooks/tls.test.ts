import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { TlsOptions } from "node:tls";
import { beforeAll, describe, expect, test } from "vitest";
import type { Broker } from "../../../core/broker-types.ts";
import { crlUrlsOf, nextUpdateOf } from "../../../plugins/vmq_webhooks/der.ts";
import {
  createCa,
  encryptKey,
  type KeyPair,
  type TestCa,
  tempFolder,
} from "../../support/certs.ts";
import { atEnd } from "../../support/cleanup.ts";
import { connectClient, openClient } from "../../support/raw-client.ts";
import { requireTool } from "../../support/tools.ts";
import { AUTH_HOOKS, registered, startEndpoint, startWebhooks } from "../../support/webhooks.ts";

/** [36] TLS to endpoints: certificates, revocation, versions. */

const hasOpenssl = requireTool("openssl", "openssl", ["version"]);
const WHO = { clientId: "c" };

interface CrlServer {
  readonly port: number;
  requests: number;
  /** File that is served, undefined = 404. */
  file: string | undefined;
}

describe.skipIf(!hasOpenssl)("https endpoints", () => {
  let folder: string;
  let ca: TestCa;
  let otherCa: TestCa;
  let server: KeyPair;
  let lists: CrlServer;
  /** A CA whose certificates name the list of `lists`. */
  let listed: TestCa;

  beforeAll(async () => {
    const temp = tempFolder();
    folder = temp.folder;
    atEnd(() => temp.remove(), "file");
    lists = await startLists();
    ca = createCa(join(folder, "ca"), "ca");
    otherCa = createCa(join(folder, "other"), "other");
    server = ca.issue("server");
    listed = createCa(join(folder, "listed"), "listed");
    const config = join(folder, "listed", "openssl.cnf");
    const point = `crlDistributionPoints = URI:http://127.0.0.1:${lists.port}/ca.crl`;
    writeFileSync(
      config,
      readFileSync(config, "utf8").replace(
        "basicConstraints = CA:false",
        `basicConstraints = CA:false\n${point}`,
      ),
    );
  });

  const files = ({ cert, key }: KeyPair): TlsOptions => ({
    cert: readFileSync(cert),
    key: readFileSync(key),
  });

  async function brokerFor(tls: TlsOptions, settings: Record<string, string>): Promise<Broker> {
    const endpoint = await startEndpoint(undefined, { tls });
    return startWebhooks({ ...registered(endpoint, AUTH_HOOKS), ...settings });
  }

  const trusted = (): Record<string, string> => ({ "vmq_webhooks.cafile": ca.cert });
  const works = async (broker: Broker): Promise<unknown> => connectClient(broker, 4, WHO);
  const fails = async (broker: Broker): Promise<void> => {
    await (await openClient(broker, 4)).refused(WHO, 5);
    expect(broker.metrics().webhooks_auth_on_register_errors).toBe(1);
  };

  test("with the right CA work, on one connection", async () => {
    const endpoint = await startEndpoint(undefined, { tls: files(server) });
    const broker = await startWebhooks({ ...registered(endpoint, AUTH_HOOKS), ...trusted() });
    const client = await connectClient(broker, 4, WHO);
    await client.published({ topic: "a", qos: 1 });
    expect(new Set(endpoint.seen.map(({ port }) => port)).size).toBe(1);
    expect(endpoint.seen).toHaveLength(2);
  });

  test("with another CA, and without one the system's, fail", async () => {
    await fails(await brokerFor(files(server), { "vmq_webhooks.cafile": otherCa.cert }));
    await fails(await brokerFor(files(server), {}));
  });

  test("without verify_peer work with any certificate", async () => {
    await works(await brokerFor(files(server), { "vmq_webhooks.verify_peer": "off" }));
  });

  test("with an expired certificate fail", async () => {
    const expired = ca.issue("expired", { from: "20200101", to: "20210101" });
    await fails(await brokerFor(files(expired), trusted()));
  });

  test("with a certificate for another host fail", async () => {
    const config = join(folder, "ca", "openssl.cnf");
    const text = readFileSync(config, "utf8");
    writeFileSync(config, text.replace("DNS:localhost, IP:127.0.0.1", "DNS:other.example"));
    const wrong = ca.issue("wrong-name");
    writeFileSync(config, text);
    await fails(await brokerFor(files(wrong), trusted()));
  });

  test("that want a client certificate work with it and fail without", async () => {
    const client = ca.issue("client");
    const tls = {
      ...files(server),
      ca: readFileSync(ca.cert),
      requestCert: true,
      rejectUnauthorized: true,
    };
    await fails(await brokerFor(tls, trusted()));
    const own = { "vmq_webhooks.certfile": client.cert, "vmq_webhooks.keyfile": client.key };
    await works(await brokerFor(tls, { ...trusted(), ...own }));
    const secret = {
      "vmq_webhooks.keyfile": encryptKey(client.key, "sesame"),
      "vmq_webhooks.keyfile_password": "sesame",
    };
    await works(await brokerFor(tls, { ...trusted(), ...own, ...secret }));
    const wrong = { ...secret, "vmq_webhooks.keyfile_password": "wrong" };
    await expect(brokerFor(tls, { ...trusted(), ...own, ...wrong })).rejects.toThrow("keyfile");
  });

  test("a certificate without its key keeps the broker from starting", async () => {
    const settings = { ...trusted(), "vmq_webhooks.certfile": server.cert };
    await expect(brokerFor(files(server), settings)).rejects.toThrow(
      "vmq_webhooks.certfile needs vmq_webhooks.keyfile",
    );
  });

  test.each([
    ["tlsv1.2", "TLSv1.3", false],
    ["tlsv1.3", "TLSv1.3", true],
    ["tlsv1.2-tlsv1.3", "TLSv1.3", true],
    ["tlsv1.2-tlsv1.3", "TLSv1.2", true],
    ["tlsv1.3", "TLSv1.2", false],
  ] as const)("tls_version = %s and a server with %s: %s", async (version, only, isGood) => {
    const tls = { ...files(server), minVersion: only, maxVersion: only };
    const broker = await brokerFor(tls, { ...trusted(), "vmq_webhooks.tls_version": version });
    await (isGood ? works(broker) : fails(broker));
  });

  test("depth bounds the certificates between the endpoint's and the root's", async () => {
    const middle = createCa(join(folder, `middle-${Date.now()}`), "middle", ca);
    const leaf = middle.issue("leaf");
    const tls = {
      cert: readFileSync(leaf.cert, "utf8") + readFileSync(middle.cert, "utf8"),
      key: readFileSync(leaf.key),
    };
    await works(await brokerFor(tls, { ...trusted(), "vmq_webhooks.depth": "1" }));
    await fails(await brokerFor(tls, { ...trusted(), "vmq_webhooks.depth": "0" }));
  });

  test("a new CA file is taken for new connections", async () => {
    const broker = await brokerFor(files(server), { "vmq_webhooks.cafile": otherCa.cert });
    await fails(broker);
    broker.set("vmq_webhooks.cafile", ca.cert);
    await works(broker);
  });

  describe("with use_crls", () => {
    const crls = (more: Record<string, string> = {}): Record<string, string> => ({
      "vmq_webhooks.cafile": listed.cert,
      "vmq_webhooks.use_crls": "on",
      ...more,
    });

    test("work when the list that the certificate names does not name it", async () => {
      const good = listed.issue("good");
      lists.file = join(folder, "good.crl");
      listed.writeCrl(lists.file);
      lists.requests = 0;
      const broker = await brokerFor(files(good), crls({ "vmq_webhooks.pool_timeout": "1" }));
      for (const clientId of ["a", "b"]) await connectClient(broker, 4, { clientId });
      // The list is kept for the connections that follow.
      expect(lists.requests).toBe(1);
    });

    test("fail when the certificate is revoked", async () => {
      const revoked = listed.issue("revoked");
      listed.revoke(revoked);
      lists.file = join(folder, "revoked.crl");
      listed.writeCrl(lists.file);
      await fails(await brokerFor(files(revoked), crls()));
      await works(await brokerFor(files(revoked), crls({ "vmq_webhooks.use_crls": "off" })));
    });

    test("fail when the list has expired", async () => {
      lists.file = join(folder, "old.crl");
      listed.writeCrl(lists.file, { from: "20200101", to: "20210101" });
      await fails(await brokerFor(files(listed.issue("good2")), crls()));
    });

    test("fail when the list is another CA's", async () => {
      lists.file = join(folder, "foreign.crl");
      otherCa.writeCrl(lists.file);
      await fails(await brokerFor(files(listed.issue("good3")), crls()));
    });

    test("fail when the list cannot be had", async () => {
      lists.file = undefined;
      await fails(await brokerFor(files(listed.issue("good4")), crls()));
    });

    test("fail when the certificate names none and there is no crlfile", async () => {
      const settings = { ...trusted(), "vmq_webhooks.use_crls": "on" };
      await fails(await brokerFor(files(server), settings));
      const crlfile = join(folder, "own.crl");
      ca.writeCrl(crlfile);
      await works(await brokerFor(files(server), { ...settings, "vmq_webhooks.crlfile": crlfile }));
    });

    test("what a certificate and a list say is read from their DER", () => {
      const leaf = listed.issue("der");
      expect(crlUrlsOf(der(leaf.cert, "CERTIFICATE"))).toEqual([
        `http://127.0.0.1:${lists.port}/ca.crl`,
      ]);
      expect(crlUrlsOf(der(server.cert, "CERTIFICATE"))).toEqual([]);
      const file = join(folder, "der.crl");
      listed.writeCrl(file, { from: "20200101", to: "20210102" });
      expect(nextUpdateOf(der(file, "X509 CRL"))).toBe(Date.UTC(2021, 0, 2));
      expect(nextUpdateOf(Buffer.from("nonsense"))).toBeUndefined();
      expect(nextUpdateOf(Buffer.alloc(0))).toBeUndefined();
    });
  });
});

function der(file: string, what: string): Buffer {
  const [, base64 = ""] =
    new RegExp(`BEGIN ${what}-----([^-]+)`).exec(readFileSync(file, "utf8")) ?? [];
  return Buffer.from(base64, "base64");
}

/** Serves revocation lists in DER, as CAs do. */
async function startLists(): Promise<CrlServer> {
  const state = { port: 0, requests: 0, file: undefined as string | undefined };
  const server = createServer((_, response) => {
    state.requests++;
    if (state.file === undefined) response.writeHead(404).end();
    else response.end(der(state.file, "X509 CRL"));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  state.port = (server.address() as AddressInfo).port;
  atEnd(() => new Promise((resolve) => server.close(resolve)), "file");
  return state;
}
