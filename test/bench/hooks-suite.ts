// The hooks suite: what a chain of plugins adds to a publish, in this process, without sockets.
import { createHook } from "node:async_hooks";
import { HookRegistry } from "../../core/hooks/registry.ts";
import type { Plugin } from "../../core/hooks/types.ts";
import { Message } from "../../core/mqtt/message.ts";
import { PublishCall } from "../../core/session/hook-arguments.ts";
import { median } from "./report.ts";
import type { SuiteOptions } from "./suites.ts";

/** More than this for three synchronous plugins misses the goal. */
const EXTRA_NS_MAX = 1000;
const PER_ROUND = 20_000;

const PAYLOAD = Buffer.alloc(100, "x");
const ID = { mountpoint: "", client_id: "bench" };
const CLOCK = { wallMs: () => 0 };
const OWNER = { context: {} };

/** A plugin as they are: looks at topic and client, passes on or accepts. */
function judge(name: string, answer: "ok" | "next"): Plugin {
  return {
    name,
    hooks: {
      auth_on_publish: ({ topic, subscriber_id }) =>
        topic.startsWith("forbidden/") && subscriber_id.client_id !== "" ? { error: "no" } : answer,
    },
  };
}

function registryWith(plugins: readonly Plugin[]): HookRegistry {
  const registry = new HookRegistry((plugin, hook, failure) => {
    throw new Error(`${plugin} ${hook}`, { cause: failure });
  });
  registry.enableAll(plugins);
  return registry;
}

/** Asks for one publish as the session does; counts what was allowed. */
function publishOnce(registry: HookRegistry, topic: string): number {
  const message = new Message("", topic, PAYLOAD, 0, false, undefined, 0);
  const chains = registry.global;
  if (!chains.isAsked("auth_on_publish")) return message.qos + 1;
  const call = new PublishCall(CLOCK, "user", ID, message, OWNER);
  return registry.ask("auth_on_publish", call, chains) === "ok" ? 1 : 0;
}

interface Row {
  readonly name: string;
  readonly registry: HookRegistry;
}

/** Rows in turn, so that a slow moment of the machine meets all of them. Gives ns per publish. */
function measure(rows: readonly Row[], seconds: number): Map<string, number> {
  const topics = Array.from({ length: 64 }, (_, i) => `bench/topic/${i}`);
  const rounds = new Map(rows.map(({ name }) => [name, [] as number[]]));
  const endMs = performance.now() + seconds * 1000 * rows.length;
  while (performance.now() < endMs) {
    for (const { name, registry } of rows) {
      const startMs = performance.now();
      let allowed = 0;
      for (let i = 0; i < PER_ROUND; i++) {
        allowed += publishOnce(registry, topics[i & 63] as string);
      }
      if (allowed !== PER_ROUND) throw new Error(`${name}: ${allowed} of ${PER_ROUND} allowed`);
      rounds.get(name)?.push(((performance.now() - startMs) * 1e6) / PER_ROUND);
    }
  }
  return new Map([...rounds].map(([name, all]) => [name, median(all)]));
}

/** Promises that the chain makes for one publish. */
function promisesOf(registry: HookRegistry): number {
  let made = 0;
  const hook = createHook({
    init: (_, type) => {
      if (type === "PROMISE") made++;
    },
  }).enable();
  publishOnce(registry, "bench/topic");
  hook.disable();
  return made;
}

/** Runs the suite and prints its table. Gives the exit status: 1 when the goal is missed. */
export async function runHooksSuite(options: SuiteOptions): Promise<number> {
  const three = [judge("a", "next"), judge("b", "next"), judge("c", "ok")];
  const rows: Row[] = [
    { name: "no plugin", registry: registryWith([]) },
    { name: "1 plugin", registry: registryWith([judge("c", "ok")]) },
    { name: "3 plugins", registry: registryWith(three) },
  ];
  const ns = measure(rows, options.seconds);
  const base = ns.get("no plugin") as number;
  const table = rows.map(({ name, registry }) => {
    const own = ns.get(name) as number;
    return {
      name,
      ns: own,
      extraNs: own - base,
      ratio: own / base,
      promises: promisesOf(registry),
    };
  });
  if (options.isJson) console.log(JSON.stringify({ suite: "hooks", rows: table }));
  else {
    console.log("plugins      ns/publish   extra ns   ratio   promises");
    for (const { name, ns: own, extraNs, ratio, promises } of table) {
      const numbers = [own.toFixed(0).padStart(10), extraNs.toFixed(0).padStart(10)];
      console.log(
        name.padEnd(12),
        ...numbers,
        ratio.toFixed(2).padStart(7),
        String(promises).padStart(10),
      );
    }
    console.log(`goal: 3 plugins add less than ${EXTRA_NS_MAX} ns and make no promise`);
  }
  const isMissed = table.some((row) => row.extraNs >= EXTRA_NS_MAX || row.promises > 0);
  return isMissed ? 1 : 0;
}
