// The lua-cache suite: what a publish costs that auth_cache answers, in this process, without sockets.
import { HookRegistry } from "../../core/hooks/registry.ts";
import type { Plugin } from "../../core/hooks/types.ts";
import { Message } from "../../core/mqtt/message.ts";
import type { PluginHookArgs } from "../../core/plugin-api.ts";
import { PublishCall } from "../../core/session/hook-arguments.ts";
import type { AclRule } from "../../plugins/vmq_diversity/acl-rule.ts";
import { AuthCache } from "../../plugins/vmq_diversity/auth-cache.ts";
import { median } from "./report.ts";
import type { SuiteOptions } from "./suites.ts";

/** More than this for one publish misses the goal. */
const ANSWER_NS_MAX = 1500;
const PER_ROUND = 5000;
const CLIENTS = 100;

const PAYLOAD = Buffer.alloc(100, "x");
const CLOCK = { wallMs: () => 0 };
const LOG = { warn: () => undefined, limited: () => LOG } as unknown as ConstructorParameters<
  typeof AuthCache
>[0]["log"];

interface Row {
  readonly name: string;
  /** The rule that allows is the last. None: no entry, the plugin says ok itself. */
  readonly rules: readonly AclRule[];
  /** Topics that each client publishes to in turn. */
  readonly topics: number;
}

const OTHERS = (count: number): AclRule[] =>
  Array.from({ length: count }, (_, i) => ({ pattern: `devices/%c/other/${i}/#` }));
const OWN: AclRule = { pattern: "devices/%c/+", maxQos: 1, maxPayloadSize: 1000 };

const ROWS: readonly Row[] = [
  { name: "a plugin says ok", rules: [], topics: 1 },
  { name: "1 rule", rules: [OWN], topics: 1 },
  { name: "1 rule 4 topics", rules: [OWN], topics: 4 },
  { name: "10 rules 4 topics", rules: [...OTHERS(9), OWN], topics: 4 },
  { name: "10 rules 64 topics", rules: [...OTHERS(9), OWN], topics: 64 },
  { name: "50 rules 64 topics", rules: [...OTHERS(49), OWN], topics: 64 },
  {
    name: "modifiers",
    rules: [{ ...OWN, publish: { topic: "changed", qos: 1 } }],
    topics: 1,
  },
];

interface Asking {
  readonly name: string;
  /** One publish of the n-th kind; gives 1 when it was allowed. */
  readonly ask: (n: number) => number;
}

/** Publishes of many clients through the chain, as the session asks it. */
function asking({ name, rules, topics }: Row): Asking {
  const isCached = rules.length > 0;
  const cache = new AuthCache({ topicMaxDepth: 10, log: LOG });
  const plugin: Plugin = {
    name: "vmq_diversity",
    hooks: {
      auth_on_publish: (args) =>
        isCached
          ? (cache.publish(args as PluginHookArgs<"auth_on_publish">, false) ?? "next")
          : "ok",
    },
  };
  const registry = new HookRegistry((_plugin, _hook, failure) => {
    throw failure;
  });
  registry.enableAll([plugin]);
  const text = JSON.stringify(rules);
  const clients = Array.from({ length: CLIENTS }, (_, i) => {
    const id = { mountpoint: "", client_id: `client-${i}` };
    const owner = { context: {} };
    cache.insert(
      { mountpoint: "", clientId: id.client_id, username: "u", publish: text, subscribe: "[]" },
      { script: "bench.lua", id: 1, args: { subscriber_id: id, context: owner.context } },
    );
    const own = Array.from({ length: topics }, (_, t) => `devices/${id.client_id}/${t}`);
    return { id, owner, own };
  });
  return {
    name,
    ask: (n) => {
      const { id, owner, own } = clients[n % CLIENTS] as (typeof clients)[number];
      const topic = own[(n + Math.floor(n / CLIENTS)) % topics] as string;
      const message = new Message("", topic, PAYLOAD, 0, false, undefined, 0);
      const call = new PublishCall(CLOCK, "u", id, message, owner);
      const verdict = registry.ask("auth_on_publish", call, registry.global);
      return verdict === "ok" || "ok" in verdict ? 1 : 0;
    },
  };
}

/** Rows in turn, so that a slow moment of the machine meets all of them. Gives ns per publish. */
function measure(rows: readonly Asking[], seconds: number): Map<string, number> {
  const rounds = new Map(rows.map(({ name }) => [name, [] as number[]]));
  const endMs = performance.now() + seconds * 1000 * rows.length;
  while (performance.now() < endMs) {
    for (const { name, ask } of rows) {
      const startMs = performance.now();
      let allowed = 0;
      for (let i = 0; i < PER_ROUND; i++) allowed += ask(i);
      if (allowed !== PER_ROUND) throw new Error(`${name}: ${allowed} of ${PER_ROUND} allowed`);
      rounds.get(name)?.push(((performance.now() - startMs) * 1e6) / PER_ROUND);
    }
  }
  return new Map([...rounds].map(([name, all]) => [name, median(all)]));
}

/** Runs the suite and prints its table. Gives the exit status: 1 when the goal is missed. */
export async function runLuaCacheSuite(options: SuiteOptions): Promise<number> {
  const chosen = ROWS.filter(({ name }) => options.rows?.has(name) ?? true);
  const ns = measure(chosen.map(asking), options.seconds);
  if (options.isJson) {
    console.log(JSON.stringify({ suite: "lua-cache", rows: Object.fromEntries(ns) }));
  } else {
    console.log("publish answered by auth_cache   ns, hook chain included");
    for (const [name, own] of ns) console.log(name.padEnd(32), own.toFixed(0).padStart(8));
    console.log(`goal: less than ${ANSWER_NS_MAX} ns`);
  }
  return [...ns.values()].some((own) => own >= ANSWER_NS_MAX) ? 1 : 0;
}
