import { Message } from "../../../core/mqtt/message.ts";
import type {
  EntryState,
  Store,
  StoredSession,
  StoredSubscription,
  StoreEntry,
  StoreQueue,
} from "../../../core/store/types.ts";

/**
 * A store as plain data, and random changes that do the same to a store and to the data. A change is
 * data too, so that another process can tell what it did.
 */
export interface State {
  sessions: Record<string, SessionState>;
  retained: Record<string, unknown>;
  settings: Record<string, string>;
}

interface SessionState {
  session: unknown;
  subscriptions: Record<string, unknown>;
  inboundIds: number[];
  entries: Record<string, unknown>;
}

/** `q` queue id, `m` number that makes a message, `n` number that makes a session or subscription. */
export type Change =
  | { do: "session"; q: number; n: number }
  | { do: "deleteSession"; q: number }
  | { do: "subscription"; q: number; filter: string; n: number }
  | { do: "deleteSubscription"; q: number; filter: string }
  | { do: "inbound" | "deleteInbound"; q: number; id: number }
  | { do: "put"; q: number; seq: number; m: number; shared: boolean }
  | { do: "update"; q: number; seq: number; m: number; state: EntryState; id: number }
  | { do: "delete" | "forget"; q: number; seq: number }
  | { do: "retain" | "deleteRetained"; topic: number; m: number }
  | { do: "setting" | "deleteSetting"; key: string; value: string };

const FILTERS = [
  "a",
  "a/#",
  "+/ä/🐋",
  "",
  "$share/g/#",
  "\u0001\u007f",
  "a\u0000b",
  "a".repeat(300),
];
const MOUNTPOINTS = ["", "mandant-ü", "m"];
const TOPICS = ["t", "t/ö/🐳", "t//", " ", "x".repeat(400)];

export function emptyState(): State {
  return { sessions: {}, retained: {}, settings: {} };
}

/** Small seeded generator (mulberry32): the same numbers for the same seed. */
export function seededRandom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

function pick<Item>(items: readonly Item[], index: number): Item {
  const item = items[index % items.length];
  if (item === undefined) throw new Error("nothing to pick from");
  return item;
}

/** The last part of the topic is the number. */
export function messageOf(m: number, topic = `${pick(TOPICS, m)}/${m}`): Message {
  const payload = Buffer.alloc((m * 37) % 700, `payload ${m} `);
  const properties = m % 3 === 0 ? Buffer.from([0x26, 0, 1, 0x61, 0, 1, m & 0xff]) : undefined;
  const expiresAtMs = m % 4 === 0 ? 1_900_000_000_000 + m : 0;
  return new Message(
    pick(MOUNTPOINTS, m),
    topic,
    payload,
    m % 3,
    m % 2 === 0,
    properties,
    expiresAtMs,
  );
}

export function sessionOf(queueId: number, n: number): StoredSession {
  return {
    queueId,
    mountpoint: pick(MOUNTPOINTS, n),
    clientId: `client ${queueId} 🐙`,
    username: n % 2 === 0 ? undefined : `user ${n}`,
    protocolLevel: pick([3, 4, 5, 131, 132], n),
    sessionExpiryS: n % 3 === 0 ? 0xffffffff : n,
    expiresAtMs: n % 3 === 1 ? 1_800_000_000_000 + n : 0,
    online: n % 2 === 1,
    will: n % 4 === 0 ? { message: messageOf(n), delayS: n, expiryS: n - 1 } : undefined,
    willAtMs: n % 4 === 0 ? 1_700_000_000_000 + n : 0,
  };
}

export function subscriptionOf(filter: string, n: number): StoredSubscription {
  const subscription: StoredSubscription = {
    filter,
    qos: n % 3,
    noLocal: n % 2 === 0,
    retainAsPublished: n % 5 === 0,
    retainHandling: n % 3,
    subscriptionId: n % 4 === 0 ? 268_435_455 : n % 4,
  };
  if (n % 7 === 0) subscription.requestedFilter = `asked/${n}/ß`;
  return subscription;
}

export function entryOf(seq: number, message: Message | undefined, m: number): StoreEntry {
  return {
    seq,
    message,
    qos: 1 + (m % 2),
    retain: m % 5 === 0,
    subscriptionIds: m % 4 === 0 ? [1, m, 268_435_455] : undefined,
    packetId: 0,
    state: 0,
    stored: 0,
  };
}

