import { describe, expect, it } from "vitest";
import type { AdminTarget } from "../../../core/admin/command.ts";
import { Admin } from "../../../core/admin/commands.ts";
import type { SessionInfo } from "../../../core/broker-types.ts";

function session(client_id: string, more: Partial<SessionInfo> = {}): SessionInfo {
  return {
    client_id,
    mountpoint: "",
    user: "u",
    is_online: true,
    peer_host: "10.0.0.9",
    peer_port: 4711,
    protocol: 5,
    clean_session: true,
    queue_size: 3,
    inflight: 2,
    subscriptions: [],
    ...more,
  };
}

function setUp(more: Partial<AdminTarget> = {}) {
  const calls: unknown[][] = [];
  const noting =
    <T>(name: string, answer: T) =>
    (...args: unknown[]): T => {
      calls.push([name, ...args]);
      return answer;
    };
  const target = {
    plugins: { commands: () => [] },
    sessions: () => [
      session("one"),
      session("two", { is_online: false, peer_host: undefined, user: undefined }),
    ],
    disconnectClient: noting("disconnect", true),
    reauthorize: noting("reauthorize", Promise.resolve({ removed: ["a"], added: ["b", "c"] })),
    retained: noting("retained", [
      { topic: "t/1", payload: Buffer.from("12345"), qos: 1 },
      { topic: "t/2", payload: Buffer.from(""), qos: 0 },
    ]),
    deleteRetained: noting("delete", true),
    set: noting("set", undefined),
    metrics: () => ({ socket_open: 4, mqtt_connect_received: 2 }),
    listenerInfo: () => [
      { kind: "tcp", name: "default", address: "127.0.0.1", port: 1883, open: 7 },
    ],
    ...more,
  } as unknown as AdminTarget;
  const admin = new Admin(target);
  return { calls, run: (line: string) => admin.run(line.split(" ")) };
}

