import { readdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ClassicLevel } from "classic-level";
import { beforeEach, describe, expect, it } from "vitest";
import type { Level } from "../../../../core/store/embedded/database.ts";
import { EmbeddedStore } from "../../../../core/store/embedded/embedded-store.ts";
import * as keys from "../../../../core/store/embedded/keys.ts";
import { Driver, emptyState, readState, seededRandom, sessionOf } from "../model.ts";
import { describeStore, newQueue, put, seqs, textMessage } from "../suite.ts";
import { findFaults, withLevel } from "./inspect.ts";
import { during, newFolder, onlyQueue, turn } from "./world.ts";

/** The embedded store as a whole: the suite of every store, opening, restarts. */

let folder: string;

beforeEach(() => {
  folder = newFolder();
});

describeStore("embedded", () => new EmbeddedStore({ folder: newFolder() }));

describe("opening", () => {
  it("never reuses the number of a queue or a shared message, also without a proper end", async () => {
    const used = new Set<number>();
    let last = 0;
    for (let round = 0; round < 3; round++) {
      await during(folder, (store) => {
        for (let i = 0; i < 1700; i++) {
          last = store.newQueueId();
          expect(used.has(last)).toBe(false);
          used.add(last);
        }
      });
      await withLevel(folder, async (level) => {
        const reserve = await level.get(keys.textKey(keys.RESERVE, "queue"));
        expect(Number(reserve?.readUIntBE(1, 6))).toBeGreaterThan(last);
      });
    }
  });

  it("reads no entries to load sessions", async () => {
    await during(folder, (store) => {
      const queue = newQueue(store);
      for (let i = 0; i < 100; i++) put(store, queue, textMessage("x"));
    });
    const ranges: string[] = [];
    const createLevel = (path: string) => {
      const level: Level = new ClassicLevel<Buffer, Buffer>(path, {
        keyEncoding: "buffer",
        valueEncoding: "buffer",
      });
      const iterator = level.iterator.bind(level) as (options: object) => unknown;
      level.iterator = ((options: { gte: Buffer; limit: number }) => {
        // Looking at the last key of a range is fine.
        if (options.limit !== 1) ranges.push(String.fromCharCode(options.gte[0] ?? 0));
        return iterator(options);
      }) as Level["iterator"];
      return level;
    };
    await during(
      folder,
      async (store) => {
        expect((await onlyQueue(store)).storedCount).toBe(100);
      },
      { createLevel },
    );
    expect(ranges).toContain("s");
    expect(ranges).not.toContain("e");
    expect(ranges).not.toContain("m");
  });

  it("names the folder when another process has it", async () => {
    await during(folder, async () => {
      const other = new EmbeddedStore({ folder });
      await expect(other.open()).rejects.toMatchObject({
        code: "STORE_LOCKED",
        message: expect.stringContaining(folder),
      });
    });
  });

  it("names the folder when it cannot be one", async () => {
    writeFileSync(folder, "a file");
    const store = new EmbeddedStore({ folder });
    await expect(store.open()).rejects.toMatchObject({
      code: "STORE_OPEN",
      message: expect.stringContaining(folder),
    });
  });

  it("refuses the format of a later version", async () => {
    await during(folder, (store) => void store.putSetting("a", "b"));
    await withLevel(folder, async (level) => {
      const { RecordWriter } = await import("../../../../core/store/embedded/record-format.ts");
      const { encodeNumber } = await import("../../../../core/store/embedded/records.ts");
      await level.put(keys.FORMAT_KEY, encodeNumber(new RecordWriter(), 2));
    });
    const store = new EmbeddedStore({ folder });
    await expect(store.open()).rejects.toMatchObject({ code: "STORE_FORMAT" });
    await withLevel(folder, async () => {}); // it let the folder go
  });

  it.each(["a damaged MANIFEST", "a lost MANIFEST", "a lost CURRENT"])(
    "repairs the database once: %s",
    async (fault) => {
      await during(folder, (store) => {
        const queue = newQueue(store);
        for (let i = 0; i < 50; i++) put(store, queue, textMessage("x"));
      });
      const manifest = readdirSync(folder).find((name) => name.startsWith("MANIFEST"));
      const manifestPath = join(folder, manifest ?? "");
      if (fault === "a damaged MANIFEST") truncateSync(manifestPath, 3);
      else if (fault === "a lost MANIFEST") rmSync(manifestPath);
      else rmSync(join(folder, "CURRENT"));
      const repairs: unknown[] = [];
      await during(
        folder,
        async (store) => expect(await seqs(store, await onlyQueue(store))).toHaveLength(50),
        { onRepair: (cause) => repairs.push(cause) },
      );
      expect(repairs).toHaveLength(1);
    },
  );
});

describe("restarts", () => {
  it.each([11, 12, 13, 14])("keeps a model's state over restarts (seed %i)", async (seed) => {
    const random = seededRandom(seed);
    const state = emptyState();
    let lastMessage = 0;
    for (let round = 0; round < 8; round++) {
      await during(folder, async (store) => {
        expect(await readState(store)).toEqual(state);
        const driver = new Driver(store, random, state, lastMessage);
        await driver.load();
        for (let i = 0; i < 300; i++) {
          driver.step();
          const dice = random(40);
          if (dice === 0) await store.flush();
          if (dice === 1) await turn();
          if (dice > 36) {
            const { found, expected } = await driver.read();
            expect(found).toEqual(expected);
          }
        }
        lastMessage = driver.lastMessage;
        if (round % 2 === 0) await store.removalsDone();
      });
    }
    await during(folder, async (store) => {
      expect(await readState(store)).toEqual(state);
      await store.removalsDone();
      expect(store.status().sharedBodies).toBe(0);
    });
    expect(await findFaults(folder)).toEqual([]);
  });

  it("keeps a session of the state it was put in", async () => {
    await during(folder, (store) => {
      const queue = { id: store.newQueueId(), storedCount: 0, nextSeq: 1, nextPacketId: 1 };
      const session = sessionOf(queue.id, 3);
      store.putSession(session, queue);
      session.online = !session.online; // not put
    });
    await during(folder, async (store) => {
      for await (const { session } of store.loadSessions()) {
        expect(session.online).toBe(sessionOf(session.queueId, 3).online);
      }
    });
  });
});
