/** Topics that are told apart; the messages of others are only added up. */
const TOPICS_MAX = 10_000;

/** Messages by topic, while somebody looks on. */
export class TopicCounts {
  readonly counts = new Map<string, number>();
  /** Messages of topics beyond the limit. */
  others = 0;

  /** Keys hold the mountpoint, too. */
  note(mountpoint: string, topic: string): void {
    const key = mountpoint === "" ? topic : `${mountpoint}\u0000${topic}`;
    const count = this.counts.get(key);
    if (count === undefined && this.counts.size >= TOPICS_MAX) this.others++;
    else this.counts.set(key, (count ?? 0) + 1);
  }
}
