import { type ChildProcess, spawn } from "node:child_process";
import { waitFor } from "../support/broker.ts";
import { atEnd } from "../support/cleanup.ts";

/** mosquitto_sub waits this long for a message before it gives up. */
const WAIT_S = "20";

/** Runs mosquitto_pub; rejects with what it said when it fails. */
export function mosquittoPub(args: readonly string[], input?: string | Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn("mosquitto_pub", ["-d", ...args], {
      stdio: [input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (data: Buffer) => {
        output += data.toString();
      });
    }
    child.once("error", reject);
    child.once("close", (code) => {
      if (code === 0) resolve(output);
      else reject(new Error(`mosquitto_pub ${args.join(" ")} ended with ${code}:\n${output}`));
    });
    child.stdin?.end(input);
  });
}

/** A message as mosquitto_sub printed it. */
export interface Printed {
  topic: string;
  qos: number;
  retain: boolean;
  payload: string;
}

/** A running mosquitto_sub. */
export class MosquittoSub {
  output = "";
  exitCode: number | null | undefined;
  private readonly child: ChildProcess;

  constructor(args: readonly string[]) {
    // Into a pipe it would write only when its buffer is full.
    const command = ["-oL", "mosquitto_sub", "-d", "-W", WAIT_S, "-F", "MESSAGE %q %r %t|%p"];
    this.child = spawn("stdbuf", [...command, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on("data", (data: Buffer) => {
        this.output += data.toString();
      });
    }
    this.child.once("close", (code) => {
      this.exitCode = code;
    });
    atEnd(() => this.kill());
  }

  get messages(): Printed[] {
    return this.output
      .split("\n")
      .map((line) => /^MESSAGE (\d) (\d) ([^|]*)\|(.*)$/.exec(line))
      .filter((found) => found !== null)
      .map(([, qos, retain, topic = "", payload = ""]) => ({
        topic,
        qos: Number(qos),
        retain: retain === "1",
        payload,
      }));
  }

  /** Waits until the broker has acknowledged the subscription. */
  async subscribed(): Promise<this> {
    await this.printed(/Subscribed \(mid: \d+\)/);
    return this;
  }

  printed(pattern: RegExp): Promise<true> {
    return waitFor(
      `mosquitto_sub prints ${pattern}`,
      () => pattern.test(this.output) || undefined,
      10_000,
    ) as Promise<true>;
  }

  /** Waits until mosquitto_sub has ended by itself; gives its exit code. */
  async ended(): Promise<number | null> {
    await waitFor("mosquitto_sub ends", () => this.exitCode !== undefined, 25_000);
    return this.exitCode ?? null;
  }

  kill(): void {
    this.child.kill("SIGKILL");
  }
}
