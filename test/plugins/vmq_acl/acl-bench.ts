/**
 * Cost of one publish check of vmq_acl by number of rules; not part of the tests.
 * Run: npx vite-node test/plugins/vmq_acl/acl-bench.ts
 */
import { rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { HookFunction } from "../../../core/hooks/types.ts";
import { createAclPlugin } from "../../../plugins/vmq_acl/index.ts";

const TOPICS = 100_000;
const ROUNDS = 9;
const quiet = { info: () => {}, warn: () => {}, error: () => {} };

/** A fifth for all, a tenth patterns, the rest for users with five topics each. */
function aclText(count: number): string {
  const lines: string[] = [];
  for (let i = 0; i < count / 5; i++) lines.push(`topic read site/${i}/+/state`);
  for (let i = 0; i < count / 10; i++) lines.push(`pattern write fleet${i}/%u/%c/#`);
  for (let i = 0; lines.length < count; i++) {
    if (i % 5 === 0) lines.push(`user user${i / 5}`);
    lines.push(`topic write plant/${i}/sensor/+/value`);
  }
  return `${lines.slice(0, count).join("\n")}\n`;
}

/** Fresh strings, as the decoder makes them: V8 remembers how a constant is split, real topics pay. */
function publishes(topic: string, username: string) {
  return Array.from({ length: TOPICS }, (_, i) => ({
    username,
    subscriber_id: { mountpoint: "", client_id: "client-1" },
    qos: 0,
    topic: Buffer.from(topic.replace("*", String(i))).toString("latin1"),
    payload: Buffer.alloc(0),
    retain: false,
  }));
}

for (const count of [10, 1_000, 10_000]) {
  const aclFile = join(tmpdir(), `acl-bench-${process.pid}.acl`);
  writeFileSync(aclFile, aclText(count));
  const { plugin, stop } = await createAclPlugin({
    aclFile,
    reloadIntervalS: 0,
    topicMaxDepth: 10,
    log: quiet,
  });
  const ask = plugin.hooks.auth_on_publish as HookFunction<"auth_on_publish">;
  const cases = {
    "user's rule": ["plant/4/sensor/*/value", "user0"],
    "pattern    ": ["fleet0/user1/client-1/a/*", "user1"],
    "refused    ": ["plant/999999/sensor/*/other", "user1"],
  } as const;
  for (const [name, [topic, username]] of Object.entries(cases)) {
    const times: number[] = [];
    let verdict: unknown;
    for (let round = 0; round < ROUNDS; round++) {
      const args = publishes(topic, username);
      const start = performance.now();
      for (const each of args) verdict = ask(each);
      times.push(((performance.now() - start) * 1e6) / TOPICS);
    }
    const [best = 0] = times.sort((a, b) => a - b);
    const median = times[ROUNDS >> 1] ?? 0;
    console.log(
      `${count} rules, ${name}: ${verdict}, best ${best.toFixed(0)} ns, median ${median.toFixed(0)} ns`,
    );
  }
  stop();
  rmSync(aclFile);
}
