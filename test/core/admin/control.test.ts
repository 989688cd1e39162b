import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  type ControlHandler,
  type ControlServer,
  controlSocketPath,
  sendControl,
  startControlServer,
} from "../../../core/admin/control.ts";
import { runAdmin } from "../../../core/admin/main.ts";

let folder: string;
let servers: ControlServer[];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "nautilus-control-"));
  servers = [];
});
afterEach(async () => {
  for (const server of servers) await server.close();
  rmSync(folder, { recursive: true });
});

const echo: ControlHandler = async ({ command, args }) => ({
  exit: args.length,
  stdout: `${command}|${args.join("|")}\n`,
  stderr: "warned\n",
});
async function start(handler = echo, dir = folder): Promise<ControlServer> {
  const server = await startControlServer(dir, handler);
  servers.push(server);
  return server;
}
/** Sends raw text and gives all that comes back until the server closes or `lines` arrived. */
function raw(text: string, lines: number): Promise<string[]> {
  return new Promise((done) => {
    let received = "";
    const socket = createConnection(controlSocketPath(folder), () => socket.write(text));
    socket.setEncoding("utf8");
    socket.on("data", (part: string) => {
      received += part;
      if (received.split("\n").length > lines) socket.destroy();
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => done(received.split("\n").slice(0, -1)));
  });
}

describe("the control socket", () => {
  test("hands a command to the broker and its answer back", async () => {
    await start();
    const answer = await sendControl(folder, { command: "session", args: ["show", "--ä b"] });
    expect(answer).toEqual({ exit: 2, stdout: "session|show|--ä b\n", stderr: "warned\n" });
  });

  test("hands out a long answer whole, in pieces that a client takes one by one", async () => {
    const long = `${"ä😀".repeat(400_000)}.`;
    await start(async () => ({ exit: 0, stdout: long, stderr: "" }));
    const request = { command: "x", args: [] };
    expect((await sendControl(folder, request)).stdout).toBe(long);
    const said: string[] = [];
    const answer = await sendControl(folder, request, { say: (text) => said.push(text) });
    expect(said.length).toBeGreaterThan(1);
    expect(said.join("") + answer.stdout).toBe(long);
    for (const piece of said) expect(Buffer.from(piece).toString()).toBe(piece);
  });

  test("is for its owner only", async () => {
    const { path } = await start();
    expect(path).toBe(join(folder, "control.sock"));
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test("answers several requests of one connection in order", async () => {
    await start(async ({ command }) => {
      if (command === "slow") await new Promise((done) => setImmediate(done));
      return { exit: 0, stdout: command, stderr: "" };
    });
    const request = (command: string) => `${JSON.stringify({ command, args: [] })}\n`;
    const answers = await raw(request("slow") + request("quick"), 2);
    expect(answers.map((line) => JSON.parse(line).stdout)).toEqual(["slow", "quick"]);
  });

  test("turns a handler's exception into an answer", async () => {
    await start(async () => {
      throw new Error("broken");
    });
    const answer = await sendControl(folder, { command: "x", args: [] });
    expect(answer).toEqual({ exit: 1, stdout: "", stderr: "broken\n" });
  });

  test("survives what is no request", async () => {
    await start();
    const bad = ["{", "1", "null", '{"command":1,"args":[]}', '{"command":"x","args":[1]}'];
    const answers = await raw(bad.map((line) => `${line}\n`).join(""), bad.length);
    for (const line of answers)
      expect(JSON.parse(line)).toMatchObject({ exit: 1, stderr: "not a request\n" });
    expect(answers).toHaveLength(bad.length);
    expect(await sendControl(folder, { command: "x", args: [] })).toMatchObject({ exit: 0 });
  });

  test("cuts off a request without end", async () => {
    await start();
    expect(await raw("x".repeat(2 * 1024 * 1024), 1)).toEqual([]);
    expect(await sendControl(folder, { command: "x", args: [] })).toMatchObject({ exit: 0 });
  });

  test("replaces a stale socket and is gone after close", async () => {
    writeFileSync(join(folder, "control.sock"), "left over");
    const server = await start();
    expect(await sendControl(folder, { command: "x", args: [] })).toMatchObject({ exit: 0 });
    await server.close();
    expect(existsSync(server.path)).toBe(false);
    await expect(sendControl(folder, { command: "x", args: [] })).rejects.toMatchObject({
      code: "NODE_NOT_RUNNING",
    });
  });

  test("that is closed during a request tells the client", async () => {
    let isAsked: (value: unknown) => void = () => undefined;
    const asked = new Promise((done) => {
      isAsked = done;
    });
    const server = await start(async () => {
      isAsked(undefined);
      return await new Promise<never>(() => undefined);
    });
    const answer = sendControl(folder, { command: "x", args: [] });
    const refused = expect(answer).rejects.toMatchObject({ code: "NODE_NOT_RUNNING" });
    await asked;
    await server.close();
    await refused;
  });

  test("has a short path of its own for a deep data directory", async () => {
    const deep = join(folder, "d".repeat(60), "e".repeat(60));
    mkdirSync(deep, { recursive: true });
    const { path } = await start(echo, deep);
    expect(Buffer.byteLength(path)).toBeLessThanOrEqual(100);
    expect(path).not.toBe(controlSocketPath(join(folder, "other", "e".repeat(100))));
    expect(await sendControl(deep, { command: "x", args: [] })).toMatchObject({ exit: 0 });
  });

  test("that cannot be opened is a coded error", async () => {
    const file = join(folder, "file");
    writeFileSync(file, "");
    await expect(startControlServer(join(file, "sub"), echo)).rejects.toMatchObject({
      code: "CONTROL_SOCKET_FAILED",
    });
  });
});

describe("vmq-admin", () => {
  test("sends its words and finds the broker by --data-dir or NAUTILUS_DATA_DIR", async () => {
    await start();
    const env = { NAUTILUS_DATA_DIR: folder };
    expect(await runAdmin(["set", "a=b", "--all"], env)).toMatchObject({
      exit: 2,
      stdout: "set|a=b|--all\n",
    });
    expect(await runAdmin(["--data-dir", folder, "x"], {})).toMatchObject({
      exit: 0,
      stdout: "x|\n",
    });
    expect(await runAdmin(["x", `--data-dir=${folder}`], {})).toMatchObject({ exit: 0 });
    expect(await runAdmin([], env)).toMatchObject({ stdout: "|\n" });
    expect(await runAdmin(["x", "--data-dir"], env)).toMatchObject({ exit: 1 });
  });

  test("says on standard error that nothing runs", async () => {
    const answer = await runAdmin(["session", "show"], { NAUTILUS_DATA_DIR: folder });
    expect(answer).toMatchObject({ exit: 1, stdout: "" });
    expect(answer.stderr).toMatch(/^Node is not running/);
  });
});
