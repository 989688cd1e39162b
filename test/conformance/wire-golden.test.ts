import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Broker } from "../../core/broker-types.ts";
import type { HookError, Plugin } from "../../core/hooks/types.ts";
import { startBroker } from "../support/broker.ts";
import { pluginWith } from "../support/plugins.ts";
import { CHANGES, NOT_PLAYED, UNORDERED } from "./wire-changes.ts";
import { type Recording, replay, type Stage } from "./wire-replay.ts";

/**
 * 557 conversations recorded from VerneMQ 2.2.0, played against our broker: what wire-changes.ts does
 * not name must be the same, packet by packet.
 */

const PARALLEL = 12;

function load(name: string): Recording[] {
  const lines = readFileSync(join(import.meta.dirname, "golden", name), "utf8")
    .trim()
    .split("\n");
  return lines.map((line) => {
    const [id, section, about, steps] = JSON.parse(line) as [string, string, string, string[]];
    const change = CHANGES.get(id);
    const played = change === undefined ? steps : [...steps.slice(0, change[0]), ...rest(change)];
    return { id, section, about, steps: played, isUnordered: UNORDERED.has(id) };
  });
}

function rest([, ...steps]: readonly [number, ...string[]]): string[] {
  return steps;
}

/** One listener per stage, so that scenarios running side by side do not see each other. */
function stageListeners(): Record<string, string> {
  const settings: Record<string, string> = {};
  for (let index = 0; index < PARALLEL; index++) {
    const key = `listener.tcp.stage${index}`;
    settings[key] = "127.0.0.1:0";
    settings[`${key}.mountpoint`] = `stage${index}`;
    settings[`${key}.allowed_protocol_versions`] = "3,4,5,131,132";
  }
  return settings;
}

/** Settings A of the recordings. */
const SETTINGS_A = {
  topic_alias_max_client: "10",
  topic_alias_max_broker: "5",
  "listener.tcp.only34": "127.0.0.1:0",
  "listener.tcp.only34.allowed_protocol_versions": "3,4",
  "listener.tcp.only5": "127.0.0.1:0",
  "listener.tcp.only5.allowed_protocol_versions": "5",
};

/** These were recorded on listeners of their own. */
const LISTENER_OF: Readonly<Record<string, string>> = {
  A118: "only34",
  A119: "only5",
  A120: "only5",
};

/** Settings B, without the plugins. */
const SETTINGS_B = {
  allow_anonymous: "off",
  max_message_size: "1024",
  max_inflight_messages: "2",
  retry_interval: "2",
  receive_max_broker: "3",
  max_client_id_size: "23",
  max_offline_messages: "3",
  max_online_messages: "5",
  topic_max_depth: "4",
  max_subscriptions_per_client: "3",
  suppress_lwt_on_session_takeover: "on",
};

/** Like vmq_passwd with the one user bob/bobpw, and vmq_acl with `topic t/#`. */
function passwordAndAcl(): Plugin {
  function register(args: { username: string | undefined; password: Buffer | undefined }) {
    if (args.username !== "bob" || args.password === undefined) return "next";
    const error: { error: HookError } = { error: "invalid_credentials" };
    return args.password.toString() === "bobpw" ? "ok" : error;
  }
  function publish({ topic }: { topic: string }) {
    return isAllowed(topic) ? "ok" : "next";
  }
  function subscribe({ topics }: { topics: readonly { topic: string }[] }) {
    return topics.every(({ topic }) => isAllowed(topic)) ? "ok" : "next";
  }
  return pluginWith({
    auth_on_register: register,
    auth_on_register_m5: register,
    auth_on_publish: publish,
    auth_on_publish_m5: publish,
    auth_on_subscribe: subscribe,
    auth_on_subscribe_m5: subscribe,
  });
}

/** `t/#` covers the whole topic or filter. */
function isAllowed(filter: string): boolean {
  return /^(\$share\/[^/]+\/)?t(\/|$)/.test(filter);
}

/** Plays a list with PARALLEL at a time; every test then reads its own result. */
function playAll(recordings: readonly Recording[], stages: readonly Stage[]) {
  const results = new Map<string, Promise<void>>();
  const waiting = [...recordings];
  const settle = new Map<string, (fault: unknown) => void>();
  for (const { id } of recordings) {
    const result = new Promise<void>((resolve, reject) => {
      settle.set(id, (fault) => (fault === undefined ? resolve() : reject(fault)));
    });
    result.catch(() => undefined);
    results.set(id, result);
  }
  for (const stage of stages) {
    void (async () => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const name = LISTENER_OF[next.id];
        const port = name === undefined ? stage.port : stage.broker.port("tcp", name);
        const fault = await replay(next, { ...stage, port }).then(
          () => undefined,
          (error: unknown) => error,
        );
        settle.get(next.id)?.(fault);
      }
    })();
  }
  return results;
}

function stagesOf(broker: Broker, common: Pick<Stage, "credentials" | "announced">): Stage[] {
  return Array.from({ length: PARALLEL }, (_, index) => ({
    ...common,
    broker,
    port: broker.port("tcp", `stage${index}`),
    mountpoint: `stage${index}`,
  }));
}

function describeGroup(
  title: string,
  file: string,
  start: () => Promise<{ broker: Broker; stages: Stage[] }>,
): void {
  describe(title, () => {
    const recordings = load(file).filter(({ id }) => NOT_PLAYED[id] === undefined);
    let results: Map<string, Promise<void>>;

    beforeAll(async () => {
      results = playAll(recordings, (await start()).stages);
    });
    afterAll(async () => {
      await Promise.allSettled(results.values());
    });
    test.each(recordings.map(({ id, section, about }) => [id, section, about]))(
      "%s %s: %s",
      { timeout: 60_000 },
      async (id) => {
        await results.get(id);
      },
    );
  });
}

describeGroup("recorded with open settings (A)", "wire-a.jsonl", async () => {
  const settings = { ...stageListeners(), ...SETTINGS_A };
  const broker = await startBroker(settings, [], { scope: "file" });
  return { broker, stages: stagesOf(broker, { credentials: {}, announced: {} }) };
});

describeGroup("recorded with limits, passwords and an ACL (B)", "wire-b.jsonl", async () => {
  const settings = { ...stageListeners(), ...SETTINGS_B };
  const options = { scope: "file", acceptAll: false } as const;
  const broker = await startBroker(settings, [passwordAndAcl()], options);
  const credentials = { username: "bob", password: "bobpw" };
  const announced = { maximumPacketSize: 1024 };
  return { broker, stages: stagesOf(broker, { credentials, announced }) };
});

test("every change on purpose names a recording", () => {
  const ids = new Set([...load("wire-a.jsonl"), ...load("wire-b.jsonl")].map(({ id }) => id));
  expect(ids.size).toBe(557);
  for (const id of [...CHANGES.keys(), ...UNORDERED, ...Object.keys(NOT_PLAYED)]) {
    expect(ids.has(id), id).toBe(true);
  }
});
