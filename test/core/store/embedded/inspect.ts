import { ClassicLevel } from "classic-level";
import type { Level } from "../../../../core/store/embedded/database.ts";
import * as keys from "../../../../core/store/embedded/keys.ts";
import { decodeBody, decodeEntry, decodeNumber } from "../../../../core/store/embedded/records.ts";

/** The database without the store: what is really written, and ways to damage it. */
export async function withLevel<Result>(
  folder: string,
  work: (level: Level) => Promise<Result>,
): Promise<Result> {
  const level: Level = new ClassicLevel<Buffer, Buffer>(folder, {
    keyEncoding: "buffer",
    valueEncoding: "buffer",
  });
  await level.open();
  try {
    return await work(level);
  } finally {
    await level.close();
  }
}

/** How many keys of each prefix there are, `h` and `v` left out. */
export function countKeys(folder: string): Promise<Record<string, number>> {
  return withLevel(folder, async (level) => {
    const counts: Record<string, number> = {};
    for await (const key of level.keys()) {
      const prefix = String.fromCharCode(key[0] ?? 0);
      if (prefix !== "h" && prefix !== "v") counts[prefix] = (counts[prefix] ?? 0) + 1;
    }
    return counts;
  });
}

/** What is wrong inside: counts that do not match, records that belong to nothing. */
export function findFaults(folder: string): Promise<string[]> {
  return withLevel(folder, async (level) => {
    const faults: string[] = [];
    const sessions = new Set<number>();
    const references = new Map<number, number>();
    for await (const [key] of level.iterator(keys.prefixRange(keys.SESSION))) {
      sessions.add(keys.numberOf(key));
    }
    for (const prefix of [keys.ENTRY, keys.SUBSCRIPTION, keys.INBOUND_ID, keys.COUNTERS]) {
      for await (const [key, value] of level.iterator(keys.prefixRange(prefix))) {
        const id = keys.numberOf(key);
        if (!sessions.has(id)) faults.push(`${keys.describeKey(key)} has no session`);
        if (prefix !== keys.ENTRY) continue;
        const { ref } = decodeEntry(key, value);
        if (ref !== 0) references.set(ref, (references.get(ref) ?? 0) + 1);
      }
    }
    const counts = new Map<number, number>();
    for await (const [key, value] of level.iterator(keys.prefixRange(keys.BODY))) {
      counts.set(keys.numberOf(key), decodeBody(value).count);
    }
    for await (const [key, value] of level.iterator(keys.prefixRange(keys.BODY_COUNT))) {
      const ref = keys.numberOf(key);
      if (!counts.has(ref)) faults.push(`${keys.describeKey(key)} has no body`);
      counts.set(ref, decodeNumber(value));
    }
    for (const ref of new Set([...counts.keys(), ...references.keys()])) {
      const [counted, referred] = [counts.get(ref) ?? 0, references.get(ref) ?? 0];
      if (counted !== referred) faults.push(`body ${ref}: count ${counted}, entries ${referred}`);
    }
    for await (const key of level.keys(keys.prefixRange(keys.ASIDE))) {
      faults.push(`${keys.describeKey(key)} was set aside`);
    }
    for await (const key of level.keys(keys.prefixRange(keys.REMOVAL))) {
      faults.push(`${keys.describeKey(key)} was not finished`);
    }
    return faults;
  });
}
