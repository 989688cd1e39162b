import type { Core, Subscriber } from "../session/manager.ts";
import { ENTRY_QUEUED, type StoreEntry } from "../store/types.ts";
import type { Cell } from "./elements.ts";
import { cellsOf, inSlices, isSelected, type Row, type Selection } from "./fields.ts";

/** Fields of a queue, which every client has. */
export const QUEUE_FIELDS = {
  node: "node that has the queue",
  mountpoint: "mountpoint, empty by default",
  client_id: "client id",
  queue_pid: "number of the queue",
  queue_size: "never known",
  is_offline: "true when the client is not connected",
  is_online: "true when the client is connected",
  statename: "online or offline",
  deliver_mode: "fanout or balance, for several sessions of a client",
  offline_messages: "messages stored for a client that is away",
  online_messages: "messages that wait for a connected client",
  num_sessions: "connected sessions",
  clean_session: "true when nothing stays behind the connection",
  is_plugin: "true for a queue of a plugin",
  queue_started_at: "milliseconds since 1970",
} as const;

/** Fields of a connection; null without one. */
export const SESSION_FIELDS = {
  session_pid: "number of the session",
  user: "user name",
  peer_host: "address of the client",
  peer_port: "port of the client",
  protocol: "3, 4 or 5",
  waiting_acks: "messages sent and not acknowledged",
  session_started_at: "milliseconds since 1970",
} as const;

/** Fields of a subscription: a row for each. */
export const SUBSCRIPTION_FIELDS = {
  topic: "subscribed topic filter, one row for each",
  qos: "QoS of the subscription",
  rap: "retain as published",
  no_local: "no messages of its own",
} as const;

/** Fields of a stored message: a row for each. */
export const MESSAGE_FIELDS = {
  msg_ref: "number of a stored message, one row for each",
  msg_qos: "QoS of the message",
  routing_key: "topic of the message",
  dup: "sent before",
  payload: "payload of the message",
} as const;

/** Messages of one client that are read at most; the limit of rows ends it earlier. */
const MESSAGES_MAX = 1000;
const MESSAGE_BYTES_MAX = 8 * 1024 * 1024;

type Kind = "session" | "subscription" | "message";

const KIND_OF = new Map<string, Kind>([
  ...Object.keys(SESSION_FIELDS).map((name): [string, Kind] => [name, "session"]),
  ...Object.keys(SUBSCRIPTION_FIELDS).map((name): [string, Kind] => [name, "subscription"]),
  ...Object.keys(MESSAGE_FIELDS).map((name): [string, Kind] => [name, "message"]),
]);

/** Rows of clients that a selection asks for, up to its limit; other clients have their turn meanwhile. */
export async function sessionRows(core: Core, selection: Selection): Promise<Cell[][]> {
  const { limit, filters, needed } = selection;
  const kinds = new Set([...needed].map((field) => KIND_OF.get(field)));
  const of = (kind: Kind | undefined) => filters.filter(({ field }) => KIND_OF.get(field) === kind);
  const early = of(undefined);
  const late = filters.filter(({ field }) => KIND_OF.get(field) !== undefined);
  const rows: Cell[][] = [];
  for await (const subscriber of inSlices(core.manager.subscribers.values())) {
    const queue = queueRow(core, subscriber);
    if (!isSelected(queue, early)) continue;
    let found: Row[] = kinds.has("session") ? withSessions(core, subscriber, queue) : [queue];
    found = found.filter((row) => isSelected(row, of("session")));
    if (found.length > 0 && kinds.has("subscription")) found = withSubscriptions(subscriber, found);
    if (found.length > 0 && kinds.has("message")) {
      found = await withMessages(core, subscriber, found, selection.rowTimeoutMs);
    }
    for (const row of found) {
      if (!isSelected(row, late)) continue;
      rows.push(cellsOf(selection, row));
      if (rows.length >= limit) return rows;
    }
  }
  return rows;
}

function queueRow(core: Core, subscriber: Subscriber): Row {
  const { isOnline, sessions } = subscriber;
  return {
    node: core.cluster.nodeName,
    mountpoint: subscriber.mountpoint,
    client_id: subscriber.clientId,
    queue_pid: pidOf(subscriber),
    queue_size: null,
    is_offline: !isOnline,
    is_online: isOnline,
    statename: isOnline ? "online" : "offline",
    deliver_mode: subscriber.settings.queueDeliverMode,
    offline_messages: isOnline ? 0 : subscriber.queue.offlineSize,
    online_messages: sessions.reduce((sum, { out }) => sum + out.queue.size, 0),
    num_sessions: sessions.length,
    clean_session: subscriber.sessionExpiryS === 0,
    is_plugin: core.manager.isOfPlugin(subscriber),
    queue_started_at: subscriber.startedAtMs,
  };
}

