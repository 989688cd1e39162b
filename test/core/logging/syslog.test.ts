import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { describe, expect, it } from "vitest";
import { priority, Syslog, type SyslogOptions } from "../../../core/logging/syslog.ts";
import { tempDir, waitFor } from "../../support/broker.ts";
import { createCa } from "../../support/certs.ts";
import { atEnd } from "../../support/cleanup.ts";

const BASE: SyslogOptions = { format: "rfc3164", facility: "local3", appName: "vernemq" };

function syslog(options: Partial<SyslogOptions>): Syslog {
  const log = new Syslog({ ...BASE, ...options });
  atEnd(() => log.close());
  return log;
}

function portOf(server: Server): number {
  const address = server.address();
  return typeof address === "object" ? (address?.port ?? 0) : 0;
}

/** A server that keeps what it gets. */
async function listen(server: Server): Promise<{ port: number; text: () => string }> {
  const sockets: Socket[] = [];
  let text = "";
  const event = "setSecureContext" in server ? "secureConnection" : "connection";
  server.on(event, (socket: Socket) => {
    sockets.push(socket);
    socket.setEncoding("utf8").on("error", () => undefined);
    socket.on("data", (part: string) => {
      text += part;
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  atEnd(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((done) => server.close(done));
  });
  return { port: portOf(server), text: () => text };
}

describe("syslog", () => {
  it("numbers facility and severity as RFC 5424 does", () => {
    expect(priority("kern", 60)).toBe(2);
    expect(priority("daemon", 50)).toBe(27);
    expect(priority("local7", 20)).toBe(23 * 8 + 7);
    expect(priority("logaudit", 40)).toBe(13 * 8 + 4);
    expect(priority("user", 30)).toBe(14);
  });

  it("sends a datagram for each line over UDP, in the older format", async () => {
    const server = createSocket("udp4");
    const got: string[] = [];
    server.on("message", (message) => got.push(message.toString()));
    await new Promise<void>((done) => server.bind(0, "127.0.0.1", done));
    atEnd(() => new Promise<void>((done) => server.close(() => done())));
    const { port } = server.address();
    const log = syslog({ remote: { host: "127.0.0.1", port, protocol: "udp", cafile: "" } });
    log.write("first line\n", 30);
    log.write("second line\n", 50);
    await waitFor("both arrive", () => got.length === 2);
    expect(got[0]).toMatch(
      /^<158>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ vernemq\[\d+\]: first line$/,
    );
    expect(got[1]).toMatch(/^<155>.*: second line$/);
  });

  it("sends lines over TCP", async () => {
    const { port, text } = await listen(createServer());
    const log = syslog({ remote: { host: "127.0.0.1", port, protocol: "tcp", cafile: "" } });
    log.write("one\n", 30);
    await waitFor("one arrives", () => text().endsWith(": one\n"));
  });

  it("counts the bytes of messages in the newer format, over TLS with a checked server", async () => {
    const ca = createCa(join(tempDir(), "ca"), "Test Root");
    const { cert, key } = ca.issue("localhost");
    const { port, text } = await listen(
      createTlsServer({ cert: readFileSync(cert), key: readFileSync(key) }),
    );
    const remote = { host: "localhost", port, protocol: "tls" as const, cafile: ca.cert };
    const log = syslog({ format: "rfc5424", remote });
    log.write("käse\n", 40);
    await waitFor("it arrives", () => text().includes("käse"));
    const [, length, message = ""] = /^(\d+) (.*)$/s.exec(text()) ?? [];
    expect(Buffer.byteLength(message)).toBe(Number(length));
    expect(message).toMatch(/^<156>1 \S+Z \S+ vernemq \d+ - - käse$/);
  });

  it("that cannot be reached loses lines and nothing else, and tells no secret to a server it does not trust", async () => {
    const ca = createCa(join(tempDir(), "ca"), "Test Root");
    const other = createCa(join(tempDir(), "ca"), "Other Root");
    const { cert, key } = ca.issue("localhost");
    const { port, text } = await listen(
      createTlsServer({ cert: readFileSync(cert), key: readFileSync(key) }),
    );
    for (const cafile of [other.cert, "/nosuch/ca.pem"]) {
      const remote = { host: "localhost", port, protocol: "tls" as const, cafile };
      const log = syslog({ format: "rfc5424", remote });
      expect(() => log.write("line\n", 30)).not.toThrow();
      await log.close();
    }
    const closed = createServer();
    const gone = await listen(closed);
    await new Promise((done) => closed.close(done));
    for (const protocol of ["tcp", "udp"] as const) {
      const log = syslog({ remote: { host: "127.0.0.1", port: gone.port, protocol, cafile: "" } });
      expect(() => log.write("line\n", 30)).not.toThrow();
      await log.close();
    }
    expect(text()).toBe("");
  });

  it("reaches this machine's syslog through its socket", async () => {
    const socket = join(tempDir(), "log");
    const out = `${socket}.txt`;
    const script = `import socket,sys
s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM);s.bind(sys.argv[1])
open(sys.argv[2],'w').close()
while True:
    m=s.recv(9000)
    with open(sys.argv[2],'ab') as f: f.write(m+b'\\n')
`;
    writeFileSync(`${socket}.py`, script);
    const server = spawn("python3", [`${socket}.py`, socket, out], { stdio: "ignore" });
    atEnd(() => void server.kill());
    await waitFor("the socket is there", () => existsSync(out));
    const log = syslog({ socket });
    log.write("to this machine\n", 50);
    await waitFor("it arrives", () => readFileSync(out, "utf8").includes("to this machine"));
    expect(readFileSync(out, "utf8")).toMatch(/^<155>.*vernemq.*: to this machine/);
  });
});
