import { describe, expect, it } from "vitest";
import type { Broker } from "../../../core/broker-types.ts";
import { definePlugin } from "../../../core/hooks/define-plugin.ts";
import { startBroker, tempDir, waitFor } from "../../support/broker.ts";
import { connect } from "../../support/mqtt-js.ts";

type Json = { type: string; text?: string; table?: Record<string, unknown>[]; alert?: unknown };

/** Without the escape sequences around headings. */
function plain(text: string): string {
  return text.replaceAll("\u001b[1m", "").replaceAll("\u001b[0m", "");
}

/** Words as typed behind `vmq-admin`. */
async function run(broker: Broker, line: string) {
  const [command = "", ...args] = line.split(" ");
  const answer = await broker.control(command, args);
  return { ...answer, stdout: plain(answer.stdout) };
}

async function json(broker: Broker, line: string): Promise<Json> {
  return JSON.parse((await run(broker, `${line} --format=json`)).stdout);
}

/** Rows of the table that a command answers. */
async function rows(broker: Broker, line: string): Promise<Record<string, unknown>[]> {
  return (await json(broker, line)).table ?? [];
}

/** Names of the drawn table's columns. */
async function columns(broker: Broker, line: string): Promise<string[]> {
  const [, head = ""] = (await run(broker, line)).stdout.split("\n");
  return head
    .split("|")
    .slice(1, -1)
    .map((cell) => cell.trim());
}

/** A persistent client that is away, with two stored messages on off/t. */
async function offline(broker: Broker): Promise<void> {
  const client = await connect(broker, "off1", { clean: false });
  await client.subscribeAsync("off/t", { qos: 1 });
  await client.endAsync();
  await waitFor("off1 is away", () => !broker.sessions().some(({ is_online }) => is_online));
  const publisher = await connect(broker, "p");
  await publisher.publishAsync("off/t", "offline one", { qos: 1 });
  await publisher.publishAsync("off/t", "offline two", { qos: 1 });
  await publisher.endAsync();
  await waitFor("p is gone", () => broker.sessions().length === 1);
}

describe("the command line", () => {
  it("prints usage with exit code 1 for no, an unknown and an incomplete command", async () => {
    const broker = await startBroker();
    for (const line of ["", "nonsense", "session", "session nonsense", "cluster status", "-h"]) {
      const { exit, stdout } = await run(broker, line);
      expect({ line, exit }).toEqual({ line, exit: 1 });
      expect(stdout).toMatch(/^Usage: vmq-admin (session |cluster )?<sub-command>/);
    }
    expect((await run(broker, "session --help")).stdout).toContain("disconnect");
  });

  it("prints the help of a command with exit code 0", async () => {
    const broker = await startBroker();
    const { exit, stdout } = await run(broker, "session show --help");
    expect(exit).toBe(0);
    expect(stdout).toContain("Usage: vmq-admin session show [flags]");
    expect(stdout).toContain("--limit=<NumberOfResults>");
    expect((await run(broker, "metrics reset -h")).exit).toBe(0);
  });

  it("refuses what a command does not know, in VerneMQ's words", async () => {
    const broker = await startBroker();
    const refused = async (line: string) => {
      const { exit, stdout } = await run(broker, line);
      expect(exit).toBe(1);
      return stdout;
    };
    expect(await refused("session show --nosuch")).toBe('Invalid key: "nosuch"\n');
    expect(await refused("session disconnect nosuch=1")).toBe('Invalid key: "nosuch"\n');
    expect(await refused("session show foo=bar")).toBe("Invalid arguments: foo=bar \n");
    expect(await refused("cluster show --nosuch")).toBe('Invalid Flags: ["nosuch"]\n');
    expect(await refused("session disconnect client-id=")).toBe(
      'Empty value in argument: "client-id="\n',
    );
    expect(await refused("session show --limit=abc")).toContain('Invalid value: "abc"');
    expect(await refused("cluster show extra")).toContain("Usage: vmq-admin cluster <sub-command>");
    expect(await refused("session show --client_id=~[")).toContain("Invalid value");
  });

  it("draws tables as VerneMQ, gives JSON and CSV, and says what format is unknown", async () => {
    const broker = await startBroker({ nodename: "VerneMQ@127.0.0.1" });
    const answer = await broker.control("cluster", ["show"]);
    expect(answer.stdout).toBe(
      [
        "+-------------------+---------+",
        "| \u001b[1mNode\u001b[0m              | \u001b[1mRunning\u001b[0m |",
        "+-------------------+---------+",
        "| VerneMQ@127.0.0.1 | true    |",
        "+-------------------+---------+",
        "",
      ].join("\n"),
    );
    expect((await run(broker, "cluster show --format=json")).stdout).toBe(
      '{"type":"table","table":[{"Node":"VerneMQ@127.0.0.1","Running":true}]}',
    );
    expect((await run(broker, "cluster show --format csv")).stdout).toBe(
      "Node,Running\r\nVerneMQ@127.0.0.1,true\r\n",
    );
    const unknown = await run(broker, "cluster show --format=xml");
    expect(unknown.stdout).toContain("| VerneMQ@127.0.0.1 | true    |");
    expect(unknown.stderr).toBe('Invalid format "xml"! Defaulted to human-readable.\n');
  });

  it("runs commands of plugins with tables, texts and alerts, and without them when they go", async () => {
    const broker = await startBroker();
    broker.enablePlugin(
      definePlugin({
        name: "mine",
        hooks: ({ command }) => {
          command({
            path: ["mine", "show"],
            usage: "mine show [--reset] [limit=N]",
            help: "shows things",
            run: (args) =>
              args.has("reset")
                ? { alert: "no" }
                : ["hello\n", { columns: ["a"], rows: [[args.get("limit") ?? null]] }],
          });
          return {};
        },
      }),
    );
    expect(await json(broker, "mine show limit=3")).toEqual([
      { type: "text", text: "hello" },
      { type: "table", table: [{ a: "3" }] },
    ]);
    expect(await json(broker, "mine show --limit=3")).toEqual([
      { type: "text", text: "hello" },
      { type: "table", table: [{ a: "3" }] },
    ]);
    expect((await run(broker, "mine show --reset")).stdout).toBe("no\n");
    expect((await run(broker, "mine show --nosuch")).exit).toBe(1);
    broker.disablePlugin("mine");
    expect((await run(broker, "mine show")).stdout).toContain("Usage: vmq-admin <sub-command>");
  });
});

