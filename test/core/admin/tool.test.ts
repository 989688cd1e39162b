import { execFileSync } from "node:child_process";
import { existsSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { COMPLETE, completionScript } from "../../../core/admin/completion.ts";
import { controlSocketPath, startControlServer } from "../../../core/admin/control.ts";
import { runAdmin } from "../../../core/admin/main.ts";
import type { Broker } from "../../../core/broker-types.ts";
import { startBroker, tempDir, waitFor } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";

/** A broker with a control socket and the management API. */
async function start(settings: Readonly<Record<string, string>> = {}) {
  const broker = await startBroker({ "listener.http.default": "127.0.0.1:0", ...settings });
  const dataDir = tempDir();
  const server = await startControlServer(dataDir, ({ command, args }, line) =>
    broker.control(command, args, line),
  );
  atEnd(() => server.close());
  return { broker, dataDir, url: `http://127.0.0.1:${broker.port("http")}` };
}

async function createKey(broker: Broker, scope = "mgmt"): Promise<string> {
  return (await broker.control("api-key", ["create", `scope=${scope}`])).stdout.trim();
}

describe("vmq-admin", () => {
  it("reaches a broker by its socket, which is for its owner only", async () => {
    const { dataDir } = await start();
    const socket = controlSocketPath(dataDir);
    expect(statSync(socket).mode & 0o777).toBe(0o600);
    for (const args of [["--socket", socket], [`--socket=${socket}`]]) {
      const answer = await runAdmin(["cluster", "show", ...args], {});
      expect(answer).toMatchObject({ exit: 0, stderr: "" });
      expect(answer.stdout).toContain("VerneMQ@127.0.0.1");
    }
    const none = await runAdmin(["--socket", "/nosuch.sock", "cluster", "show"], {});
    expect(none).toMatchObject({ exit: 1, stdout: "" });
    expect(none.stderr).toContain("Node is not running");
  });

  it("passes on what a command says before it ends, and ends it when it goes away", async () => {
    const { dataDir } = await start();
    const said: string[] = [];
    const tracing = runAdmin(
      ["--data-dir", dataDir, "trace", "client", "client-id=c1"],
      {},
      (text) => said.push(text),
    );
    await waitFor("it has begun", () => said.length > 0);
    await runAdmin(["--data-dir", dataDir, "trace", "stop_all"], {});
    expect((await tracing).exit).toBe(0);
    expect(said.join("")).toContain("Trace terminated by external action.");
  });

  it("reaches a remote broker with a key: the same answers, human or JSON", async () => {
    const { broker, url, dataDir } = await start();
    const env = { NAUTILUS_API_KEY: await createKey(broker) };
    for (const line of [
      ["cluster", "show"],
      ["listener", "show", "--mqtt"],
      ["listener", "show", "--format=json"],
      ["session", "show", "--client_id", "--limit", "5"],
      ["session", "disconnect"],
      ["session", "disconnect", "client-id=a b&c"],
      ["set", "retry_interval=33"],
      ["show", "retry_interval", "max_client_id_size"],
      ["metrics", "show", "--return_code=not_authorized", "--format=json"],
      ["listener", "show", "--format=csv"],
    ]) {
      const local = await runAdmin(["--data-dir", dataDir, ...line], {});
      expect({ line, ...(await runAdmin(["--url", url, ...line], env)) }).toEqual({
        line,
        ...local,
      });
    }
    const file = join(tempDir(), "key");
    writeFileSync(file, `${env.NAUTILUS_API_KEY}\n`);
    const withFile = ["--url", url, "--api-key-file", file, "cluster", "show"];
    expect((await runAdmin(withFile, {})).exit).toBe(0);
  });

  it("says what a remote broker refuses, and why", async () => {
    const { broker, url } = await start();
    const key = await createKey(broker);
    const other = await createKey(broker, "metrics");
    const of = async (apiKey: string | undefined, ...words: string[]) => {
      const env = apiKey === undefined ? {} : { NAUTILUS_API_KEY: apiKey };
      const { exit, stdout, stderr } = await runAdmin(["--url", url, ...words], env);
      expect({ exit, stdout }).toEqual({ exit: 1, stdout: "" });
      return stderr;
    };
    expect(await of(key, "nosuch")).toContain("answers 400: there is no such command");
    expect(await of(key, "set", "retry_interval=abc")).toContain("answers 400");
    expect(await of(other, "cluster", "show")).toContain("answers 401: the API key");
    expect(await of(undefined, "cluster", "show")).toContain("NAUTILUS_API_KEY");
    const wrong = await runAdmin(["--url", "ftp://x", "cluster", "show"], {
      NAUTILUS_API_KEY: key,
    });
    expect(wrong.stderr).toContain("--url ftp://x is no http");
    const closed = await runAdmin(["--url", "http://127.0.0.1:1", "cluster", "show"], {
      NAUTILUS_API_KEY: key,
    });
    expect(closed).toMatchObject({ exit: 1, stdout: "" });
    expect(closed.stderr).toMatch(/^http:\/\/127\.0\.0\.1:1: /);
  });
});

describe("completion", () => {
  it("knows commands, arguments, flags, their values and settings", async () => {
    const { dataDir } = await start();
    const of = async (...typed: string[]) =>
      (await runAdmin(["--data-dir", dataDir, ...COMPLETE, ...typed], {})).stdout
        .split("\n")
        .filter(Boolean);
    // The options that name the broker stand in front here: what is typed belongs to the line.
    expect(await of("")).toContain("session");
    expect(await of("se")).toEqual(["session", "set"]);
    expect(await of("session", "")).toEqual(["disconnect", "reauthorize", "show", "unsubscribe"]);
    expect(await of("session", "disconnect", "")).toEqual(["batch", "client-id=", "clients"]);
    expect(await of("session", "disconnect", "client-id=x", "--c")).toEqual(["--cleanup"]);
    expect(await of("session", "show", "--peer_h")).toEqual(["--peer_host", "--peer_host="]);
    expect(await of("api-key", "create", "scope=m")).toEqual(["scope=metrics", "scope=mgmt"]);
    expect(await of("cluster", "show", "--format=j")).toEqual(["--format=json"]);
    expect(await of("set", "retry_i")).toEqual(["retry_interval="]);
    expect(await of("show", "retry_i")).toEqual(["retry_interval"]);
    expect(await of("nosuch", "x")).toEqual([]);
  });

  it("works in bash, also behind an equals sign", async () => {
    const { dataDir } = await start();
    const answers: Record<string, string> = {};
    const typed = ["session dis", "api-key create scope=m", "set retry_i"];
    for (const line of typed) {
      const words = line.split(" ");
      answers[line] = (await runAdmin(["--data-dir", dataDir, ...COMPLETE, ...words], {})).stdout;
    }
    const bin = tempDir();
    const cases = Object.entries(answers)
      .map(([line, stdout]) => `"${COMPLETE.join(" ")} ${line}") printf %s '${stdout}';;`)
      .join("\n");
    writeFileSync(join(bin, "vmq-admin"), `#!/bin/sh\ncase "$*" in\n${cases}\nesac\n`, {
      mode: 0o755,
    });
    const complete = (line: string): string =>
      execFileSync(
        "bash",
        [
          "-c",
          `PATH="${bin}:$PATH"; compopt() { :; }; ${completionScript("bash")}
COMP_LINE="vmq-admin ${line}"; COMP_POINT=\${#COMP_LINE}; COMP_WORDS=($COMP_LINE); COMP_CWORD=$((\${#COMP_WORDS[@]}-1))
COMP_WORDBREAKS=$' \\t\\n="'; _vmq_admin; echo "\${COMPREPLY[@]}"`,
        ],
        { encoding: "utf8" },
      ).trim();
    expect(complete("session dis")).toBe("disconnect");
    expect(complete("set retry_i")).toBe("retry_interval=");
    expect(complete("api-key create scope=m")).toBe("metrics mgmt");
  });

  it("prints its scripts without a broker, in words that the shells accept", async () => {
    for (const shell of ["bash", "zsh"]) {
      const answer = await runAdmin(["--data-dir", "/nosuch", "completion", shell], {});
      expect(answer).toMatchObject({ exit: 0, stderr: "" });
      expect(answer.stdout).toContain("_vmq_admin");
      const path = ["/bin", "/usr/bin"].map((dir) => join(dir, shell)).find(existsSync);
      if (path !== undefined) execFileSync(path, ["-n"], { input: answer.stdout });
    }
  });
});
