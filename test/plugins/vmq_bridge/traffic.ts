import { expect } from "vitest";
import { StubbornPublisher, StubbornSubscriber } from "../../e2e/stubborn-clients.ts";
import { waitFor } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";
import type { Version } from "../../support/raw-client.ts";

/** Messages that may be under way, so that no broker drowns in what the test publishes. */
const UNDER_WAY = 400;
const PACE_MS = 10;

/** Long enough for a machine under load; nothing is asserted about it. */
const DRAIN_MS = 60_000;

/** Numbered messages from one broker to another by a bridge, at QoS 1 and 2. */
export class Traffic {
  readonly publishers: readonly StubbornPublisher[];
  readonly subscriber: StubbornSubscriber;
  private readonly what: string;
  private pacing: NodeJS.Timeout | undefined;
  private underWay = UNDER_WAY;

  constructor(
    what: string,
    fromPort: number,
    toPort: number,
    options: { version?: Version; levels?: readonly (1 | 2)[] } = {},
  ) {
    const { version = 4, levels = [1, 2] } = options;
    this.what = what;
    this.subscriber = new StubbornSubscriber(toPort, version, `${what}-sub`, [`${what}/#`]);
    this.publishers = levels.map(
      (qos) =>
        new StubbornPublisher(fromPort, version, {
          clientId: `${what}-pub-${qos}`,
          topic: `${what}/${qos}`,
          qos,
        }),
    );
  }

  /** Subscribes, then publishes. */
  async start(): Promise<void> {
    this.subscriber.start();
    await waitFor(`${this.what} is subscribed`, () => this.subscriber.hasSubscribed);
    for (const publisher of this.publishers) {
      publisher.allow(UNDER_WAY);
      publisher.start();
    }
    this.pacing = setInterval(() => {
      for (const publisher of this.publishers) {
        publisher.allow((this.subscriber.got.get(publisher.topic)?.length ?? 0) + this.underWay);
      }
    }, PACE_MS);
    atEnd(() => clearInterval(this.pacing));
  }

  /** Waits until so many more messages of each QoS are acknowledged. */
  async goesOn(count: number): Promise<void> {
    this.underWay += count;
    const before = this.publishers.map(({ acknowledged }) => acknowledged.size);
    await waitFor(
      `${this.what} goes on`,
      () =>
        this.publishers.every(
          ({ acknowledged }, i) => acknowledged.size >= (before[i] ?? 0) + count,
        ),
      DRAIN_MS,
    );
  }

  /** Waits until so many more messages of each QoS have come through the bridge. */
  async arrives(count: number): Promise<void> {
    const before = this.publishers.map(({ topic }) => this.subscriber.got.get(topic)?.length ?? 0);
    await waitFor(
      `${this.what} arrives`,
      () =>
        this.publishers.every(
          ({ topic }, i) =>
            (this.subscriber.got.get(topic)?.length ?? 0) >= (before[i] ?? 0) + count,
        ),
      DRAIN_MS,
    );
  }

  /**
   * Publishes nothing more, waits for the rest and checks: all there, at QoS 2 once, and in order
   * (Mosquitto keeps none between QoS 1 and 2).
   */
  async check({ isInOrder = true } = {}): Promise<void> {
    const { publishers, subscriber, what } = this;
    for (const publisher of publishers) publisher.finish();
    await waitFor(`${what} is acknowledged`, () => publishers.every((one) => one.isDone), DRAIN_MS);
    for (const { topic, qos, lastSent } of publishers) {
      await waitFor(
        `all ${lastSent} of ${topic} (has ${new Set(subscriber.got.get(topic)).size})`,
        () => new Set(subscriber.got.get(topic)).size >= lastSent,
        DRAIN_MS,
      );
      const list = subscriber.got.get(topic) ?? [];
      const all = Array.from({ length: lastSent }, (_, i) => i + 1);
      const seen = qos === 2 ? [...list] : [...new Set(list)];
      if (!isInOrder) seen.sort((a, b) => a - b);
      const wrongAt = all.findIndex((number, i) => seen[i] !== number);
      const around = seen.slice(Math.max(0, wrongAt - 3), wrongAt + 4);
      expect(wrongAt, `${topic}: ${around} at ${wrongAt}`).toBe(-1);
      expect(seen, topic).toHaveLength(lastSent);
    }
    clearInterval(this.pacing);
    await subscriber.stop();
    for (const publisher of publishers) await publisher.stop();
  }
}
