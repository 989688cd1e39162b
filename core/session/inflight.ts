import type { Delivery } from "./delivery.ts";

/** Packet identifiers are 1..65535. MQTT 5.0, 2.2.1. */
export const PACKET_ID_MAX = 65_535;

/**
 * Outgoing QoS 1 and 2 messages that the client has not acknowledged, by packet id. Ids are handed out
 * in sequence, so a small ring indexed by the low bits holds the window without a map.
 */
export class Inflight {
  count = 0;
  private slots: (Delivery | undefined)[] = [undefined, undefined, undefined, undefined];

  get(packetId: number): Delivery | undefined {
    const found = this.slots[packetId & (this.slots.length - 1)];
    return found?.packetId === packetId ? found : undefined;
  }

  /** Next free id from `from` on: one in flight is never handed out. 0 when all are taken. */
  freeId(from: number): number {
    if (this.count >= PACKET_ID_MAX) return 0;
    let id = from;
    while (this.get(id) !== undefined) id = id === PACKET_ID_MAX ? 1 : id + 1;
    return id;
  }

  add(delivery: Delivery): void {
    const id = delivery.packetId;
    while (this.slots[id & (this.slots.length - 1)] !== undefined) this.grow();
    this.slots[id & (this.slots.length - 1)] = delivery;
    this.count++;
  }

  remove(packetId: number): Delivery | undefined {
    const at = packetId & (this.slots.length - 1);
    const found = this.slots[at];
    if (found?.packetId !== packetId) return undefined;
    this.slots[at] = undefined;
    this.count--;
    return found;
  }

  /** Everything in flight in the order it was queued. */
  ordered(): Delivery[] {
    const all: Delivery[] = [];
    for (const delivery of this.slots) if (delivery !== undefined) all.push(delivery);
    return all.sort((a, b) => a.seq - b.seq);
  }

  clear(): void {
    this.slots = [undefined, undefined, undefined, undefined];
    this.count = 0;
  }

  private grow(): void {
    const old = this.slots;
    let size = old.length;
    let slots: (Delivery | undefined)[];
    do {
      size *= 2;
      slots = new Array<Delivery | undefined>(size).fill(undefined);
    } while (!spread(old, slots));
    this.slots = slots;
  }
}

function spread(from: (Delivery | undefined)[], to: (Delivery | undefined)[]): boolean {
  for (const delivery of from) {
    if (delivery === undefined) continue;
    const at = delivery.packetId & (to.length - 1);
    if (to[at] !== undefined) return false;
    to[at] = delivery;
  }
  return true;
}