describe("session show", () => {
  it("has six default columns and filters without adding any", async () => {
    const broker = await startBroker();
    await connect(broker, "c1", { username: "bob" });
    await connect(broker, "c2", { protocolVersion: 5 });
    const six = ["client_id", "is_online", "mountpoint", "peer_host", "peer_port", "user"];
    expect(await columns(broker, "session show")).toEqual(six);
    expect(await columns(broker, "session show --client_id=c1")).toEqual(six);
    const [c1, ...none] = await rows(broker, "session show --client_id=c1");
    expect(c1).toMatchObject({ client_id: "c1", is_online: true, peer_host: "127.0.0.1" });
    expect(c1?.user).toBe("bob");
    expect(none).toEqual([]);
    expect(await rows(broker, "session show --client_id --protocol=5")).toEqual([
      { client_id: "c2" },
    ]);
    expect(await rows(broker, "session show --client_id --user=undefined")).toEqual([
      { client_id: "c2" },
    ]);
    expect(await rows(broker, "session show --client_id --client_id=~^c[12]$")).toHaveLength(2);
    expect((await run(broker, "session show --client_id=nobody")).stdout).toBe("");
    expect((await run(broker, "session show --user --client_id=c2")).stdout).toContain(
      "| undefined |",
    );
  });

  it("shows all 31 fields of a client that is away, session fields as null", async () => {
    const broker = await startBroker();
    await offline(broker);
    expect(await rows(broker, "session show --client_id --is_online=false")).toEqual([
      { client_id: "off1" },
    ]);
    const help = (await run(broker, "session show --help")).stdout;
    const fields = [...help.matchAll(/--(\w+)\[=<Value>\]/g)].map((found) => found[1]);
    expect(new Set(fields).size).toBe(31);
    const [row] = await rows(broker, `session show ${fields.map((name) => `--${name}`).join(" ")}`);
    expect(row).toMatchObject({
      statename: "offline",
      is_offline: true,
      num_sessions: 0,
      offline_messages: 2,
      online_messages: 0,
      clean_session: false,
      peer_host: null,
      user: null,
      protocol: null,
      session_pid: null,
      topic: "off/t",
      qos: 1,
      msg_qos: 1,
      routing_key: "off/t",
      payload: "offline one",
    });
    expect(Object.keys(row ?? {})).toHaveLength(31);
  });

  it("has a row for each subscription and each stored message", async () => {
    const broker = await startBroker();
    const client = await connect(broker, "c2", { protocolVersion: 5 });
    await client.subscribeAsync("$share/g/t", { qos: 1 });
    await client.subscribeAsync("a/x", { qos: 2, nl: true, rap: true });
    await connect(broker, "without");
    expect(await rows(broker, "session show --client_id --topic --qos --rap --no_local")).toEqual([
      { client_id: "c2", no_local: false, qos: 1, rap: false, topic: "$share/g/t" },
      { client_id: "c2", no_local: true, qos: 2, rap: true, topic: "a/x" },
    ]);
    expect(await rows(broker, "session show --topic=~^a/ --topic")).toEqual([{ topic: "a/x" }]);
    await client.endAsync();
    const other = await startBroker();
    await offline(other);
    expect(await rows(other, "session show --payload --client_id=off1")).toEqual([
      { payload: "offline one" },
      { payload: "offline two" },
    ]);
  });

  it("gives 100 rows unless --limit says otherwise", async () => {
    const broker = await startBroker();
    const all = Array.from({ length: 150 }, (_, at) => connect(broker, `many${at}`));
    await Promise.all(all);
    expect(await rows(broker, "session show")).toHaveLength(100);
    expect(await rows(broker, "session show --limit=200")).toHaveLength(150);
    expect(await rows(broker, "session show --limit 3")).toHaveLength(3);
  });
});

