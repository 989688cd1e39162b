import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import {
  EmbeddedStore,
  type EmbeddedStoreOptions,
} from "../../../../core/store/embedded/embedded-store.ts";
import type { StoreQueue } from "../../../../core/store/types.ts";

/** Embedded stores in folders of their own, which are gone when the file's tests have run. */

const root = mkdtempSync(join(tmpdir(), "nautilus-store-"));
let folders = 0;

afterAll(() => rmSync(root, { recursive: true, force: true }));

/** Where a store may be; there is nothing yet. */
export function newFolder(): string {
  return join(root, String(++folders));
}

export async function openStore(options: EmbeddedStoreOptions): Promise<EmbeddedStore> {
  const store = new EmbeddedStore(options);
  await store.open();
  return store;
}

/** Opens, works, closes: everything is on disk afterwards. */
export async function during<Result>(
  folder: string,
  work: (store: EmbeddedStore) => Promise<Result> | Result,
  options: Partial<EmbeddedStoreOptions> = {},
): Promise<Result> {
  const store = await openStore({ folder, ...options });
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

export async function onlyQueue(store: EmbeddedStore): Promise<StoreQueue> {
  for await (const { queue } of store.loadSessions()) return queue;
  throw new Error("no session");
}

/** Until everything of this turn of the event loop is done. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
