// One thread's share of a pubsub run: its clients, its part of the message flow.
import { napMs, nowMs, sleep } from "./clock.ts";
import {
  connackText,
  DISCONNECT_BYTES,
  encodeConnect,
  encodeSubscribe,
  parseConnack,
  parseSuback,
  TYPE,
} from "./codec.ts";
import { Connection, type ConnectionEvents, Reactor } from "./connection.ts";
import { type Client, Flow, type ShardFigures } from "./flow.ts";
import { EXIT, LoadError } from "./options.ts";
import type { RunPlan } from "./run-state.ts";
import type { Subscriber } from "./subscriber.ts";

/** Clients on their way in at once. */
const SETUP_PARALLEL = 64;
const SETUP_STALL_MS = 10_000;
const TEAR_DOWN_MS = 2_000;
/** How often the loop looks for what other threads did. */
const POKE_MS = 2;

/** Which clients a call is about. */
export type Role = "publisher" | "subscriber";

/** A share of a run; the same in a worker and in the main thread. */
export class Shard {
  readonly #plan: RunPlan;
  readonly #flow: Flow;
  readonly #reactor: Reactor = new Reactor(() => this.#turn());
  readonly #clients: Client[];
  #poke: NodeJS.Timeout | undefined;
  #bytesAtTurn = 0;

