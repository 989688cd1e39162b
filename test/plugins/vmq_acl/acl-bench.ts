/**
 * Cost of one publish check of vmq_acl by number of rules; not part of the tests. Build first, or run
 * with a Node that strips types: `node dist/...` or `npx vite-node test/plugins/vmq_acl/acl-bench.ts`.
 */
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { HookFunction } from "../../../core/hooks/types.ts";
import { createAclPlugin } from "../../../plugins/vmq_acl/index.ts";

const CHECKS = 1_000_000;
const ROUNDS = 5;
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

function payload(topic: string, username: string) {
  return {
    username,
    subscriber_id: { mountpoint: "", client_id: "client-1" },
    qos: 0,
    topic,
    payload: Buffer.alloc(0),
    retain: false,
  };
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
    "user's rule": payload("plant/4/sensor/77/value", "user0"),
    "pattern ": payload("fleet0/user1/client-1/a/b", "user1"),
    "refused  ": payload("plant/999999/sensor/77/other", "user1"),
  };
  for (const [name, args] of Object.entries(cases)) {
    const times: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const start = performance.now();
      for (let i = 0; i < CHECKS; i++) ask(args);
      times.push(((performance.now() - start) * 1e6) / CHECKS);
    }
    const median = times.sort((a, b) => a - b)[ROUNDS >> 1] ?? 0;
    console.log(`${count} rules, ${name}: ${ask(args)}, ${median.toFixed(0)} ns per check`);
  }
  stop();
}
