/** An event that waits for its turn. */
export interface QueuedEvent {
  readonly bytes: number;
  /** Events of one lane are sent one after the other; undefined: at any time. */
  readonly lane: string | undefined;
  /** Sends it; `done` is called once when its answer or failure is there. */
  send(done: () => void): void;
}

interface Node {
  readonly event: QueuedEvent;
  /** Next of the queue; later, next of the lane. */
  next: Node | undefined;
  behind: Node | undefined;
}

export interface EventLimits {
  /** Events that wait or are under way. */
  readonly queued: number;
  readonly inflight: number;
}

/** Bytes of all waiting bodies of one endpoint. */
const QUEUE_BYTES_MAX = 64 * 1024 * 1024;
/** How often a suspended endpoint is looked at. */
const RETRY_MS = 100;

/**
 * Events for one endpoint. Whoever pushes never waits: what does not fit is dropped. A bounded number is
 * under way at a time, and no two of one lane.
 */
export class EventQueue {
  private readonly limits: () => EventLimits;
  /** False while the endpoint is suspended; then events wait. */
  private readonly admits: () => boolean;
  private readonly lanes = new Map<string, Node>();
  private first: Node | undefined;
  private last: Node | undefined;
  private bytes = 0;
  private timer: NodeJS.Timeout | undefined;
  private isPumping = false;
  private isClosed = false;
  /** Waiting and under way. */
  length = 0;
  inflight = 0;
  dropped = 0;

  constructor(limits: () => EventLimits, admits: () => boolean) {
    this.limits = limits;
    this.admits = admits;
  }

  /** False: it is full and the event is lost. */
  push(event: QueuedEvent): boolean {
    const isFull =
      this.length >= this.limits().queued || this.bytes + event.bytes > QUEUE_BYTES_MAX;
    if (isFull || this.isClosed) {
      this.dropped++;
      return false;
    }
    this.length++;
    this.bytes += event.bytes;
    const node: Node = { event, next: undefined, behind: undefined };
    const { lane } = event;
    if (lane !== undefined) {
      const tail = this.lanes.get(lane);
      this.lanes.set(lane, node);
      if (tail !== undefined) {
        tail.behind = node;
        return true;
      }
    }
    this.append(node);
    this.pump();
    return true;
  }

  /** Drops what waits; gives how many. */
  close(): number {
    this.isClosed = true;
    clearTimeout(this.timer);
    const waiting = this.length - this.inflight;
    this.first = undefined;
    this.last = undefined;
    this.lanes.clear();
    this.dropped += waiting;
    return waiting;
  }

  private append(node: Node): void {
    if (this.last === undefined) this.first = node;
    else this.last.next = node;
    this.last = node;
  }

  private pump(): void {
    if (this.isPumping || this.isClosed) return;
    this.isPumping = true;
    const { inflight } = this.limits();
    while (this.first !== undefined && this.inflight < inflight) {
      if (!this.admits()) {
        this.later();
        break;
      }
      const node = this.first;
      this.first = node.next;
      if (this.first === undefined) this.last = undefined;
      node.next = undefined;
      this.inflight++;
      node.event.send(() => this.done(node));
    }
    this.isPumping = false;
  }

  private done(node: Node): void {
    this.inflight--;
    this.length--;
    this.bytes -= node.event.bytes;
    const { lane } = node.event;
    if (lane !== undefined && !this.isClosed) {
      if (node.behind !== undefined) this.append(node.behind);
      else this.lanes.delete(lane);
    }
    this.pump();
  }

  private later(): void {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      this.pump();
    }, RETRY_MS).unref();
  }
}