const AWAY: Row = Object.fromEntries(Object.keys(SESSION_FIELDS).map((name) => [name, null]));

function withSessions(core: Core, subscriber: Subscriber, queue: Row): Row[] {
  const { sessions } = subscriber;
  if (sessions.length === 0) return [{ ...queue, ...AWAY }];
  return sessions.map((session) => ({
    ...queue,
    session_pid: pidOf(session),
    user: session.username,
    peer_host: session.transport.peer.address,
    peer_port: session.transport.peer.port,
    protocol: session.level,
    waiting_acks: session.out.inflight.count,
    session_started_at: Math.round(core.wallMs() - (core.wheel.refresh() - session.connectedAtMs)),
  }));
}

function withSubscriptions(subscriber: Subscriber, rows: readonly Row[]): Row[] {
  const subscriptions = [...(subscriber.subscriptions?.values() ?? [])];
  return rows.flatMap((row) =>
    subscriptions.map(({ filter, qos, retainAsPublished, noLocal }) => ({
      ...row,
      topic: filter,
      qos,
      rap: retainAsPublished,
      no_local: noLocal,
    })),
  );
}

/** One row for each message that is stored for a client; a store that does not answer leaves it out. */
async function withMessages(
  core: Core,
  subscriber: Subscriber,
  rows: readonly Row[],
  timeoutMs: number,
): Promise<Row[]> {
  const entries = await waitingMessages(core, subscriber, MESSAGES_MAX, timeoutMs);
  return rows.flatMap((row) =>
    entries.map((entry) => ({
      ...row,
      msg_ref: messageRef(subscriber.id, entry.seq),
      msg_qos: entry.qos,
      routing_key: entry.message?.topic ?? null,
      dup: entry.state !== ENTRY_QUEUED,
      payload: entry.message === undefined ? null : entry.message.payload.toString("utf8"),
    })),
  );
}

/**
 * Messages that wait for a client, oldest first: in memory while it is connected, in the store while it
 * is away. Empty when reading takes longer than `timeoutMs`.
 */
export function waitingMessages(
  core: Core,
  subscriber: Subscriber,
  limit: number,
  timeoutMs: number,
): StoreEntry[] | Promise<StoreEntry[]> {
  const { session } = subscriber;
  if (session !== undefined) {
    const inFlight = session.out.inflight.ordered();
    return [...inFlight, ...session.out.queue.inMemory(limit)].slice(0, limit);
  }
  if (!subscriber.isStored || subscriber.storedCount === 0) return [];
  return storedMessages(core, subscriber, limit, timeoutMs);
}

async function storedMessages(
  core: Core,
  subscriber: Subscriber,
  limit: number,
  timeoutMs: number,
): Promise<StoreEntry[]> {
  const reading = core.store.readEntries(subscriber, 0, { limit, bytesMax: MESSAGE_BYTES_MAX });
  const forget = (entries: StoreEntry[]): void => {
    for (const entry of entries) core.store.forgetEntry(entry);
  };
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((done) => {
    timer = setTimeout(() => done(undefined), timeoutMs);
  });
  try {
    const entries = await Promise.race([reading, late]);
    if (entries === undefined) {
      void reading.then(forget, () => undefined);
      return [];
    }
    forget(entries);
    return entries;
  } finally {
    clearTimeout(timer);
  }
}

/** As long as VerneMQ's references: 16 bytes. */
function messageRef(queueId: number, seq: number): string {
  const bytes = Buffer.alloc(16);
  bytes.writeBigUInt64BE(BigInt(queueId), 0);
  bytes.writeBigUInt64BE(BigInt(seq), 8);
  return bytes.toString("base64");
}

const pids = new WeakMap<object, string>();
let pidCount = 0;

/** A name in the shape of an Erlang process id, the same as long as the object lives. */
export function pidOf(thing: object): string {
  let pid = pids.get(thing);
  if (pid === undefined) {
    pid = `<0.${++pidCount}.0>`;
    pids.set(thing, pid);
  }
  return pid;
}
