import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { connectAsync, type IClientOptions } from "mqtt";
import { beforeAll, describe, expect, it } from "vitest";
import { createBroker } from "../../core/broker.ts";
import type { Broker } from "../../core/broker-types.ts";
import { loadConfigured } from "../../core/hooks/configured.ts";
import { createLogger } from "../../core/logger.ts";
import { tempDir } from "../support/broker.ts";
import { atEnd } from "../support/cleanup.ts";

/** Every recorded command of `vmq-admin`, typed again; what we answer otherwise is in CHANGES, with the reason. */

interface Answer {
  readonly exit: number;
  /** Null: too long to be kept. */
  readonly stdout: string | null;
  readonly stderr: string;
}

interface Recording {
  readonly id: number;
  readonly command: string;
  readonly human?: Answer;
  readonly json?: Answer;
}

const ALL = readFileSync(new URL("golden/admin.jsonl", import.meta.url), "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line) as Recording);

interface Change {
  readonly exit?: number;
  /** In what a person sees. */
  readonly says?: RegExp;
  readonly why: string;
}

const DONE = "VerneMQ does it and then fails to answer";
const TELLS = "the same, and what to do";
const DEPLOYED = "a deployment must notice; the reason is on standard error";

const CHANGES: Readonly<Record<number, Change>> = {
  20: { says: /^Invalid value: "abc" for flag: limit/, why: "names what is wrong" },
  32: { says: /room\/1\/tmp/, why: "a filter with wildcards finds what it matches" },
  62: { says: /'\{already_started,<0\.\d+\.0>\}'/, why: "another process id" },
  82: { exit: 0, says: /vmq_acl:auth_on_publish\/6/, why: "VerneMQ fails" },
  87: { says: /^Can't enable plugin: nosuch due to plugin_not_found/, why: TELLS },
  95: { exit: 0, says: /^retry_interval set to "30"\n$/, why: DONE },
  96: { exit: 0, says: /^retry_interval set to "31"\n$/, why: DONE },
  98: { says: /^Unknown variable: nosuch\n/, why: TELLS },
  99: {
    says: /^The following config keys are not settable: \["topic_max_depth"\]\n/,
    why: TELLS,
  },
  100: { says: /^Error transforming datatype for: retry_interval\n"abc"/, why: TELLS },
  102: { exit: 0, says: /^Setting config across the cluster\n/, why: DONE },
  103: { exit: 0, says: /^allow_anonymous set to "on"\nmax_client_id_size set to "60"/, why: DONE },
  104: { says: /^retry_interval:\nSeconds without/, why: "words of our own" },
  106: { exit: 0, says: /set to "-1"/, why: DONE },
  108: { exit: 0, says: /set to "1d"/, why: DONE },
  111: { says: /^counter\.mqtt_connect_received = \d+\n/, why: "another order" },
  115: { says: /lua\/init\.lua/, why: "with states, hooks, calls and errors" },
  116: { why: "names what is wrong" },
  118: { exit: 1, why: DEPLOYED },
  119: { exit: 1, why: DEPLOYED },
  120: { says: /^$/, why: "on standard error, with the reason" },
  121: { says: /<dir>\/m\.lua/, why: "one table for all" },
  124: { exit: 1, why: DEPLOYED },
  125: { exit: 1, why: DEPLOYED },
  144: { says: /^[A-Za-z0-9]{32}\n$/, why: "another key" },
  145: { says: /^[A-Za-z0-9]{32}\n$/, why: "another key" },
  146: { says: /^\{error,invalid_scope\}\n$/, why: "names what is wrong" },
  151: { exit: 0, says: /^\{error,invalid_scope\}\n$/, why: "as other refusals of api-key" },
  154: { exit: 0, says: /^\{error,invalid_expiry_date\}\n$/, why: "as other refusals of api-key" },
  162: { exit: 0, says: /^(Done|there is no log console)/, why: DONE },
  163: { says: /^Invalid arguments: level=nosuch/, why: "names what is wrong" },
  165: { says: /log show <sub-command>/, why: "help of the longest known beginning" },
  168: { exit: 0, says: /^Done\n$/, why: DONE },
  169: { exit: 0, says: /^Done\n$/, why: DONE },
  173: { says: /^not_swc\n$/, why: "there is no such store" },
  174: { says: /^$/, why: "there is no such store" },
  207: { says: /^\+-+\+-+\+\n/, why: "the same table as in every format a person reads" },
  216: { exit: 0, says: /successfully reloaded/, why: "VerneMQ is broken by an earlier reload" },
  217: { exit: 0, says: /successfully unloaded/, why: "VerneMQ is broken by an earlier reload" },
  220: { why: "a client that only the recording has" },
};

/** Rows that depend on the machine, the time or the parts of the broker: only their columns are compared. */
const COLUMNS_ONLY = new Set([
  2, 9, 55, 56, 57, 58, 69, 71, 78, 79, 80, 81, 82, 155, 156, 161, 172,
]);
/** Cells that differ from run to run. */
const VOLATILE = ["peer_port", "msg_ref"];
const HELP = "<help text left out>";

interface World {
  readonly broker: Broker;
  readonly folder: string;
  connect(clientId: string, options?: IClientOptions): Promise<void>;
}

async function start(): Promise<World> {
  const folder = tempDir("file");
  writeFileSync(join(folder, "m.lua"), "hooks = {}\n");
  writeFileSync(join(folder, "bad.lua"), "hooks = {\n");
  writeFileSync(join(folder, "acl"), "topic #\n");
  writeFileSync(join(folder, "pw"), "");
  const loaded = await loadConfigured({
    values: {
      nodename: "VerneMQ18960@127.0.0.1",
      "listener.tcp.default": "127.0.0.1:0",
      "listener.http.default": "127.0.0.1:0",
      allow_anonymous: "on",
      "vmq_acl.acl_file": join(folder, "acl"),
      "vmq_passwd.password_file": join(folder, "pw"),
      "plugins.vmq_diversity": "on",
      "plugins.vmq_http_pub": "on",
    },
    dataDir: join(folder, "data"),
    cwd: folder,
  });
  if (loaded.config === undefined) throw new Error(loaded.errors.join("\n"));
  const broker = await createBroker({
    config: loaded.config,
    logger: createLogger({ level: "silent", destination: { write: () => undefined } }),
    plugins: [...loaded.plugins],
  });
  atEnd(() => broker.close(), "file");
  const open = async (clientId: string, options: IClientOptions = {}) => {
    const url = `mqtt://127.0.0.1:${broker.port()}`;
    const client = await connectAsync(url, { clientId, reconnectPeriod: 0, ...options });
    client.on("error", () => undefined);
    atEnd(() => client.endAsync(true), "file");
    return client;
  };
  const c1 = await open("c1", { username: "bob" });
  await c1.subscribeAsync({ "a/b": { qos: 1 }, "cmd/#": { qos: 0 } });
  const c2 = await open("c2", { protocolVersion: 5 });
  await c2.subscribeAsync("$share/g/t", { qos: 1 });
  await c2.subscribeAsync("x/y", { qos: 2, nl: true, rap: true });
  const off1 = await open("off1", { clean: false });
  await off1.subscribeAsync("off/t", { qos: 1 });
  await off1.endAsync();
  const kill5 = await open("kill5", { protocolVersion: 5 });
  await kill5.subscribeAsync("k/5");
  await open("meter-7");
  await c1.publishAsync("off/t", "offline one", { qos: 1 });
  await c1.publishAsync("off/t", "offline two", { qos: 1 });
  for (const [topic, payload] of [
    ["room/1/tmp", "21.5"],
    ["room/2/tmp", "19"],
    ["room/3/json", '{"a":1}'],
  ] as const) {
    await c1.publishAsync(topic, payload, { qos: 1, retain: true });
  }
  return {
    broker,
    folder,
    connect: async (clientId, options) => void (await open(clientId, options)),
  };
}

type Json = { type: string; table?: Record<string, unknown>[] };

/** An answer as JSON, in a form that two brokers can agree on. */
function comparable(json: string, id: number): unknown {
  const element: Json = JSON.parse(json);
  const { table } = element;
  // Blanks at the end of a text are no difference.
  if (table === undefined) return JSON.parse(json.replaceAll(/\s+"/g, '"'));
  const columns = Object.keys(table[0] ?? {}).sort();
  if (COLUMNS_ONLY.has(id)) return { type: "table", columns };
  const rows = table.map((row) => {
    const kept = Object.entries(row).filter(([name]) => !VOLATILE.includes(name));
    return JSON.stringify(Object.fromEntries(kept.sort(([a], [b]) => (a < b ? -1 : 1))));
  });
  return { type: "table", columns, rows: rows.sort() };
}

/** Headings of a drawn table, or the text itself; of help, the words of the command. */
function shape(stdout: string): string {
  const text = stdout.replaceAll("\u001b[1m", "").replaceAll("\u001b[0m", "");
  if (text.startsWith("+--")) {
    const [, head = ""] = text.split("\n");
    return head.replaceAll(/ +/g, " ");
  }
  const usage = /^(Usage: )?vmq-admin((?: [a-z][\w-]*)*)(?= <|$| [^a-z]| [a-z-]+=)/m.exec(text);
  return usage === null ? text : `help of${usage[2]}`;
}

describe("recorded commands", () => {
  let world: World;
  beforeAll(async () => {
    world = await start();
  });

  it.each(ALL)("$id: $command", async ({ id, command, human, json }) => {
    const { broker, folder } = world;
    if (id === 44)
      await world.connect("kill6", {
        protocolVersion: 5,
        clean: false,
        properties: { sessionExpiryInterval: 1000 },
      });
    const words = command.split(" ").filter(Boolean);
    // A busy machine may need longer than a row may take by default.
    if (id === 15) words.push("--rowtimeout=10000");
    const [first = "", ...rest] = words.map((word) => word.replaceAll("<dir>", folder));
    const run = async (...more: string[]) => {
      const answer = await broker.control(first, [...rest, ...more]);
      return { ...answer, stdout: answer.stdout.replaceAll(folder, "<dir>") };
    };
    const change = CHANGES[id];
    if (human !== undefined) {
      const answer = await run();
      if (change !== undefined) {
        expect(answer.exit).toBe(change.exit ?? human.exit);
        if (change.says !== undefined) expect(answer.stdout).toMatch(change.says);
      } else {
        expect(answer.exit).toBe(human.exit);
        if (human.stdout !== null) expect(shape(answer.stdout)).toBe(shape(human.stdout));
      }
    }
    if (json === undefined) return;
    const answer = await run("--format=json");
    expect(answer.exit).toBe(change?.exit ?? json.exit);
    if (change !== undefined || json.stdout === null || !json.stdout.startsWith("{")) return;
    if (json.stdout.includes(HELP)) return;
    expect(comparable(answer.stdout, id)).toEqual(comparable(json.stdout, id));
  });
});
