import { copyFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import tls from "node:tls";
import { describe, expect, it } from "vitest";
import { startBroker, tempDir, waitFor } from "../../support/broker.ts";
import { createCa } from "../../support/certs.ts";

/** Days from now as `YYYYMMDD`. */
function day(days: number): string {
  const at = new Date(Date.now() + days * 86_400_000);
  return at.toISOString().slice(0, 10).replaceAll("-", "");
}

async function start(validity?: { from: string; to: string }) {
  const folder = tempDir();
  const ca = createCa(join(folder, "ca"), "Test Root");
  const pair = ca.issue("broker.test", validity);
  const [certfile, keyfile] = [join(folder, "cert.pem"), join(folder, "key.pem")];
  const use = (from: typeof pair): void => {
    copyFileSync(from.cert, certfile);
    copyFileSync(from.key, keyfile);
  };
  use(pair);
  const broker = await startBroker({
    "listener.ssl.default": "127.0.0.1:0",
    "listener.ssl.default.certfile": certfile,
    "listener.ssl.default.keyfile": keyfile,
  });
  const run = async (...args: string[]) =>
    JSON.parse((await broker.control("tls", [...args, "--format=json"])).stdout);
  return { broker, ca, certfile, use, run };
}

describe("tls", () => {
  it("show lists the certificates of listeners, also what cannot be read", async () => {
    const { run, certfile } = await start();
    const [row] = (await run("show")).table;
    expect(row).toMatchObject({ File: certfile, CN: "broker.test", Issuer: "Test Root" });
    expect(row.SAN).toContain("DNS:localhost");
    expect(row.Not_After).toMatch(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/);
    rmSync(certfile);
    expect((await run("show")).table[0].CN).toContain("ENOENT");
    expect((await run("check")).table[0].Not_Before).toContain("ENOENT");
  });

  it("check says that all is fine, or what expires soon or is not valid yet (check 38)", async () => {
    const year = await start({ from: day(-1), to: day(365) });
    expect(await year.run("check")).toEqual({ type: "text", text: "All fine" });
    const [late] = (await year.run("check", "--validity=40000000")).table;
    expect(late.SecExp).toBeGreaterThan(0);
    const tomorrow = await start({ from: day(-1), to: day(1) });
    const [row] = (await tomorrow.run("check")).table;
    expect(row.SecExp).toBeLessThanOrEqual(172_800);
    expect(row.SecToVal).toBe(0);
    const future = await start({ from: day(10), to: day(365) });
    expect((await future.run("check")).table[0].SecToVal).toBeGreaterThan(0);
    expect((await future.broker.control("tls", ["check", "-v", "x"])).exit).toBe(1);
  });

  it("clear-pem-cache has new connections use replaced files at once", async () => {
    const { broker, ca, use } = await start();
    const seen = (): Promise<unknown> =>
      new Promise((done, fail) => {
        const socket = tls.connect(
          { port: broker.port("ssl"), host: "127.0.0.1", rejectUnauthorized: false },
          () => {
            done(socket.getPeerCertificate().subject.CN);
            socket.destroy();
          },
        );
        socket.on("error", fail);
      });
    expect(await seen()).toBe("broker.test");
    use(ca.issue("renewed.test"));
    expect((await broker.control("tls", ["clear-pem-cache"])).stdout).toBe("Done\n");
    await waitFor("the new one is in force", async () => (await seen()) === "renewed.test");
  });
});