export function describeMessage(message: Message | undefined): unknown {
  if (message === undefined) return null;
  return {
    mountpoint: message.mountpoint,
    topic: message.topic,
    payload: message.payload.toString("latin1"),
    qos: message.qos,
    retain: message.retain,
    properties: message.properties?.toString("hex") ?? null,
    expiresAtMs: message.expiresAtMs,
  };
}

export function describeEntry(entry: StoreEntry): unknown {
  return {
    seq: entry.seq,
    qos: entry.qos,
    retain: entry.retain,
    subscriptionIds: entry.subscriptionIds ?? null,
    packetId: entry.packetId,
    state: entry.state,
    message: describeMessage(entry.state === 2 ? undefined : entry.message),
  };
}

function describeSession(session: StoredSession): unknown {
  const { will } = session;
  return {
    ...session,
    username: session.username ?? null,
    will: will === undefined ? null : { ...will, message: describeMessage(will.message) },
  };
}

function retainedTopic(topic: number): string {
  return `retained/${topic}/ü`;
}

/** Does a change to the data. */
export function applyChange(state: State, change: Change): void {
  switch (change.do) {
    case "session": {
      const session = describeSession(sessionOf(change.q, change.n));
      const known = state.sessions[change.q];
      if (known !== undefined) known.session = session;
      else {
        state.sessions[change.q] = { session, subscriptions: {}, inboundIds: [], entries: {} };
      }
      return;
    }
    case "deleteSession":
      delete state.sessions[change.q];
      return;
    case "retain": {
      const message = messageOf(change.m, retainedTopic(change.topic));
      const described = { storedAtMs: change.m, message: describeMessage(message) };
      state.retained[`${message.mountpoint} ${message.topic}`] = described;
      return;
    }
    case "deleteRetained": {
      delete state.retained[`${messageOf(change.m).mountpoint} ${retainedTopic(change.topic)}`];
      return;
    }
    case "setting":
      state.settings[change.key] = change.value;
      return;
    case "deleteSetting":
      delete state.settings[change.key];
      return;
    default: {
      const session = state.sessions[change.q];
      if (session === undefined) throw new Error(`no session ${change.q}`);
      applyQueueChange(session, change);
    }
  }
}

function applyQueueChange(session: SessionState, change: Change): void {
  switch (change.do) {
    case "subscription":
      session.subscriptions[change.filter] = subscriptionOf(change.filter, change.n);
      return;
    case "deleteSubscription":
      delete session.subscriptions[change.filter];
      return;
    case "inbound":
    case "deleteInbound": {
      const ids = new Set(session.inboundIds);
      if (change.do === "inbound") ids.add(change.id);
      else ids.delete(change.id);
      session.inboundIds = [...ids].sort((a, b) => a - b);
      return;
    }
    case "put":
      session.entries[change.seq] = describeEntry(
        entryOf(change.seq, messageOf(change.m), change.m),
      );
      return;
    case "update": {
      const { seq, m, state, id } = change;
      const entry = { ...entryOf(seq, messageOf(m), m), state, packetId: id };
      session.entries[seq] = describeEntry(entry);
      return;
    }
    case "delete":
      delete session.entries[change.seq];
      return;
  }
}

/** Everything a store holds, by its public calls. Throws when a counter is wrong. */
export async function readState(store: Store): Promise<State> {
  const state = emptyState();
  for await (const loaded of store.loadSessions()) {
    const { queue, session } = loaded;
    const entries: Record<string, unknown> = {};
    let last = 0;
    for (;;) {
      const page = await store.readEntries(queue, last + 1, { limit: 7, bytesMax: 2000 });
      if (page.length === 0) break;
      for (const entry of page) {
        if (entry.seq <= last) throw new Error(`queue ${queue.id}: ${entry.seq} behind ${last}`);
        last = entry.seq;
        entries[last] = describeEntry(entry);
        store.forgetEntry(entry);
      }
    }
    const count = Object.keys(entries).length;
    if (queue.storedCount !== count || queue.nextSeq <= last) {
      throw new Error(`queue ${queue.id}: ${JSON.stringify(queue)} but ${count} up to ${last}`);
    }
    const subscriptions = Object.fromEntries(loaded.subscriptions.map((one) => [one.filter, one]));
    const inboundIds = [...loaded.inboundIds].sort((a, b) => a - b);
    state.sessions[queue.id] = {
      session: describeSession(session),
      subscriptions,
      inboundIds,
      entries,
    };
  }
  for await (const { message, storedAtMs } of store.loadRetained()) {
    const key = `${message.mountpoint} ${message.topic}`;
    state.retained[key] = { storedAtMs, message: describeMessage(message) };
  }
  state.settings = Object.fromEntries(await store.loadSettings());
  return state;
}