describe("session commands", () => {
  it("disconnect ends a client and keeps its subscriptions; --cleanup removes all", async () => {
    const broker = await startBroker();
    const client = await connect(broker, "c1", {
      protocolVersion: 5,
      clean: false,
      properties: { sessionExpiryInterval: 100 },
    });
    await client.subscribeAsync("a/b", { qos: 1 });
    const told = new Promise<number | undefined>((done) => {
      client.on("disconnect", (packet) => done(packet.reasonCode));
    });
    expect(await json(broker, "session disconnect client-id=c1")).toEqual({
      type: "text",
      text: "Done",
    });
    expect(await told).toBe(0x98);
    expect(await rows(broker, "session show --topic --client_id=c1")).toEqual([{ topic: "a/b" }]);
    expect((await run(broker, "session disconnect client-id=c1 --cleanup")).stdout).toBe("Done\n");
    expect(broker.sessions()).toEqual([]);
    expect(await run(broker, "session disconnect client-id=nobody")).toEqual({
      exit: 0,
      stdout: "Done\n",
      stderr: "",
    });
    expect((await run(broker, "session disconnect")).stdout).toMatch(
      /^vmq-admin session disconnect client-id=<ClientId>/,
    );
    expect((await json(broker, "session disconnect")).type).toBe("alert");
  });

  it("disconnect clients ends those named, batch spares those filtered", async () => {
    const broker = await startBroker();
    for (const id of ["a", "b", "c", "d"]) await connect(broker, id);
    await run(broker, "session disconnect clients client-ids=a,b");
    const left = () => broker.sessions().map(({ client_id }) => client_id);
    await waitFor("a and b are gone", () => left().length === 2);
    await run(broker, "session disconnect batch count=2 --filter-client-ids=c");
    await waitFor("d is gone", () => left().length === 1);
    expect(left()).toEqual(["c"]);
    await run(broker, "session disconnect batch count=1 --node=other@host");
    expect(left()).toEqual(["c"]);
    await run(broker, "session disconnect batch count=1 --node=other@host,VerneMQ@127.0.0.1");
    await waitFor("c is gone", () => left().length === 0);
  });

  it("unsubscribe removes a subscription and tells plugins only with --plugin", async () => {
    const told: unknown[] = [];
    const broker = await startBroker({}, [
      {
        name: "listener",
        hooks: { on_topic_unsubscribed: ({ topics }) => void told.push(topics) },
      },
    ]);
    const client = await connect(broker, "c1");
    await client.subscribeAsync(["a", "b"]);
    expect((await run(broker, "session unsubscribe client-id=c1 topic=a")).stdout).toBe("Done\n");
    expect(told).toEqual([]);
    await run(broker, "session unsubscribe topic=b client-id=c1 --plugin");
    await waitFor("the plugin hears", () => told.length === 1);
    expect(told).toEqual([["b"]]);
    expect(await rows(broker, "session show --topic")).toEqual([]);
    expect((await run(broker, "session unsubscribe client-id=c1 topic=x")).stdout).toBe("Done\n");
  });

  it("reauthorize says whether something changed", async () => {
    let allowed = true;
    const broker = await startBroker(
      {},
      [
        {
          name: "acl",
          hooks: { auth_on_subscribe: () => (allowed ? "ok" : { error: "not_allowed" }) },
        },
      ],
      { acceptAll: false },
    );
    const client = await connect(broker, "c1", { username: "bob" });
    await client.subscribeAsync("a");
    const line = "session reauthorize username=bob client-id=c1";
    expect((await run(broker, line)).stdout).toBe("Unchanged\n");
    allowed = false;
    expect((await run(broker, line)).stdout).toBe("Done\n");
    expect(await rows(broker, "session show --topic")).toEqual([]);
  });
});

