import { matches } from "../mqtt/topics.ts";
import type { Subscription } from "../routing/subscription.ts";
import { ENTRY_QUEUED, type StoreEntry } from "../store/types.ts";
import { Delivery } from "./delivery.ts";
import type { ClientQueue } from "./queue.ts";
import type { Subscriber } from "./subscriber.ts";

/** Entries read from the store at a time. */
export const PAGE_ENTRIES = 500;
export const PAGE_BYTES = 1_048_576;

const NOTHING: Promise<void> = Promise.resolve();

/**
 * What is done with the stored messages of one client beside sending them: a full queue is cut, expired
 * messages are swept out, those of shared subscriptions go to other members. One piece of work at a
 * time, in order; reads of pages for a session (queue.ts) wait in the same line.
 */
export class StoredWork {
  /** Oldest entries that still have to be removed from the store for new ones (drop_old). */
  trims = 0;
  /** Expired messages are being looked for. */
  isSweeping = false;
  private readonly queue: ClientQueue;
  private readonly subscriber: Subscriber;
  private last = NOTHING;

  constructor(queue: ClientQueue, subscriber: Subscriber) {
    this.queue = queue;
    this.subscriber = subscriber;
  }

  /** Does this when all earlier work is done. */
  run(work: () => Promise<void>): void {
    this.last = this.last.then(work).catch((cause: unknown) => {
      this.subscriber.core.log.error("queue could not be read from the store", {
        client_id: this.subscriber.clientId,
        cause: String(cause),
      });
      this.queue.pagingFailed();
    });
  }

  /** Removes the oldest entries; several calls in a turn become one read. */
  trimOldest(count = 1): void {
    const isRunning = this.trims > 0;
    this.trims += count;
    if (isRunning) return;
    this.run(async () => {
      let from = 0;
      while (this.trims > 0) {
        const { core } = this.subscriber;
        const entries = await core.store.readEntries(this.subscriber, from, {
          limit: Math.min(this.trims, PAGE_ENTRIES),
          bytesMax: PAGE_BYTES,
        });
        if (entries.length === 0) this.trims = 0;
        for (const entry of entries) {
          from = entry.seq + 1;
          if (this.trims > 0 && entry.state === ENTRY_QUEUED) {
            this.trims--;
            this.queue.drop(Delivery.from(entry), "queue_full");
          } else {
            core.store.forgetEntry(entry);
          }
        }
      }
    });
  }

  /** Removes the newest entries above a limit. */
  private async trimNewest(count: number): Promise<void> {
    const { core, nextSeq } = this.subscriber;
    const entries = await core.store.readEntries(this.subscriber, nextSeq, {
      limit: count,
      bytesMax: PAGE_BYTES,
      descending: true,
    });
    for (const entry of entries) {
      if (entry.state === ENTRY_QUEUED) this.queue.drop(Delivery.from(entry), "queue_full");
      else core.store.forgetEntry(entry);
    }
  }

  /** Removes expired messages of a client that is away, and what a full queue took in meanwhile. */
  sweep(): void {
    this.isSweeping = true;
    const { epoch } = this.queue;
    this.run(async () => {
      try {
        await this.sweepPages(epoch);
        const { maxOfflineMessages: limit } = this.subscriber.settings;
        const excess = this.queue.offlineSize - limit;
        if (epoch !== this.queue.epoch || limit <= 0 || excess <= 0) return;
        if (this.queue.dropsOld) this.trimOldest(excess);
        else await this.trimNewest(excess);
      } finally {
        this.isSweeping = false;
      }
    });
  }

  private sweepPages(epoch: number): Promise<void> {
    const { core } = this.subscriber;
    return this.forEach(epoch, (entry) => {
      const at = entry.message?.expiresAtMs ?? 0;
      const isExpired = at !== 0 && at <= core.wallMs() && entry.state === ENTRY_QUEUED;
      if (isExpired && epoch === this.queue.epoch) {
        this.queue.drop(Delivery.from(entry), "expired");
        return true;
      }
      if (entry.message !== undefined) this.queue.noteExpiry(entry.message);
      return false;
    });
  }

  /**
   * `shared_requeue_offline_after`: what waits only because of a shared subscription goes to another
   * member of its group, if there is one.
   */
  requeueShared(): void {
    const { epoch } = this.queue;
    this.run(() =>
      this.forEach(epoch, (entry) => epoch === this.queue.epoch && this.giveToGroup(entry)),
    );
  }

  private giveToGroup(entry: StoreEntry): boolean {
    const { message, state } = entry;
    if (message === undefined || state !== ENTRY_QUEUED) return false;
    const { core, subscriptions } = this.subscriber;
    let shared: Subscription | undefined;
    for (const subscription of subscriptions?.values() ?? []) {
      if (!matches(subscription.match, message.topic)) continue;
      if (subscription.group === "") return false;
      shared = subscription;
    }
    if (shared === undefined || !core.router.handOver(shared, message)) return false;
    this.subscriber.erase(Delivery.from(entry));
    return true;
  }

  /** Reads all entries, page by page, until a session attaches; those not taken stay as they are. */
  private async forEach(epoch: number, take: (entry: StoreEntry) => boolean): Promise<void> {
    const { core } = this.subscriber;
    let from = 0;
    while (epoch === this.queue.epoch && this.subscriber.storedCount > 0) {
      const entries = await core.store.readEntries(this.subscriber, from, {
        limit: PAGE_ENTRIES,
        bytesMax: PAGE_BYTES,
      });
      if (entries.length === 0) return;
      for (const entry of entries) {
        from = entry.seq + 1;
        if (!take(entry)) core.store.forgetEntry(entry);
      }
    }
  }
}