/** Cells of each row of a drawn table. */
function rows(text: string): string[][] {
  return text
    .split("\n")
    .filter((line) => line.startsWith("│"))
    .map((line) =>
      line
        .split("│")
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

describe("vmq-admin", () => {
  it("answers ping", async () => {
    expect(await setUp().run("ping")).toEqual({ exit: 0, stdout: "pong\n", stderr: "" });
  });

  it("shows sessions with the usual columns, and more when asked", async () => {
    const { run } = setUp();
    expect(rows((await run("session show")).stdout)).toEqual([
      ["client_id", "is_online", "mountpoint", "peer_host", "peer_port", "user"],
      ["one", "true", "", "10.0.0.9", "4711", "u"],
      ["two", "false", "", "", "4711", ""],
    ]);
    const more = rows((await run("session show --queue_size --protocol")).stdout);
    expect(more[0]?.slice(-2)).toEqual(["queue_size", "protocol"]);
    expect(more[1]?.slice(-2)).toEqual(["3", "5"]);
  });

  it.each([
    ["--is_online=true", ["one"]],
    ["--is_online=false", ["two"]],
    ["--client_id=two", ["two"]],
    ["--client_id=nobody", []],
    ["--limit=1", ["one"]],
  ])("filters sessions with %s", async (option, expected) => {
    const { stdout } = await setUp().run(`session show ${option}`);
    expect(
      rows(stdout)
        .slice(1)
        .map(([id]) => id),
    ).toEqual(expected);
  });

  it("disconnects a client, with its state when told so", async () => {
    const { run, calls } = setUp();
    expect(await run("session disconnect client-id=c")).toMatchObject({
      exit: 0,
      stdout: "Done\n",
    });
    await run("session disconnect client-id=c --mountpoint=m --cleanup");
    await run("session disconnect client-id=c mountpoint=m -c");
    expect(calls).toEqual([
      ["disconnect", "c", { mountpoint: "", cleanup: false }],
      ["disconnect", "c", { mountpoint: "m", cleanup: true }],
      ["disconnect", "c", { mountpoint: "m", cleanup: true }],
    ]);
    const absent = setUp({ disconnectClient: () => false });
    expect(await absent.run("session disconnect client-id=c")).toMatchObject({ exit: 1 });
  });

  it("reauthorizes and says what changed", async () => {
    const { run, calls } = setUp();
    expect((await run("session reauthorize username=u client-id=c")).stdout).toBe(
      "removed: a\nadded: b, c\n",
    );
    expect(calls).toEqual([["reauthorize", "c", { mountpoint: "", username: "u" }]]);
    const unchanged = setUp({ reauthorize: async () => ({ removed: [], added: [] }) });
    expect((await unchanged.run("session reauthorize username=u client-id=c")).stdout).toBe(
      "Unchanged\n",
    );
  });

  it("shows and deletes retained messages", async () => {
    const { run, calls } = setUp();
    expect(rows((await run("retain show --mountpoint=m --limit=1")).stdout)).toEqual([
      ["topic", "qos", "bytes"],
      ["t/1", "1", "5"],
    ]);
    await run("retain delete --topic=a/b --mountpoint=m");
    expect(calls).toEqual([
      ["retained", "m"],
      ["delete", "a/b", "m"],
    ]);
  });

  it("gives tables and texts as JSON when asked to", async () => {
    const { run } = setUp();
    const { stdout } = await run("session show --format=json --limit=1");
    expect(JSON.parse(stdout)).toEqual({
      type: "table",
      table: [
        {
          client_id: "one",
          is_online: true,
          mountpoint: "",
          peer_host: "10.0.0.9",
          peer_port: 4711,
          user: "u",
        },
      ],
    });
    expect((await run("ping --format=json")).stdout).toBe('{"type":"text","text":"pong"}');
  });

  it("keeps a value whole that holds `=`", async () => {
    const { run, calls } = setUp();
    await run("retain delete --topic=a=b=c");
    expect(calls).toEqual([["delete", "a=b=c", ""]]);
  });

  it("shows listeners and metrics", async () => {
    const { run } = setUp();
    expect(rows((await run("listener show")).stdout)[1]).toEqual([
      "tcp",
      "default",
      "127.0.0.1",
      "1883",
      "7",
    ]);
    const lines = (await run("metrics show")).stdout.trim().split("\n");
    // metrics.md, section 4: `counter.mqtt_publish_received = 19`
    expect(lines).toEqual(["counter.socket_open = 4", "counter.mqtt_connect_received = 2"]);
  });

  it("sets several live settings, and tells why one cannot be set", async () => {
    const { run, calls } = setUp();
    expect((await run("set max_client_id_size=50 retry_interval=3")).stdout).toBe("Done\n");
    expect(calls).toEqual([
      ["set", "max_client_id_size", "50"],
      ["set", "retry_interval", "3"],
    ]);
    expect(await run("set")).toMatchObject({ exit: 1, stdout: "" });
    const failing = setUp({
      set: () => {
        throw new Error("not settable: [x]");
      },
    });
    const answer = await failing.run("set x=1");
    expect(answer.exit).toBe(1);
    expect(answer.stderr).toContain("not settable: [x]");
  });

  it.each(["session disconnect", "retain delete", "session reauthorize", "retain delete --topic="])(
    "says what is missing: %s",
    async (line) => {
      const { run, calls } = setUp();
      const answer = await run(line);
      expect(answer).toMatchObject({ exit: 1, stdout: "" });
      expect(answer.stderr).toMatch(/is missing\nUsage: vmq-admin /);
      expect(calls).toEqual([]);
    },
  );

  it.each(["session show --limit=0", "session show --limit=x", "retain show --limit=-1"])(
    "refuses %s",
    async (line) => {
      expect(await setUp().run(line)).toMatchObject({ exit: 1, stdout: "" });
    },
  );

  it("refuses an option that the command does not have", async () => {
    const { run, calls } = setUp();
    expect(await run("session disconnect client-id=c --claenup")).toMatchObject({ exit: 1 });
    expect(calls).toEqual([]);
  });

  it("shows help for one command and for all, and refuses unknown ones", async () => {
    const { run, calls } = setUp();
    const one = await run("session disconnect --help");
    expect(one).toMatchObject({ exit: 0, stderr: "" });
    expect(one.stdout).toContain("Usage: vmq-admin session disconnect client-id=ID");
    for (const line of ["", "--help"]) {
      const all = await run(line);
      expect(all.exit).toBe(0);
      expect(all.stdout).toContain("retain show");
    }
    const unknown = await run("session explode");
    expect(unknown).toMatchObject({ exit: 1, stdout: "" });
    expect(unknown.stderr).toContain("unknown command: session explode");
    expect(calls).toEqual([]);
  });
});