/** More entries in memory are deleted again, so that a long run stays small. */
const HELD_MAX = 60;

interface Held {
  q: number;
  m: number;
  entry: StoreEntry;
}

/**
 * Makes random changes to a store as a broker would: entries in memory are changed by their object,
 * forgotten ones have to be read first.
 */
export class Driver {
  readonly state: State;
  readonly #store: Store;
  readonly #random: (below: number) => number;
  readonly #queues = new Map<number, StoreQueue>();
  #held: Held[] = [];
  #messages = new Map<number, Message>();
  #lastMessage: number;

  /** Messages are numbered from `firstMessage`; one number is one content. */
  constructor(store: Store, random: (below: number) => number, state: State, firstMessage: number) {
    this.#store = store;
    this.#random = random;
    this.state = state;
    this.#lastMessage = firstMessage;
  }

  get lastMessage(): number {
    return this.#lastMessage;
  }

  /** Takes over the queues a store was opened with; their entries are not in memory. */
  async load(): Promise<void> {
    for await (const { queue } of this.#store.loadSessions()) this.#queues.set(queue.id, queue);
  }

  /** Makes one random change; `batch` holds it. */
  step(): { change: Change; batch: number } {
    const change = this.#choose();
    const batch = this.#perform(change);
    applyChange(this.state, change);
    return { change, batch };
  }

  /** Reads some page of some queue; whatever is not in memory is from now on. */
  async read(): Promise<{ found: unknown[]; expected: unknown[] }> {
    const queue = this.#anyQueue();
    if (queue === undefined) return { found: [], expected: [] };
    const random = this.#random;
    const descending = random(2) === 0;
    const fromSeq = random(queue.nextSeq + 2);
    const limit = 1 + random(20);
    const stored = Object.entries(this.state.sessions[queue.id]?.entries ?? {});
    const inRange = stored
      .filter(([seq]) => (descending ? Number(seq) <= fromSeq : Number(seq) >= fromSeq))
      .sort(([a], [b]) => (descending ? Number(b) - Number(a) : Number(a) - Number(b)));
    const expected = structuredClone(inRange.slice(0, limit).map(([, entry]) => entry));
    const options = { limit, bytesMax: 1_000_000, descending };
    const page = await this.#store.readEntries(queue, fromSeq, options);
    const found = page.map(describeEntry);
    for (const entry of page) this.#adopt(queue, entry);
    return { found, expected };
  }

  #adopt(queue: StoreQueue, entry: StoreEntry): void {
    const isHeld = this.#held.some((held) => held.q === queue.id && held.entry.seq === entry.seq);
    // A released entry has no message to tell its number by: it cannot be changed any more.
    if (isHeld || entry.message === undefined) this.#store.forgetEntry(entry);
    else {
      const m = Number(entry.message.topic.split("/").at(-1));
      this.#held.push({ q: queue.id, m, entry });
    }
  }

