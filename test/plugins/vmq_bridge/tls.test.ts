import { once } from "node:events";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createServer, type TLSSocket, type TlsOptions } from "node:tls";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { tempDir, waitFor } from "../../support/broker.ts";
import { createCa, type TestCa, tempFolder } from "../../support/certs.ts";
import { atEnd } from "../../support/cleanup.ts";
import { bridged, bridgeTo, client, hasMosquitto, show, startMosquitto, state } from "./world.ts";

const PSK = "0123456789abcdef0123456789abcdef";

let folder: string;
let remove: () => void;
let ca: TestCa;
let other: TestCa;
let inner: TestCa;
let server: { cert: string; key: string };
let user: { cert: string; key: string };

beforeAll(() => {
  ({ folder, remove } = tempFolder());
  mkdirSync(join(folder, "a"));
  mkdirSync(join(folder, "b"));
  mkdirSync(join(folder, "c"));
  ca = createCa(join(folder, "a"), "root");
  other = createCa(join(folder, "b"), "other");
  inner = createCa(join(folder, "c"), "inner", ca);
  server = ca.issue("server");
  user = ca.issue("user");
});
afterAll(() => remove());

/** A Mosquitto behind TLS; its certificate is for localhost and 127.0.0.1. */
function secure(lines: readonly string[] = [], { cert, key } = server) {
  return startMosquitto([
    "listener PORT 127.0.0.1",
    ...["allow_anonymous true", `certfile ${cert}`, `keyfile ${key}`],
    ...lines,
  ]);
}

function over(port: number, options: Readonly<Record<string, string>>) {
  return bridgeTo(port, { mqtt_version: "4", "topic.1": "a out 1", ...options }, "br0", "ssl");
}

async function carries(port: number, settings: Record<string, string>): Promise<void> {
  const broker = await bridged(settings);
  await state(broker, "connected");
  const near = await client(broker.port());
  await near.publish("a", "x", { qos: 1 });
  await waitFor("acknowledged", async () => {
    const row = await show(broker);
    return row.unacknowledged === "0" && row["buffer size"] === "0";
  });
  expect(broker.metrics().br0_vmq_bridge_publish_out_1).toBe(1);
  expect(port).toBeGreaterThan(0);
}

async function refused(settings: Record<string, string>, reason: RegExp): Promise<void> {
  const broker = await bridged(settings);
  await waitFor("refused", async () => reason.test((await show(broker)).remark ?? ""), 10_000);
  expect((await show(broker)).state).not.toBe("connected");
}

describe.skipIf(!hasMosquitto)("a bridge over TLS to Mosquitto", () => {
  it("connects with the right CA, by file and by folder (B-37)", async () => {
    const { port } = await secure();
    await carries(port, over(port, { cafile: ca.cert }));
    const capath = tempDir();
    copyFileSync(ca.cert, join(capath, "root.pem"));
    await carries(port, over(port, { capath, tls_version: "tlsv1.3" }));
  });

  it("does not connect with another CA, or for another host (B-37)", async () => {
    const { port } = await secure();
    await refused(over(port, { cafile: other.cert }), /unable to|self.signed|certificate/);
    await refused(over(port, { cafile: ca.cert, sni: "elsewhere.example" }), /altnames|Hostname/);
  });

  it("asks for no certificate when it is insecure (B-37)", async () => {
    const { port } = await secure();
    await carries(port, over(port, { cafile: other.cert, insecure: "on" }));
  });

  it("takes a certificate with a wildcard for one level of the name, as HTTPS does (B-40)", async () => {
    const { port } = await secure([], ca.issue("wild", { altNames: "DNS:*.wild.example" }));
    const named = (sni: string) => over(port, { cafile: ca.cert, sni });
    await carries(port, named("one.wild.example"));
    await refused(named("one.two.wild.example"), /altnames/);
    await refused(over(port, { cafile: ca.cert }), /altnames/);
  });

  it("shows its own certificate (B-38)", async () => {
    const { port } = await secure([`cafile ${ca.cert}`, "require_certificate true"]);
    await carries(port, over(port, { cafile: ca.cert, certfile: user.cert, keyfile: user.key }));
    // In TLS 1.2 the refusal comes with the handshake.
    await refused(over(port, { cafile: ca.cert }), /handshake|alert|ECONNRESET|disconnected/);
  });

  it("has identity and key instead (B-39)", async () => {
    const keys = join(tempDir(), "keys");
    writeFileSync(keys, `bridge:${PSK}\n`);
    const { port } = await startMosquitto([
      "listener PORT 127.0.0.1",
      ...["allow_anonymous true", "psk_hint hint", `psk_file ${keys}`, "tls_version tlsv1.2"],
    ]);
    await carries(port, over(port, { identity: "bridge", psk: PSK }));
    await refused(
      over(port, { identity: "bridge", psk: PSK.replace("0", "1") }),
      /alert|decrypt|mac/,
    );
    await refused(over(port, { identity: "nobody", psk: PSK }), /alert|handshake|psk/i);
  });

  it("refuses a key that is not hex, and half a pair, naming it (B-39)", async () => {
    await expect(bridged(over(1, { identity: "bridge", psk: "abc" }))).rejects.toThrow(
      /vmq_bridge\.ssl\.br0\.psk: .*hex/,
    );
    await expect(bridged(over(1, { identity: "bridge" }))).rejects.toThrow(/identity and psk/);
    await expect(bridged(over(1, { certfile: server.cert }))).rejects.toThrow(
      /keyfile: certfile and keyfile go together/,
    );
  });
});

/** A TLS server that tells what it saw of a handshake, and speaks no MQTT. */
async function handshakes(options: TlsOptions): Promise<{ port: number; names: string[] }> {
  const names: string[] = [];
  const listening = createServer(options, (socket: TLSSocket) => {
    names.push(String(socket.servername || ""));
    socket.on("error", () => {});
  });
  const sockets = new Set<{ destroy(): void }>();
  listening.on("connection", (socket) => sockets.add(socket));
  listening.on("tlsClientError", () => {});
  listening.listen(0, "127.0.0.1");
  await once(listening, "listening");
  atEnd(() => {
    listening.close();
    for (const socket of sockets) socket.destroy();
  });
  return { port: (listening.address() as { port: number }).port, names };
}

describe("the handshake of a bridge", () => {
  it("has the server name of sni, and checks the certificate for it (B-40)", async () => {
    const { port, names } = await handshakes({
      cert: readFileSync(server.cert),
      key: readFileSync(server.key),
    });
    await bridged(over(port, { cafile: ca.cert, sni: "localhost" }));
    await waitFor("a handshake", () => names.length > 0);
    expect(names[0]).toBe("localhost");
  });

  it("accepts as many certificates in between as depth says", async () => {
    const leaf = inner.issue("below");
    const { port, names } = await handshakes({
      cert: readFileSync(leaf.cert, "utf8") + readFileSync(inner.cert, "utf8"),
      key: readFileSync(leaf.key),
    });
    await refused(over(port, { cafile: ca.cert, depth: "0" }), /depth is 0/);
    const before = names.length;
    await bridged(over(port, { cafile: ca.cert, connect_timeout: "60" }));
    await waitFor("a handshake", () => names.length > before);
  });

  it("is not tried without a file that it needs", async () => {
    await expect(bridged(over(1, { cafile: "/nowhere/ca.pem" }))).rejects.toThrow(/cafile/);
  });
});
