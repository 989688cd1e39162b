/** Entries of `auth_cache`: where they are, what they share, and who goes when there are too many. */
import type { Logger, SessionContext } from "../../core/plugin-api.ts";
import { Acl, KEPT_TOPIC_CHARS, KEPT_TOPICS, OwnedAcl } from "./acl.ts";
import type { AclKind, CacheInsert } from "./acl-rule.ts";
import type { AclOwner } from "./acl-tree.ts";

export interface CacheLimits {
  /** Clients. */
  readonly entriesMax: number;
  /** Bytes of all entries and of the ACLs they share, as far as they can be counted. */
  readonly bytesMax: number;
}

export const CACHE_LIMITS: CacheLimits = { entriesMax: 1_000_000, bytesMax: 512 * 1024 * 1024 };

/** What an entry costs beside its text: objects, places in maps, the last topics. Rounded up. */
const ENTRY_BYTES = 700 + KEPT_TOPICS * KEPT_TOPIC_CHARS;
const ACL_BYTES = 500;
/** Entries in use that may be passed over when one has to go; bounds the time of an insert. */
const SECOND_CHANCES_MAX = 64;

/** A client's ACLs. */
export interface CacheEntry extends AclOwner {
  /** Final id of the session; the values in patterns are those of the insert. */
  mountpoint: string;
  clientId: string;
  readonly username: string;
  readonly script: string;
  readonly publish: OwnedAcl;
  readonly subscribe: OwnedAcl;
  readonly bytes: number;
  /** Greater = newer. */
  readonly order: number;
  /** Whose it is; undefined: of whoever has the client id. */
  session: WeakRef<SessionContext> | undefined;
  isDead: boolean;
  isUsed: boolean;
  hits: number;
  /** An older entry under the same id. */
  older: CacheEntry | undefined;
}

export interface CacheParts {
  readonly topicMaxDepth: number;
  readonly log: Pick<Logger, "warn" | "limited">;
  readonly limits?: CacheLimits;
}

/** All entries of a broker, by client id and in the order in which they go. */
export class CacheEntries {
  private readonly topicMaxDepth: number;
  private readonly log: CacheParts["log"];
  private readonly limits: CacheLimits;
  /** In the order of insertion, those in use behind others. */
  private readonly entries = new Set<CacheEntry>();
  /** By mountpoint and client id: the newest. */
  private readonly byId = new Map<string, Map<string, CacheEntry>>();
  private readonly acls = new Map<string, Acl>();
  private readonly dropped: (entry: CacheEntry) => void;
  private inserts = 0;
  /** Entries that are not of a session. */
  unbound = 0;
  /** Bytes of all that are in force or wait for it, with the ACLs that they share. */
  bytes = 0;
  evictions = 0;

  /** `dropped` is told of each entry that goes out of force. */
  constructor(
    { topicMaxDepth, log, limits = CACHE_LIMITS }: CacheParts,
    dropped: (entry: CacheEntry) => void,
  ) {
    this.dropped = dropped;
    this.topicMaxDepth = topicMaxDepth;
    this.log = log;
    this.limits = limits;
  }

  get size(): number {
    return this.entries.size;
  }

  /** An entry that is counted but not in force yet. */
  make(given: CacheInsert, script: string): CacheEntry {
    const { mountpoint, clientId, username } = given;
    const owner = { mountpoint, clientId, username };
    const publish = new OwnedAcl(this.acquire(given.publish), owner);
    const subscribe = new OwnedAcl(this.acquire(given.subscribe), owner);
    this.warn("publish_acl", publish.acl, owner, script);
    this.warn("subscribe_acl", subscribe.acl, owner, script);
    const chars = mountpoint.length + clientId.length + username.length;
    // No spread: an object that begins with one is a dictionary to V8.
    const entry: CacheEntry = {
      mountpoint,
      clientId,
      username,
      script,
      publish,
      subscribe,
      bytes: ENTRY_BYTES + 2 * chars,
      order: this.inserts++,
      session: undefined,
      isDead: false,
      isUsed: false,
      hits: 0,
      older: undefined,
    };
    this.bytes += entry.bytes;
    return entry;
  }

