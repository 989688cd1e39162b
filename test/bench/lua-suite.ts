// The lua suite: what decisions in Lua cost, in the same run as the same load without Lua.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AuthCache } from "../../plugins/vmq_diversity/auth-cache.ts";
import { faultOf, type LoadResult, pickGenerator, runLoad } from "./generator.ts";
import { startPeer } from "./peers.ts";
import { type Postgres, startPostgres } from "./postgres.ts";
import { repositoryRoot } from "./process.ts";
import { median } from "./report.ts";
import type { SuiteOptions } from "./suites.ts";

/** Added to the time of a run: set-up, drain, tear-down. */
const RUN_SLACK_MS = 25_000;
/** Enough to last some ten seconds; the target is a rate that lasts, so others go before. */
const CONNECTS = 10_000;
const CONNECTS_BEFORE = 3_000;
/** A publish that the cache answers must cost less. */
const CACHE_NS_MAX = 1500;

/** Looks at topic and QoS, as the target says. */
const PUBLISH_SCRIPT = `local function yes() return true end
local function publish(p)
  if p.qos <= 2 and p.topic ~= "forbidden" then return true end
  return false
end
hooks = { auth_on_register = yes, auth_on_subscribe = yes, auth_on_publish = publish }
`;

interface Row {
  readonly name: string;
  readonly what: string;
  readonly target: number;
  readonly args: (seconds: number) => string[];
  /** What is done before the measurement. */
  readonly before?: readonly string[];
  readonly rate: (result: LoadResult) => number;
  readonly withLua: readonly string[];
  readonly without: readonly string[];
}

function pairs(qos: number): (seconds: number) => string[] {
  return (seconds) => [
    ...["pubsub", "--pattern", "pairs", "--pubs", "10", "--subs", "10", "--qos", String(qos)],
    ...["--messages", "4000000000", "--duration", String(seconds), "--strict-order", "1"],
  ];
}

function connects(count: number): string[] {
  return ["connect", "--count", String(count), "--username", "bob", "--password", "secret"];
}

function luaSettings(folder: string, more: readonly string[] = []): string[] {
  return [
    "allow_anonymous = off",
    "plugins.vmq_acl = off",
    "plugins.vmq_passwd = off",
    "plugins.vmq_diversity = on",
    `vmq_diversity.script_dir = ${folder}`,
    ...more,
  ];
}

function rowsOf(
  folders: { publish: string; empty: string },
  postgres: Postgres | undefined,
): Row[] {
  const publish = {
    rate: (result: LoadResult) => result.recv_rate ?? 0,
    withLua: luaSettings(folders.publish),
    without: [],
  };
  const rows: Row[] = [
    {
      name: "lua-0",
      what: "pairs 10→10, QoS 0, messages/s",
      target: 100_000,
      args: pairs(0),
      ...publish,
    },
    {
      name: "lua-1",
      what: "pairs 10→10, QoS 1, messages/s",
      target: 60_000,
      args: pairs(1),
      ...publish,
    },
  ];
  if (postgres === undefined) {
    console.error("lua-register is left out: the package postgresql is not installed");
    return rows;
  }
  rows.push({
    name: "lua-register",
    what: "connect through PostgreSQL, crypt with bf 4, connects/s",
    target: 1000,
    args: () => connects(CONNECTS),
    before: connects(CONNECTS_BEFORE),
    rate: (result) => result.connect_rate ?? 0,
    withLua: luaSettings(folders.empty, [
      "vmq_diversity.auth_postgres.enabled = on",
      `vmq_diversity.auth_postgres.script = ${join(repositoryRoot(), "lua/auth/postgres.lua")}`,
      "vmq_diversity.postgres.host = 127.0.0.1",
      `vmq_diversity.postgres.port = ${postgres.port}`,
    ]),
    without: [],
  });
  return rows;
}

async function measure(row: Row, settings: readonly string[], seconds: number): Promise<number> {
  const peer = await startPeer("nautilus", false, settings);
  try {
    const timeoutMs = seconds * 1000 + RUN_SLACK_MS;
    if (row.before !== undefined) await runLoad(pickGenerator(), peer, row.before, timeoutMs);
    const result = await runLoad(pickGenerator(), peer, row.args(seconds), timeoutMs);
    const fault = faultOf(result);
    if (fault !== "") throw new Error(`${row.name}: ${fault}`);
    return row.rate(result);
  } finally {
    await peer.stop();
  }
}

