import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { EmbeddedStore } from "../../../../core/store/embedded/embedded-store.ts";
import {
  applyChange,
  type Change,
  emptyState,
  readState,
  type State,
  seededRandom,
} from "../model.ts";
import { findFaults } from "./inspect.ts";

interface Line {
  change?: Change;
  batch?: number;
  committed?: number;
  error?: string;
  lastMessage?: number;
}

const VITE_NODE = join(process.cwd(), "node_modules/vite-node/vite-node.mjs");
const CHILD = join(import.meta.dirname, "kill-child.ts");

/** Runs until it has seen `commits` commits and is then killed, wherever it is at that moment. */
function runAndKill(args: string[], commits: number): Promise<void> {
  const child: ChildProcess = spawn(process.execPath, [VITE_NODE, CHILD, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let seen = 0;
  child.stdout?.on("data", (chunk: Buffer) => {
    for (const byte of chunk) if (byte === 10) seen++;
    if (seen >= commits) child.kill("SIGKILL");
  });
  return new Promise((resolve, reject) => {
    child.on("exit", (code, signal) => {
      if (signal === "SIGKILL") resolve();
      else reject(new Error(`the child ended by itself: ${code}`));
    });
  });
}

/** The states the store may be found in: after the last commit told, or any batch after it. */
function statesAfter(start: State, lines: Line[]): State[] {
  const changes = lines.filter((line) => line.change !== undefined);
  const committed = Math.max(0, ...lines.map((line) => line.committed ?? 0));
  const state = structuredClone(start);
  let next = 0;
  const applyUpTo = (batch: number) => {
    for (; (changes[next]?.batch ?? Number.POSITIVE_INFINITY) <= batch; next++) {
      const { change } = changes[next] ?? {};
      if (change !== undefined) applyChange(state, change);
    }
  };
  applyUpTo(committed);
  const states = [structuredClone(state)];
  for (let batch = changes[next]?.batch; batch !== undefined; batch = changes[next]?.batch) {
    applyUpTo(batch);
    states.push(structuredClone(state));
  }
  return states;
}

describe("embedded store, killed", () => {
  let root: string;

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "nautilus-kill-"));
  });

  afterEach(() => rmSync(root, { recursive: true, force: true }));

  it("has everything that was told committed, and of the rest whole batches in order", async () => {
    const folder = join(root, "store");
    const random = seededRandom(2024);
    let state = emptyState();
    let lastMessage = 0;
    const queueIds = new Set<string>();
    let committed = 0;
    for (let round = 0; round < 6; round++) {
      const journal = join(root, `journal-${round}`);
      const args = [folder, journal, String(round), String(lastMessage)];
      await runAndKill(args, 2 + random(round % 2 === 0 ? 20 : 300));
      const text = readFileSync(journal, "utf8");
      const lines = text
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line) as Line);
      expect(lines.filter((line) => line.error !== undefined)).toEqual([]);
      committed += lines.filter((line) => line.committed !== undefined).length;
      lastMessage = Math.max(lastMessage, ...lines.map((line) => line.lastMessage ?? 0));

      // Numbers of queues that earlier rounds ever stored are not used for new ones.
      for (const { change } of lines) {
        if (change?.do !== "session" || change.q in state.sessions) continue;
        const id = `${round} ${change.q}`;
        for (let before = 0; before < round; before++) {
          expect(queueIds.has(`${before} ${change.q}`)).toBe(false);
        }
        queueIds.add(id);
      }

      const store = new EmbeddedStore({ folder });
      await store.open();
      const found = await readState(store);
      expect(store.status().damaged).toBe(0);
      await store.removalsDone();
      expect(await readState(store)).toEqual(found);
      await store.close();
      const possible = statesAfter(state, lines).map((one) => JSON.stringify(sorted(one)));
      const index = possible.indexOf(JSON.stringify(sorted(found)));
      if (index < 0) expect(sorted(found)).toEqual(JSON.parse(possible[0] ?? "{}"));
      expect(await findFaults(folder)).toEqual([]);
      state = found;
    }
    expect(committed).toBeGreaterThan(100);
  }, 120_000);
});

/** The same value with keys in one order, so that equal states are equal texts. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const pairs = Object.entries(value).filter(([, inner]) => inner !== undefined);
  return Object.fromEntries(
    pairs.sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, inner]) => [key, sorted(inner)]),
  );
}