describe("retain and queue commands", () => {
  it("show, filter and delete retained messages", async () => {
    const broker = await startBroker();
    const client = await connect(broker, "c");
    await client.publishAsync("room/1/tmp", "21.5", { retain: true, qos: 1 });
    await client.publishAsync("room/3/json", '{"a":1}', { retain: true, qos: 1 });
    expect(await columns(broker, "retain show")).toEqual(["payload", "topic"]);
    expect(await rows(broker, "retain show --topic")).toEqual([
      { topic: "room/1/tmp" },
      { topic: "room/3/json" },
    ]);
    expect(await rows(broker, "retain show --payload --topic=room/1/tmp")).toEqual([
      { payload: "21.5" },
    ]);
    expect(await rows(broker, "retain show --topic --topic=room/+/tmp")).toEqual([
      { topic: "room/1/tmp" },
    ]);
    expect((await run(broker, "retain delete")).stdout).toBe("No valid topic given.\n");
    expect((await run(broker, "retain delete --topic=room/1/tmp")).stdout).toBe("Done\n");
    expect((await run(broker, "retain delete -t nosuch")).stdout).toBe("Done\n");
    expect(broker.retained().map(({ topic }) => topic)).toEqual(["room/3/json"]);
    expect(await rows(broker, "retain delete-expired")).toEqual([{ expired: 0 }]);
  });

  it("queue show puts the longest first, queue messages shows no payload", async () => {
    const broker = await startBroker({ max_offline_messages: "2" });
    await offline(broker);
    const publisher = await connect(broker, "p");
    await publisher.publishAsync("off/t", "one too many", { qos: 1 });
    expect(await rows(broker, "queue show")).toEqual([
      {
        client_id: "off1",
        mountpoint: "",
        is_online: false,
        waiting: 2,
        in_flight: 0,
        dropped: 1,
        limit: 2,
      },
    ]);
    const messages = await rows(broker, "queue messages client-id=off1");
    expect(messages).toHaveLength(2);
    expect(messages[0]).toMatchObject({ state: "waiting", qos: 1, topic: "off/t", bytes: 11 });
    expect((await run(broker, "queue messages client-id=x")).stdout).toBe("there is no client x\n");
  });
});