/** Nanoseconds of a publish check that the cache answers, without sockets. */
function cacheNs(): number {
  const silent = { info() {}, warn() {}, error() {}, debug() {} };
  const cache = new AuthCache({ log: silent as never, topicMaxDepth: 10 });
  const patterns = ["a/+/c", "%u/%c/#", "site/+/+/state", "x/#", "fleet/%c/+"];
  const args = {
    username: "u",
    subscriber_id: { mountpoint: "", client_id: "c" },
    qos: 0,
    topic: "",
    payload: Buffer.alloc(0),
    retain: false,
    properties: {},
    context: {},
  };
  cache.insert(
    {
      mountpoint: "",
      clientId: "c",
      username: "u",
      publish: JSON.stringify(patterns.map((pattern) => ({ pattern }))),
      subscribe: "[]",
    },
    { script: "bench", id: 1, args },
  );
  const topics = Array.from({ length: 16 }, (_, i) => `fleet/c/${i}`);
  const rounds: number[] = [];
  for (let round = 0; round < 30; round++) {
    const startMs = performance.now();
    let allowed = 0;
    for (let i = 0; i < 20_000; i++) {
      args.topic = topics[i & 15] as string;
      if (cache.publish(args, false) === "ok") allowed++;
    }
    if (allowed !== 20_000) throw new Error(`the cache allowed ${allowed} of 20000`);
    rounds.push(((performance.now() - startMs) * 1e6) / 20_000);
  }
  return median(rounds);
}

/** Runs the suite and prints its table. Gives the exit status: 1 when a target is missed. */
export async function runLuaSuite(options: SuiteOptions): Promise<number> {
  const publish = mkdtempSync(join(tmpdir(), "bench-lua-"));
  const empty = mkdtempSync(join(tmpdir(), "bench-lua-"));
  writeFileSync(join(publish, "publish.lua"), PUBLISH_SCRIPT);
  const postgres = options.rows?.has("lua-register") === false ? undefined : await startPostgres();
  postgres?.sql(`CREATE EXTENSION pgcrypto; CREATE TABLE vmq_auth_acl (mountpoint varchar(10) NOT NULL,
    client_id varchar(128) NOT NULL, username varchar(128) NOT NULL, password varchar(128), publish_acl json,
    subscribe_acl json, CONSTRAINT vmq_auth_acl_primary_key PRIMARY KEY (mountpoint, client_id, username));
    INSERT INTO vmq_auth_acl VALUES ('', '*', 'bob', crypt('secret', gen_salt('bf', 4)),
    '[{"pattern": "#"}]', '[{"pattern": "#"}]')`);
  const lines: { name: string; what: string; lua: number; without: number; target: number }[] = [];
  try {
    for (const row of rowsOf({ publish, empty }, postgres)) {
      if (options.rows?.has(row.name) === false) continue;
      const [lua, without]: [number[], number[]] = [[], []];
      for (let run = 0; run < options.runs; run++) {
        lua.push(await measure(row, row.withLua, options.seconds));
        without.push(await measure(row, row.without, options.seconds));
        console.error(`${row.name} ${run + 1}/${options.runs}: ${lua.at(-1)?.toFixed(0)} with Lua`);
      }
      const { name, what, target } = row;
      lines.push({ name, what, lua: median(lua), without: median(without), target });
    }
  } finally {
    await postgres?.stop();
    for (const folder of [publish, empty]) rmSync(folder, { recursive: true, force: true });
  }
  const ns = cacheNs();
  if (options.isJson) console.log(JSON.stringify({ suite: "lua", rows: lines, cacheNs: ns }));
  else print(lines, ns, options);
  const isMissed = lines.some(({ lua, target }) => lua < target) || ns > CACHE_NS_MAX;
  return isMissed ? 1 : 0;
}

function print(
  lines: readonly { name: string; what: string; lua: number; without: number; target: number }[],
  ns: number,
  { runs, seconds }: SuiteOptions,
): void {
  console.log(`lua: medians of ${runs} runs of ${seconds} s, load by ${pickGenerator().name}`);
  for (const { name, what, lua, without, target } of lines) {
    const verdict = lua >= target ? "pass" : "fail";
    const part = ((lua / without) * 100).toFixed(1);
    console.log(
      `${name.padEnd(13)} ${what.padEnd(56)} ${lua.toFixed(0).padStart(8)} with Lua, ` +
        `${without.toFixed(0)} without (${part} %), target ${target}: ${verdict}`,
    );
  }
  const verdict = ns <= CACHE_NS_MAX ? "pass" : "fail";
  console.log(
    `auth_cache    a publish that it answers: ${ns.toFixed(0)} ns, target ${CACHE_NS_MAX}: ${verdict}`,
  );
}
