import type { Subscription } from "./subscription.ts";

interface Node {
  children: Map<string, Node> | undefined;
  /** Subscriptions that end here. */
  subscriptions: Set<Subscription> | undefined;
}

function node(): Node {
  return { children: undefined, subscriptions: undefined };
}

/** Topic filters of one mountpoint, one tree level per topic level. */
export class Trie {
  private readonly root = node();
  size = 0;

  add(subscription: Subscription): void {
    let at = this.root;
    for (const level of subscription.match.split("/")) {
      at.children ??= new Map();
      let next = at.children.get(level);
      if (next === undefined) {
        next = node();
        at.children.set(level, next);
      }
      at = next;
    }
    at.subscriptions ??= new Set();
    at.subscriptions.add(subscription);
    this.size++;
  }

  remove(subscription: Subscription): void {
    const levels = subscription.match.split("/");
    const path: Node[] = [this.root];
    for (const level of levels) {
      const next = path.at(-1)?.children?.get(level);
      if (next === undefined) return;
      path.push(next);
    }
    const last = path.at(-1) as Node;
    if (!last.subscriptions?.delete(subscription)) return;
    this.size--;
    if (last.subscriptions.size === 0) last.subscriptions = undefined;
    for (let i = levels.length; i > 0; i--) {
      const empty = path[i] as Node;
      if (empty.subscriptions !== undefined || empty.children !== undefined) return;
      const parent = path[i - 1] as Node;
      parent.children?.delete(levels[i - 1] as string);
      if (parent.children?.size === 0) parent.children = undefined;
    }
  }

  /**
   * Every subscription whose filter matches. `a/#` matches `a`; a first-level wildcard does not match a
   * topic that begins with `$` [MQTT-4.7.2-1].
   */
  match(topic: string): Subscription[] {
    const found: Subscription[] = [];
    collect(this.root, topic.split("/"), 0, found);
    return found;
  }
}

function collect(at: Node, levels: string[], depth: number, found: Subscription[]): void {
  const children = at.children;
  const wildcards = depth > 0 || !levels[0]?.startsWith("$");
  const hash = wildcards ? children?.get("#") : undefined;
  if (hash?.subscriptions !== undefined) found.push(...hash.subscriptions);
  if (depth === levels.length) {
    if (at.subscriptions !== undefined) found.push(...at.subscriptions);
    return;
  }
  if (children === undefined) return;
  const exact = children.get(levels[depth] as string);
  if (exact !== undefined) collect(exact, levels, depth + 1, found);
  const plus = wildcards ? children.get("+") : undefined;
  if (plus !== undefined) collect(plus, levels, depth + 1, found);
}
