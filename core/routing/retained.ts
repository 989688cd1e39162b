import type { Message } from "../mqtt/message.ts";
import type { Store } from "../store/types.ts";

interface Node {
  children: Map<string, Node> | undefined;
  message: Message | undefined;
  storedAtMs: number;
}

function node(): Node {
  return { children: undefined, message: undefined, storedAtMs: 0 };
}

/** Retained messages of every mountpoint: a tree in memory in front of the store. */
export class Retained {
  count = 0;
  /** Payload and topic bytes held. */
  bytes = 0;
  private readonly roots = new Map<string, Node>();
  private readonly store: Store;
  /** Topics changed while the stored ones are still being read: those changes are newer. */
  private touched: Set<string> | undefined = new Set();
  private waiting: (() => void)[] = [];

  constructor(store: Store) {
    this.store = store;
  }

  /** Reads what is stored; subscribers that come earlier wait for it. */
  async load(): Promise<void> {
    for await (const { message, storedAtMs } of this.store.loadRetained()) {
      if (this.touched?.has(`${message.mountpoint}\0${message.topic}`)) continue;
      this.put(message, storedAtMs);
    }
    this.touched = undefined;
    const actions = this.waiting;
    this.waiting = [];
    for (const action of actions) action();
  }

  /** Runs an action once everything stored is known: at once but for the first moments. */
  whenLoaded(action: () => void): void {
    if (this.touched === undefined) action();
    else this.waiting.push(action);
  }

  /** Sets (or with an empty payload deletes) the retained message; returns the batch to wait for. */
  set(message: Message, nowMs: number): number {
    this.touched?.add(`${message.mountpoint}\0${message.topic}`);
    if (message.payloadBytes === 0) {
      return this.remove(message.mountpoint, message.topic) || this.touched !== undefined
        ? this.store.deleteRetained(message.mountpoint, message.topic)
        : 0;
    }
    message.own();
    this.put(message, nowMs);
    return this.store.putRetained({ message, storedAtMs: nowMs });
  }

  /** Deletes one topic; false when there is none. */
  delete(mountpoint: string, topic: string): boolean {
    this.touched?.add(`${mountpoint}\0${topic}`);
    const isKnown = this.remove(mountpoint, topic);
    // Before everything is read the store may have what memory does not know yet.
    if (isKnown || this.touched !== undefined) this.store.deleteRetained(mountpoint, topic);
    return isKnown;
  }

  /** Messages matching a filter, oldest first; expired ones are removed on the way. */
  match(mountpoint: string, filter: string, nowMs: number): Message[] {
    const root = this.roots.get(mountpoint);
    if (root === undefined) return [];
    const found: Node[] = [];
    collect(root, filter.split("/"), 0, found);
    const live: Node[] = [];
    for (const each of found) {
      const message = each.message as Message;
      if (message.expiresAtMs !== 0 && message.expiresAtMs <= nowMs) {
        this.delete(mountpoint, message.topic);
      } else {
        live.push(each);
      }
    }
    live.sort((a, b) => a.storedAtMs - b.storedAtMs || compareTopics(a.message, b.message));
    return live.map((each) => each.message as Message);
  }

  /** `expire_retain_cache`: drops every expired message; returns how many. */
  dropExpired(nowMs: number): number {
    let dropped = 0;
    for (const [mountpoint, root] of this.roots) {
      const all: Node[] = [];
      everything(root, all);
      for (const { message } of all) {
        if (message === undefined || message.expiresAtMs === 0) continue;
        if (message.expiresAtMs <= nowMs && this.delete(mountpoint, message.topic)) dropped++;
      }
    }
    return dropped;
  }

  /** All messages of a mountpoint, in topic order. */
  list(mountpoint: string): Message[] {
    const root = this.roots.get(mountpoint);
    const all: Node[] = [];
    if (root !== undefined) everything(root, all);
    return all.map((each) => each.message as Message).sort(compareTopics);
  }

  private put(message: Message, storedAtMs: number): void {
    let at = this.roots.get(message.mountpoint);
    if (at === undefined) {
      at = node();
      this.roots.set(message.mountpoint, at);
    }
    for (const level of message.topic.split("/")) {
      at.children ??= new Map();
      let next = at.children.get(level);
      if (next === undefined) {
        next = node();
        at.children.set(level, next);
      }
      at = next;
    }
    if (at.message === undefined) this.count++;
    else this.bytes -= size(at.message);
    at.message = message;
    at.storedAtMs = storedAtMs;
    this.bytes += size(message);
  }

  private remove(mountpoint: string, topic: string): boolean {
    const levels = topic.split("/");
    const root = this.roots.get(mountpoint);
    if (root === undefined) return false;
    const path: Node[] = [root];
    for (const level of levels) {
      const next = path.at(-1)?.children?.get(level);
      if (next === undefined) return false;
      path.push(next);
    }
    const last = path.at(-1) as Node;
    if (last.message === undefined) return false;
    this.count--;
    this.bytes -= size(last.message);
    last.message = undefined;
    for (let i = levels.length; i > 0; i--) {
      const empty = path[i] as Node;
      if (empty.message !== undefined || empty.children !== undefined) break;
      const parent = path[i - 1] as Node;
      parent.children?.delete(levels[i - 1] as string);
      if (parent.children?.size === 0) parent.children = undefined;
    }
    return true;
  }
}

function size(message: Message): number {
  return message.payloadBytes + message.topicLength() + (message.properties?.length ?? 0);
}

function compareTopics(a: Message | undefined, b: Message | undefined): number {
  const left = a?.topic ?? "";
  const right = b?.topic ?? "";
  return left < right ? -1 : left > right ? 1 : 0;
}

function everything(at: Node, found: Node[]): void {
  if (at.message !== undefined) found.push(at);
  if (at.children !== undefined) for (const child of at.children.values()) everything(child, found);
}

/** First-level wildcards skip `$...` topics [MQTT-4.7.2-1]. */
function collect(at: Node, filter: string[], depth: number, found: Node[]): void {
  if (depth === filter.length) {
    if (at.message !== undefined) found.push(at);
    return;
  }
  const level = filter[depth] as string;
  if (level === "#") {
    if (at.message !== undefined) found.push(at);
    for (const [name, child] of at.children ?? []) {
      if (depth > 0 || !name.startsWith("$")) everything(child, found);
    }
    return;
  }
  if (level === "+") {
    for (const [name, child] of at.children ?? []) {
      if (depth > 0 || !name.startsWith("$")) collect(child, filter, depth + 1, found);
    }
    return;
  }
  const child = at.children?.get(level);
  if (child !== undefined) collect(child, filter, depth + 1, found);
}