  #anyQueue(): StoreQueue | undefined {
    const queues = [...this.#queues.values()];
    return queues.length === 0 ? undefined : pick(queues, this.#random(queues.length));
  }

  #choose(): Change {
    const random = this.#random;
    const queue = this.#anyQueue();
    const dice = random(100);
    if (queue === undefined || (dice < 3 && this.#queues.size < 8)) {
      return { do: "session", q: this.#store.newQueueId(), n: random(50) };
    }
    const q = queue.id;
    const held = this.#held.length > 0 ? pick(this.#held, random(this.#held.length)) : undefined;
    const at = held && { q: held.q, seq: held.entry.seq };
    if (dice < 6) return { do: "session", q, n: random(50) };
    if (dice < 8) return { do: "deleteSession", q };
    if (dice < 13)
      return { do: "subscription", q, filter: pick(FILTERS, random(99)), n: random(50) };
    if (dice < 16) return { do: "deleteSubscription", q, filter: pick(FILTERS, random(99)) };
    if (dice < 21) return { do: "inbound", q, id: 1 + random(20) };
    if (dice < 25) return { do: "deleteInbound", q, id: 1 + random(20) };
    if (dice < 29) return { do: "retain", topic: random(6), m: 1 + random(99) };
    if (dice < 31) return { do: "deleteRetained", topic: random(6), m: 1 + random(99) };
    if (dice < 33)
      return { do: "setting", key: pick(FILTERS, random(99)), value: `v${random(9)}ü` };
    if (dice < 34) return { do: "deleteSetting", key: pick(FILTERS, random(99)), value: "" };
    if (at !== undefined && held !== undefined) {
      if (dice < 48 || this.#held.length > HELD_MAX) return { do: "delete", ...at };
      if (dice < 53) return { do: "forget", ...at };
      const state = held.entry.state === 2 || dice >= 60 ? 2 : 1;
      if (dice < 63) return { do: "update", ...at, m: held.m, state, id: 1 + random(65535) };
    }
    const shared = random(2) === 0;
    const m =
      shared && random(3) > 0 && this.#lastMessage > 0 ? this.#lastMessage : ++this.#lastMessage;
    return { do: "put", q, seq: queue.nextSeq, m, shared };
  }

  #perform(change: Change): number {
    const store = this.#store;
    switch (change.do) {
      case "session": {
        const first = { id: change.q, storedCount: 0, nextSeq: 1, nextPacketId: 1 };
        const queue = this.#queues.get(change.q) ?? first;
        this.#queues.set(queue.id, queue);
        return store.putSession(sessionOf(change.q, change.n), queue);
      }
      case "deleteSession": {
        this.#queues.delete(change.q);
        const batch = store.deleteSession(change.q);
        for (const held of this.#held) if (held.q === change.q) store.forgetEntry(held.entry);
        this.#held = this.#held.filter((held) => held.q !== change.q);
        return batch;
      }
      case "subscription":
        return store.putSubscription(change.q, subscriptionOf(change.filter, change.n));
      case "deleteSubscription":
        return store.deleteSubscription(change.q, change.filter);
      case "inbound":
        return store.putInboundId(change.q, change.id);
      case "deleteInbound":
        return store.deleteInboundId(change.q, change.id);
      case "retain": {
        const message = messageOf(change.m, retainedTopic(change.topic));
        return store.putRetained({ message, storedAtMs: change.m });
      }
      case "deleteRetained":
        return store.deleteRetained(messageOf(change.m).mountpoint, retainedTopic(change.topic));
      case "setting":
        return store.putSetting(change.key, change.value);
      case "deleteSetting":
        return store.deleteSetting(change.key);
      default:
        return this.#performOnEntry(change);
    }
  }

  #performOnEntry(change: Extract<Change, { seq: number }>): number {
    const queue = this.#queues.get(change.q);
    if (queue === undefined) throw new Error(`no queue ${change.q}`);
    if (change.do === "put") {
      queue.nextSeq++;
      queue.storedCount++;
      const entry = entryOf(change.seq, this.#message(change.m), change.m);
      this.#held.push({ q: change.q, m: change.m, entry });
      return this.#store.putEntry(queue, entry, change.shared);
    }
    const held = this.#held.find((one) => one.q === change.q && one.entry.seq === change.seq);
    if (held === undefined) throw new Error(`not in memory: ${change.seq}`);
    if (change.do === "update") {
      held.entry.state = change.state;
      held.entry.packetId = change.id;
      return this.#store.putEntry(queue, held.entry, false);
    }
    this.#held = this.#held.filter((one) => one !== held);
    if (change.do === "forget") {
      this.#store.forgetEntry(held.entry);
      return this.#store.committedBatch;
    }
    queue.storedCount--;
    return this.#store.deleteEntry(queue, held.entry);
  }

  /** Receivers of one message share the object. */
  #message(m: number): Message {
    let message = this.#messages.get(m);
    if (message === undefined) {
      message = messageOf(m);
      this.#messages = new Map([[m, message]]);
    }
    return message;
  }
}