describe("node, cluster and metrics commands", () => {
  it("show this node", async () => {
    const broker = await startBroker();
    await connect(broker, "c");
    const status = await rows(broker, "node status");
    expect(status.map(({ Status }) => Status)).toEqual([
      ...["num_online", "num_offline", "msg_in", "msg_out", "queue_in", "queue_out", "queue_drop"],
      ...["queue_unhandled", "num_subscriptions", "num_retained", "matches_local"],
      ...["matches_remote", "version"],
    ]);
    expect(status[0]).toEqual({ Status: "num_online", Value: 1 });
    expect((await run(broker, "cluster leave")).stdout).toBe("You have to provide a node\n");
    expect((await json(broker, "cluster join discovery-node=x@y")).type).toBe("alert");
    expect((await run(broker, "ping")).stdout).toBe("pong\n");
    expect((await run(broker, "version")).stdout).toMatch(/^\d+\.\d+\.\d+/);
  });

  it("node stop refuses clients until node start", async () => {
    const broker = await startBroker();
    const client = await connect(broker, "c");
    const closed = new Promise<void>((done) => {
      client.once("close", () => done());
    });
    await run(broker, "node stop");
    await closed;
    await expect(connect(broker, "d")).rejects.toThrow();
    await run(broker, "node start");
    await connect(broker, "e");
  });

  it("metrics show, describe, filter by labels and reset", async () => {
    const broker = await startBroker();
    await connect(broker, "c");
    await broker.sessions();
    const { stdout } = await run(broker, "metrics show");
    for (const line of stdout.trim().split("\n")) {
      expect(line).toMatch(/^(counter|gauge|histogram)\.\w+ = /);
    }
    expect(stdout).toContain("counter.mqtt_connect_received = 1\n");
    expect((await json(broker, "metrics show")).type).toBe("text");
    const described = (await run(broker, "metrics show -d")).stdout;
    expect(described).toContain(
      "# CONNECT packets received from clients.\ncounter.mqtt_connect_received = 1\n\n",
    );
    const refused = (await run(broker, "metrics show --return_code=not_authorized")).stdout;
    expect(refused).toBe("counter.mqtt_connack_sent = 0\n\n");
    const series = (await run(broker, "metrics show --mqtt_version=4 --aggregate=false")).stdout;
    expect(series.match(/counter\.mqtt_connack_sent = /g)).toHaveLength(6);
    expect((await run(broker, "metrics show --nosuch=1")).stdout).toBe('Invalid key: "nosuch"\n');
    const publisher = await connect(broker, "p");
    await publisher.publishAsync("r", "x", { retain: true, qos: 1 });
    expect((await run(broker, "metrics reset")).stdout).toBe("Done\n");
    const after = (await run(broker, "metrics show")).stdout;
    expect(after).toContain("counter.mqtt_connect_received = 0\n");
    expect(after).toContain("counter.mqtt_connack_sent = 0\n");
    expect(after).toContain("gauge.retain_messages = 1\n");
    expect(after).toContain("gauge.total_active_connections = 2\n");
    expect(after).toContain("gauge.queue_processes = 2\n");
  });
});

describe("settings", () => {
  it("are changed, and shown without passwords", async () => {
    const key = "vmq_bridge.tcp.b.password";
    let current = (): unknown => undefined;
    const settings = {
      "vmq_bridge.tcp.b": "127.0.0.1:1",
      [key]: "s3cret",
      "vmq_webhooks.w.secret": "s3cret",
    };
    const broker = await startBroker(settings, [], { dataDir: tempDir() });
    broker.enablePlugin(
      definePlugin({
        name: "reader",
        hooks: ({ config }) => {
          current = () => config(key);
          return {};
        },
      }),
    );
    for (const [line, shown] of [
      [`show ${key} vmq_webhooks.w.secret`, "***"],
      [`describe ${key}`, "now: ***"],
      ["config show app=vmq_webhooks", "***"],
      ["config show app=vmq_bridge --key=tcp.b.password", "Value: ***"],
      [`set ${key}=s3cret2`, `${key} set to "***"`],
      [`set --persist ${key}=s3cret3`, `${key} set to "***"`],
      ["config show app=vmq_bridge", "***"],
      ["config show app=vmq_bridge --format=json", "***"],
    ] as const) {
      const { stdout, stderr } = await run(broker, line);
      expect([line, stdout]).toEqual([line, expect.stringContaining(shown)]);
      expect([line, stdout + stderr]).toEqual([line, expect.not.stringContaining("s3cret")]);
    }
    expect(current()).toBe("s3cret3");
  });
});

describe("listener stop", () => {
  it("keeps open connections, and with --kill_sessions ends those of that listener", async () => {
    const broker = await startBroker({ "listener.tcp.other": "127.0.0.1:0" });
    const client = await connect(broker, "c1");
    const other = await connect(broker, "c2", { port: broker.port("tcp", "other") });
    const place = ["address=127.0.0.1", `port=${broker.port("tcp", "default")}`];
    const online = () => broker.sessions().flatMap((one) => (one.is_online ? [one.client_id] : []));
    await broker.control("listener", ["stop", ...place]);
    await client.publishAsync("still", "here", { qos: 1 });
    expect(online()).toEqual(["c1", "c2"]);
    await broker.control("listener", ["stop", ...place, "--kill_sessions"]);
    await waitFor("its end", () => !online().includes("c1"));
    await other.publishAsync("still", "here", { qos: 1 });
    expect(online()).toEqual(["c2"]);
    expect((await run(broker, "listener show")).stdout).not.toContain(`| ${place[1]?.slice(5)} `);
  });
});
