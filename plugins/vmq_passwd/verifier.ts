/** Is this the user's password? Remembers answers, so that a reconnect does not pay for a slow hash. */
import { createHmac, randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { HashQueue } from "./hash-queue.ts";
import { isRightPbkdf2, isRightSha512, type Pbkdf2Hash, parseHash } from "./hashes.ts";
import type { PasswordSet } from "./password-file.ts";

export type Outcome = "right" | "wrong" | "unknown" | "busy";

/** About 15 MB. Pairs that were right; nobody without a right password can push them out. */
const RIGHT_PAIRS_MAX = 100_000;
/** About 1.5 MB. Spares the hash of a device that keeps trying with an old password. */
const WRONG_PAIRS_MAX = 10_000;
/** Longest time that an unknown user is kept waiting. */
const REFUSAL_MS_MAX = 1000;
/** Weight of the newest check in the estimate of a check's time. */
const NEWEST_WEIGHT = 0.2;

/**
 * Checks passwords against a set. Pairs of user and password are remembered as HMAC-SHA256 under a key
 * of this process, together with the stored hash: a changed or removed line makes them void by itself.
 */
export class Verifier {
  /** How often a slow hash was computed. */
  slowChecks = 0;
  private readonly key = randomBytes(32);
  private readonly queue: HashQueue;
  private readonly right = new RecentKeys(RIGHT_PAIRS_MAX);
  private readonly wrong = new RecentKeys(WRONG_PAIRS_MAX);
  /** Pairs being hashed: a thousand devices with one account cost one hash. */
  private readonly running = new Map<string, Promise<boolean | "busy">>();
  /** How long a slow check takes at present, waiting included. */
  private typicalMs = 0;

  constructor(queue = new HashQueue()) {
    this.queue = queue;
  }

  /** Learns what a check costs, so that the first unknown user already waits as long as a known one. */
  async calibrate(set: PasswordSet): Promise<void> {
    const { slowest } = set;
    if (slowest !== undefined) await this.hash(slowest, Buffer.from("calibration"));
  }

  /** Synchronous for cheap hashes and remembered right pairs. */
  check(set: PasswordSet, user: string, password: Buffer): Outcome | Promise<Outcome> {
    const text = set.users.get(user);
    const stored = text === undefined ? undefined : parseHash(text);
    if (text === undefined || stored === undefined) return this.refused(set, "unknown");
    if (stored.type === "sha512") {
      return isRightSha512(stored, password) ? "right" : this.refused(set, "wrong");
    }
    const pair = createHmac("sha256", this.key)
      .update(`${user}\0${text}\0`)
      .update(password)
      .digest("base64");
    if (this.right.has(pair)) return "right";
    if (this.wrong.has(pair)) return this.refused(set, "wrong");
    return this.checkSlowly(pair, stored, password);
  }

  private async checkSlowly(pair: string, stored: Pbkdf2Hash, password: Buffer): Promise<Outcome> {
    let running = this.running.get(pair);
    if (running === undefined) {
      running = this.hash(stored, password).finally(() => this.running.delete(pair));
      this.running.set(pair, running);
    }
    const isRight = await running;
    if (isRight === "busy") return "busy";
    (isRight ? this.right : this.wrong).add(pair);
    return isRight ? "right" : "wrong";
  }

  private async hash(stored: Pbkdf2Hash, password: Buffer): Promise<boolean | "busy"> {
    const startMs = performance.now();
    const isRight = await this.queue.run(() => {
      this.slowChecks += 1;
      return isRightPbkdf2(stored, password);
    });
    const tookMs = Math.min(performance.now() - startMs, REFUSAL_MS_MAX);
    this.typicalMs += this.typicalMs === 0 ? tookMs : (tookMs - this.typicalMs) * NEWEST_WEIGHT;
    return isRight;
  }

  /**
   * With slow hashes in the file, every refusal takes about the time of one. It only waits: if unknown
   * users were hashed too, users of the plugins behind this one would queue for nothing.
   */
  private refused(set: PasswordSet, outcome: "wrong" | "unknown"): Outcome | Promise<Outcome> {
    return set.slowest === undefined ? outcome : delay(this.typicalMs, outcome, { ref: false });
  }
}

/** A set of bounded size that forgets what was not used longest. */
class RecentKeys {
  private readonly keys = new Set<string>();
  private readonly max: number;

  constructor(max: number) {
    this.max = max;
  }

  has(key: string): boolean {
    if (!this.keys.delete(key)) return false;
    this.keys.add(key);
    return true;
  }

  add(key: string): void {
    this.keys.delete(key);
    this.keys.add(key);
    if (this.keys.size <= this.max) return;
    for (const oldest of this.keys) {
      this.keys.delete(oldest);
      return;
    }
  }
}