  /** The newest under an id. */
  newest(mountpoint: string, clientId: string): CacheEntry | undefined {
    return this.byId.get(mountpoint)?.get(clientId);
  }

  /** The one under an id that is not of a session. */
  unboundOf(mountpoint: string, clientId: string): CacheEntry | undefined {
    let entry = this.byId.get(mountpoint)?.get(clientId);
    while (entry?.session !== undefined) entry = entry.older;
    return entry;
  }

  /** All of a client id, whatever its mountpoint; without one all, oldest first. */
  *select(clientId: string | undefined): Generator<CacheEntry> {
    if (clientId === undefined) {
      yield* this.entries;
      return;
    }
    for (const clients of this.byId.values()) {
      for (let entry = clients.get(clientId); entry !== undefined; entry = entry.older) yield entry;
    }
  }

  /** Puts the entry in force under its id. */
  add(entry: CacheEntry): void {
    const { mountpoint, clientId } = entry;
    if (entry.session === undefined) {
      const replaced = this.unboundOf(mountpoint, clientId);
      if (replaced !== undefined) this.drop(replaced);
      this.unbound++;
    }
    const clients = this.byId.get(mountpoint) ?? new Map<string, CacheEntry>();
    this.byId.set(mountpoint, clients);
    entry.older = clients.get(clientId);
    clients.set(clientId, entry);
    this.entries.add(entry);
    this.makeRoom();
  }

  private makeRoom(): void {
    const { entriesMax, bytesMax } = this.limits;
    let chances = SECOND_CHANCES_MAX;
    while (this.entries.size > entriesMax || this.bytes > bytesMax) {
      const [oldest] = this.entries;
      if (oldest === undefined) return;
      if (oldest.isUsed && chances-- > 0) {
        oldest.isUsed = false;
        this.entries.delete(oldest);
        this.entries.add(oldest);
        continue;
      }
      this.drop(oldest);
      this.evictions++;
      this.log
        .limited("auth_cache full", 1)
        .warn("auth_cache is full: the least used client's checks go to the scripts", {
          client_id: oldest.clientId,
          entries: this.entries.size,
          bytes: this.bytes,
        });
    }
  }

  /** Takes an entry out of force. */
  drop(entry: CacheEntry): void {
    if (entry.isDead) return;
    this.entries.delete(entry);
    if (entry.session === undefined) this.unbound--;
    this.unlink(entry);
    this.release(entry);
    this.dropped(entry);
  }

  private unlink(entry: CacheEntry): void {
    const clients = this.byId.get(entry.mountpoint);
    let newer = clients?.get(entry.clientId);
    if (newer === entry) {
      if (entry.older !== undefined) clients?.set(entry.clientId, entry.older);
      else if (clients?.delete(entry.clientId) && clients.size === 0) {
        this.byId.delete(entry.mountpoint);
      }
      return;
    }
    while (newer !== undefined && newer.older !== entry) newer = newer.older;
    if (newer !== undefined) newer.older = entry.older;
  }

  private acquire(text: string): Acl {
    let acl = this.acls.get(text);
    if (acl === undefined) {
      acl = new Acl(text, this.topicMaxDepth);
      this.acls.set(text, acl);
      this.bytes += bytesOf(acl);
    }
    acl.users++;
    return acl;
  }

  /** Takes what an entry keeps out of the count; it is nowhere any more. */
  release(entry: CacheEntry): void {
    entry.isDead = true;
    this.bytes -= entry.bytes;
    for (const { acl } of [entry.publish, entry.subscribe]) {
      if (--acl.users > 0) continue;
      this.acls.delete(acl.text);
      this.bytes -= bytesOf(acl);
    }
  }

  private warn(list: AclKind, { fault }: Acl, { clientId, mountpoint }: AclOwner, script: string) {
    if (fault === undefined) return;
    const { rule, key, why } = fault;
    this.log
      .limited("auth_cache rule", 10)
      .warn(`auth_cache: ${list}[${rule}] refuses what its pattern covers: ${key} ${why}`, {
        script,
        client_id: clientId,
        mountpoint,
        key,
      });
  }
}

/** The text, and what the compiled rules take. */
function bytesOf(acl: Acl): number {
  return ACL_BYTES + 8 * acl.text.length;
}