  constructor(plan: RunPlan, index: number) {
    this.#plan = plan;
    this.#flow = new Flow(plan, index);
    this.#clients = [
      ...this.#flow.subscribers.map((state) => ({ role: "subscriber" as const, state })),
      ...this.#flow.publishers.map((state) => ({ role: "publisher" as const, state })),
    ];
  }

  /** Connects all clients of a role, a few at a time; subscribers also subscribe. */
  async bringUp(role: Role): Promise<void> {
    const waiting = this.#clients.filter((client) => client.role === role);
    const lane = async () => {
      for (let client = waiting.pop(); client; client = waiting.pop()) await this.#setUp(client);
    };
    await Promise.all(Array.from({ length: SETUP_PARALLEL }, lane));
  }

  /** Begins to send; returns at once. */
  run(): void {
    this.#flow.begin(nowMs());
    this.#poke = setInterval(() => this.#reactor.schedule(), POKE_MS);
    this.#reactor.schedule();
  }

  /** Ends the sending; deliveries are still counted. */
  stop(): void {
    clearInterval(this.#poke);
    this.#flow.stop();
  }

  figures(): ShardFigures {
    return this.#flow.figures();
  }

  /** Ends every session, also the persistent ones. */
  async tearDown(): Promise<void> {
    this.#flow.isOver = true;
    await Promise.race([
      Promise.all(this.#clients.map((client) => this.#leave(client))),
      sleep(TEAR_DOWN_MS),
    ]);
    for (const { state } of this.#clients) state.connection?.close("over");
  }

  #turn(): void {
    const { options } = this.#plan;
    this.#flow.pump(this.#reactor.now);
    this.#reactor.flush();
    const isQuiet = this.#reactor.bytesIn - this.#bytesAtTurn < this.#reactor.readBuffer.length / 2;
    const nap = isQuiet ? this.#flow.napMs(this.#reactor.now) : 0;
    if (nap > 0) napMs(nap);
    this.#bytesAtTurn = this.#reactor.bytesIn;
    // a rate goes by the clock, and with nobody to listen there is nothing to wake up for
    if (this.#flow.isSending && (options.rate || (this.#plan.fan === 0 && options.qos === 0)))
      this.#reactor.schedule();
  }

  /** Opens the connection of a client; resolves when it is ready for the run. */
  #setUp(client: Client): Promise<void> {
    const { options } = this.#plan;
    return new Promise((resolve, reject) => {
      const fail = (status: number, message: string) => {
        clearTimeout(deadline);
        reject(new LoadError(status, message));
      };
      const deadline = setTimeout(
        () => fail(EXIT.unreachable, "set-up stalled: a client was not ready in 10 s"),
        SETUP_STALL_MS,
      );
      let isReady = false;
      const ready = () => {
        isReady = true;
        clearTimeout(deadline);
        resolve();
      };
      const reactor = this.#reactor;
      const events: ConnectionEvents = {
        onUp: (connection) => connection.send(this.#connectPacket(client, options.clean === 1)),
        onPacket: (connection, header, bytes, start, end) => {
          if (this.#flow.isOver) return undefined;
          if (isReady || (client.role === "subscriber" && header >> 4 === TYPE.publish))
            return this.#flow.onPacket(client, header, bytes, start, end, reactor.now);
          const body = bytes.subarray(start, end);
          return this.#onSetUpPacket(client, connection, header, body, ready);
        },
        onClosed: (_, reason) => {
          if (!isReady) fail(EXIT.unreachable, `cannot set up a client: ${reason}`);
          else if (!this.#flow.isOver) this.#flow.onLost(client, reason);
        },
        onDrain: () => {
          if (client.role === "publisher") this.#flow.queue(client.state);
        },
      };
      client.state.connection = new Connection(reactor, events, this.#address(client));
    });
  }

  /** One packet before a client is ready; gives why it can never be. */
  #onSetUpPacket(
    client: Client,
    connection: Connection,
    header: number,
    body: Buffer,
    ready: () => void,
  ): string | undefined {
    const { version, qos } = this.#plan.options;
    if (header === TYPE.connack << 4) {
      const connack = parseConnack(version, body);
      if (connack === undefined) return "protocol error: malformed CONNACK";
      if (connack.code) return `the broker refuses clients: ${connackText(version, connack.code)}`;
      if (connack.maximumQos < qos) return `the broker's maximum QoS is ${connack.maximumQos}`;
      if (client.role === "subscriber") return subscribe(client.state, connection, version, qos);
      const limit = connack.maximumPacketBytes;
      if (limit && limit < client.state.template.bytes.length)
        return `the broker's maximum packet size is ${limit}`;
      client.state.window = Math.min(client.state.window, connack.receiveMaximum);
      client.state.isReady = true;
      ready();
      return undefined;
    }
    if (header !== TYPE.suback << 4 || client.role !== "subscriber")
      return `protocol error: packet type ${header >> 4} before the client is ready`;
    const refused = parseSuback(version, body);
    if (refused !== 0) return `the broker refuses ${refused ?? "malformed"} subscriptions`;
    if (--client.state.awaitedSubacks === 0) ready();
    return undefined;
  }

  /** Disconnects a client; a persistent session ends by a clean one under the same name. */
  async #leave(client: Client): Promise<void> {
    const connection = client.state.connection;
    if (connection?.isOpen) connection.send(DISCONNECT_BYTES);
    const end = nowMs() + TEAR_DOWN_MS / 2;
    while (connection?.isOpen && nowMs() < end) await sleep(5);
    connection?.close("over");
    if (this.#plan.options.clean) return;
    await new Promise<void>((resolve) => {
      const events: ConnectionEvents = {
        onUp: (purging) => purging.send(this.#connectPacket(client, true)),
        onPacket: (purging) => {
          purging.send(DISCONNECT_BYTES);
          return undefined;
        },
        onClosed: () => resolve(),
        onDrain: () => {},
      };
      client.state.connection = new Connection(this.#reactor, events, this.#address(client));
    });
  }

  #connectPacket({ role, state }: Client, isClean: boolean): Buffer {
    const { options, clientPrefix } = this.#plan;
    return encodeConnect({
      version: options.version,
      clientId: `${clientPrefix}${role === "publisher" ? "p" : "s"}${state.index}`,
      isClean,
      username: options.username,
      password: options.password,
      expiryS: isClean ? 0 : 600,
      receiveMaximum: role === "subscriber" ? 65535 : 0,
    });
  }

  #address({ role, state }: Client): { host: string; port: number; localAddress?: string } {
    const { host, srcCount, subPort } = this.#plan.options;
    const port = role === "subscriber" && subPort !== 0 ? subPort : this.#plan.options.port;
    if (srcCount === 0) return { host, port };
    return { host, port, localAddress: `127.0.0.${1 + (state.index % srcCount)}` };
  }
}

function subscribe(state: Subscriber, connection: Connection, version: number, qos: number) {
  for (const filters of state.filters())
    connection.send(encodeSubscribe(version, ++state.awaitedSubacks, filters, qos));
  return undefined;
}
