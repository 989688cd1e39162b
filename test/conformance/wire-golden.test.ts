import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, test } from "vitest";
import type { Broker } from "../../core/broker-types.ts";
import { startBroker } from "../support/broker.ts";
import { type Recording, replay } from "./wire-replay.ts";

const PARALLEL = 12;
function load(name: string): Recording[] {
  return readFileSync(join(import.meta.dirname, "golden", name), "utf8")
    .trim()
    .split("\n")
    .map((line) => {
      const [id, section, about, steps] = JSON.parse(line) as [string, string, string, string[]];
      return { id, section, about, steps };
    });
}
test("discover", async () => {
  const listeners: Record<string, string> = {};
  for (let i = 0; i < PARALLEL; i++) {
    listeners[`listener.tcp.w${i}`] = "127.0.0.1:0";
    listeners[`listener.tcp.w${i}.mountpoint`] = `w${i}`;
    listeners[`listener.tcp.w${i}.allowed_protocol_versions`] = "3,4,5,131,132";
  }
  const broker = await startBroker({
    ...listeners,
    topic_alias_max_client: "10",
    topic_alias_max_broker: "5",
  });
  const list = load("wire-a.jsonl");
  let at = 0;
  const bad: string[] = [];
  await Promise.all(
    Array.from({ length: PARALLEL }, async (_, w) => {
      for (;;) {
        const r = list[at++];
        if (!r) return;
        await replay(r, {
          broker,
          port: broker.port("tcp", `w${w}`),
          mountpoint: `w${w}`,
          credentials: {},
        }).catch((e) => bad.push(e.message));
      }
    }),
  );
  bad.sort();
  console.log(bad.join("\n\n"));
  console.log(bad.length, "of", list.length);
}, 300000);
