import { execFileSync, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import type { Broker } from "../../../core/broker-types.ts";
import { loadConfig } from "../../../core/config/load.ts";
import { MosquittoSub, mosquittoPub } from "../../e2e/mosquitto-tools.ts";
import { freePort, tempDir, waitFor } from "../../support/broker.ts";
import { ROOT } from "../../support/build.ts";
import { atEnd, type Scope } from "../../support/cleanup.ts";
import { connectClient, openClient } from "../../support/raw-client.ts";
import { accepts } from "../../support/servers/service.ts";
import { requireTool } from "../../support/tools.ts";
import { startWebhooks } from "../../support/webhooks.ts";

/** Every endpoint in webhooks-examples, as its README runs it, in front of real clients. */

const FOLDER = join(ROOT, "webhooks-examples");
const hasMosquitto = requireTool("mosquitto_pub", "mosquitto-clients");

interface Example {
  readonly name: string;
  readonly isThere: boolean;
  /** Gives the command; may build. */
  command(port: number): readonly string[];
}

const EXAMPLES: readonly Example[] = [
  { name: "node", isThere: true, command: () => [process.execPath, "server.js"] },
  {
    name: "python",
    isThere: requireTool("python3", "python3", ["--version"]),
    command: () => ["python3", "server.py"],
  },
  {
    name: "go",
    isThere: requireTool("go", "golang-go", ["version"]),
    // `go run` leaves a child behind when it is ended.
    command: () => {
      const built = join(tempDir("file"), "endpoint");
      execFileSync("go", ["build", "-o", built, "."], { cwd: join(FOLDER, "go"), stdio: "pipe" });
      return [built];
    },
  },
  {
    name: "php",
    isThere: requireTool("php", "php-cli", ["--version"]),
    command: (port) => ["php", "-S", `127.0.0.1:${port}`, "server.php"],
  },
];

interface Running {
  readonly url: string;
  /** Lines of standard output. */
  readonly lines: () => string[];
}

async function start(
  { name, command }: Example,
  env: Record<string, string>,
  scope: Scope,
): Promise<Running> {
  const port = await freePort();
  const [program = "", ...args] = command(port);
  const child = spawn(program, args, {
    cwd: join(FOLDER, name),
    env: { ...process.env, PORT: String(port), ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let out = "";
  let all = "";
  child.stdout.on("data", (text: Buffer) => {
    out += text.toString();
  });
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (text: Buffer) => {
      all += text.toString();
    });
  }
  atEnd(() => void child.kill("SIGKILL"), scope);
  await waitFor(`${name} accepts: ${all}`, () => accepts(port), 30_000);
  return { url: `http://127.0.0.1:${port}/`, lines: () => out.split("\n") };
}

/** The settings of vernemq.conf, for an endpoint somewhere else. */
function settingsOf(url: string): Record<string, string> {
  const text = readFileSync(join(FOLDER, "vernemq.conf"), "utf8");
  const pairs = [...text.matchAll(/^(vmq_webhooks\.\S+) = (.*)$/gm)];
  expect(pairs.length).toBeGreaterThan(10);
  return Object.fromEntries(
    pairs.map(([, key = "", value = ""]) => [
      key,
      value.replace("http://127.0.0.1:8080/", () => url),
    ]),
  );
}

const ALICE = { username: "alice", password: "secret" };

describe.each(EXAMPLES.filter(({ isThere }) => isThere))("the endpoint in $name", (example) => {
  let broker: Broker;
  let running: Running;

  beforeAll(async () => {
    running = await start(example, {}, "file");
    broker = await startWebhooks(settingsOf(running.url), [], { scope: "file" });
  }, 120_000);

  describe.each([4, 5] as const)("MQTT level %i", (version) => {
    const suffix = version === 5 ? "_m5" : "";

    test("lets alice in, asks once for it, and nobody else", async () => {
      const who = { ...ALICE, clientId: `alice-${version}` };
      const requests = (): number =>
        Number(broker.metrics()[`webhooks_auth_on_register${suffix}_requests`]);
      const before = requests();
      for (let i = 0; i < 2; i++) await (await connectClient(broker, version, who)).disconnected();
      expect(requests()).toBe(before + 1);
      for (const other of [{ ...who, password: "wrong" }, { clientId: "nobody" }]) {
        const code = version === 5 ? 0x86 : 4;
        await (await openClient(broker, version)).refused(other, code);
      }
    });

    test("allows, refuses and rewrites topics", async () => {
      const [receiver, client] = await Promise.all(
        ["r", "p"].map((clientId) => connectClient(broker, version, { ...ALICE, clientId })),
      );
      if (receiver === undefined || client === undefined) throw new Error("no clients");
      const granted = await receiver.subscribed("new/#", { qos: 1 });
      expect(granted).toEqual([1]);
      await client.published({ topic: "new/a", payload: "allowed", qos: 1 });
      await receiver.delivered({ topic: "new/a", payload: "allowed" });
      await client.published({ topic: "old/b/c", payload: "rewritten", qos: 1 });
      await receiver.delivered({ topic: "new/b/c", payload: "rewritten" });
      client.publish({ topic: "private/x", qos: 1 });
      if (version === 5) await client.expect("puback", { code: 0x87 });
      else await client.closed();
    });

    test("refuses one filter of a packet and grants the others", async () => {
      const client = await connectClient(broker, version, { ...ALICE, clientId: "s" });
      const codes = await client.subscribed(["a/b", "private/#", "privateer"], { qos: 1 });
      expect(codes).toEqual([1, version === 5 ? 0x87 : 0x80, 1]);
    });

    test("prints what it observes", async () => {
      const clientId = `seen-${version}`;
      const client = await connectClient(broker, version, { ...ALICE, clientId });
      await client.published({ topic: "t", payload: "hello", qos: 1 });
      await client.disconnected();
      const line = await waitFor("on_publish is printed", () =>
        running
          .lines()
          .find((one) => one.startsWith(`on_publish${suffix} `) && one.includes(clientId)),
      );
      expect(JSON.parse(line.slice(line.indexOf("{")))).toMatchObject({
        client_id: clientId,
        payload: "aGVsbG8=",
      });
      await waitFor("on_client_gone is printed", () =>
        running.lines().find((one) => one.startsWith("on_client_gone ") && one.includes(clientId)),
      );
    });
  });

  test.skipIf(!hasMosquitto)("serves mosquitto's clients as its README says", async () => {
    const where = ["-h", "127.0.0.1", "-p", String(broker.port()), "-u", "alice", "-P", "secret"];
    const sub = await new MosquittoSub([...where, "-t", "new/#", "-C", "1"]).subscribed();
    await mosquittoPub([...where, "-t", "old/door", "-m", "open"]);
    expect(await sub.ended()).toBe(0);
    expect(sub.messages).toMatchObject([{ topic: "new/door", payload: "open" }]);
  });

  test("with a secret it takes requests with the right signature only", async () => {
    const signing = await start(example, { WEBHOOK_SECRET: "sesame" }, "test");
    const hook = {
      "vmq_webhooks.a.hook": "auth_on_register",
      "vmq_webhooks.a.endpoint": signing.url,
    };
    const right = await startWebhooks({ ...hook, "vmq_webhooks.a.secret": "sesame" });
    await connectClient(right, 4, { ...ALICE, clientId: "c" });
    for (const settings of [hook, { ...hook, "vmq_webhooks.a.secret": "other" }]) {
      const wrong = await startWebhooks(settings);
      await (await openClient(wrong, 4)).refused({ ...ALICE, clientId: "c" }, 5);
    }
  });
});

test("vernemq.conf lets clients in without further settings", () => {
  const { config, notices, errors } = loadConfig({ file: join(FOLDER, "vernemq.conf") });
  expect([...notices, ...errors]).toEqual([]);
  expect(config?.listeners.map(({ port }) => port)).toEqual([1883]);
});

test("each example has a README of five lines", () => {
  for (const { name } of EXAMPLES) {
    const lines = readFileSync(join(FOLDER, name, "README.md"), "utf8")
      .trimEnd()
      .split("\n");
    expect([name, lines.length]).toEqual([name, 5]);
  }
});
