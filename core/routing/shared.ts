import type { Message } from "../mqtt/message.ts";
import type { SharedGroup } from "./routes.ts";
import type { Receiver, Subscription } from "./subscription.ts";

/** `shared_subscription_policy`. With one node every member is local: all policies choose alike. */
export const SHARED_POLICIES = [
  "prefer_local",
  "random",
  "local_only",
  "prefer_online_before_local",
] as const;

/**
 * Chooses the member that gets a message: a random online one, else a random offline one. `without`
 * is never chosen; undefined when nobody is left.
 */
export function chooseMember(
  group: SharedGroup,
  random: () => number,
  without?: Receiver,
): Subscription | undefined {
  const members = group.members;
  const count = members.length;
  const first = Math.floor(random() * count);
  let offline: Subscription | undefined;
  for (let i = 0; i < count; i++) {
    const at = first + i;
    const member = members[at < count ? at : at - count] as Subscription;
    if (member.receiver === without) continue;
    if (member.receiver.isOnline) return member;
    offline ??= member;
  }
  return offline;
}

/** Gives a message to one member of each group. Returns the batch to wait for. */
export function deliverShared(
  groups: readonly SharedGroup[],
  message: Message,
  random: () => number,
): number {
  let batch = 0;
  for (const group of groups) {
    const member = chooseMember(group, random);
    if (member !== undefined) batch = Math.max(batch, member.receiver.deliver(message, member));
  }
  return batch;
}
