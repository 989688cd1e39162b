import type { Broker } from "../../core/broker-types.ts";
import { waitFor } from "../support/broker.ts";
import { hourglass } from "../support/hourglass.ts";
import {
  bytes,
  describe as describePacket,
  differences,
  type Expected,
  type Packet,
  type Properties,
  RawClient,
  type Version,
} from "../support/raw-client.ts";
import { decode } from "../support/wire.ts";

/**
 * Plays recorded conversations of raw MQTT clients against a broker and compares what it answers,
 * packet by packet. The form of a recording is described in golden/README.md.
 */
export interface Recording {
  id: string;
  section: string;
  about: string;
  steps: readonly string[];
  /** Copies of one message for overlapping filters come in any order, with any packet ids. */
  isUnordered?: boolean;
}

/** Where one scenario runs: a listener with a mountpoint of its own, so that no other disturbs it. */
export interface Stage {
  broker: Broker;
  port: number;
  mountpoint: string;
  /** Of the helper publisher P. */
  credentials: { username?: string; password?: string };
  /** Properties that we announce in every MQTT 5 CONNACK and VerneMQ does not (W-05). */
  announced: Properties;
}

/** The broker has this long to answer or to close; keep-alive scenarios need the most. */
const ANSWER_MS = 4000;
/** For "no answer" where no PINGREQ can prove it. */
const SILENCE_MS = 150;
/** A close that was recorded as immediate; far below mqtt_connect_timeout. */
const CLOSE_MS = 2000;
const EXPIRY_SLACK_S = 2;

/** Plays all steps; rejects with the first difference and the conversation so far. */
export async function replay(recording: Recording, stage: Stage): Promise<void> {
  const player = new Player(stage, recording.isUnordered === true);
  try {
    for (const [index, step] of recording.steps.entries()) {
      await player.play(step, recording.steps[index + 1]);
    }
    await player.finish();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const log = player.log.map((line) => `    ${line}`).join("\n");
    throw new Error(`${recording.id} ${recording.about}\n${message}\n  conversation:\n${log}`);
  } finally {
    player.close();
    const { broker, mountpoint } = stage;
    for (const { topic } of broker.retained(mountpoint)) broker.deleteRetained(topic, mountpoint);
  }
}

/** One client of a recording, over all its connections. */
interface Actor {
  client: RawClient | undefined;
  clientId: string;
  /** MQTT 5 Topic Alias Maximum of the CONNECT. */
  aliasMax: number;
  /** Topics by alias, as recorded and as received. */
  recordedAliases: Map<number, string>;
  receivedAliases: Map<number, string>;
  /** Received and not yet compared: packets of different kinds may overtake each other. */
  early: Packet[];
}

class Player {
  readonly log: string[] = [];
  private readonly stage: Stage;
  private readonly actors = new Map<string, Actor>();

  private readonly isUnordered: boolean;

  constructor(stage: Stage, isUnordered: boolean) {
    this.stage = stage;
    this.isUnordered = isUnordered;
  }

  async play(step: string, following: string | undefined): Promise<void> {
    if (step.startsWith("~")) return this.wait(Number(step.slice(1)));
    if (step.startsWith("=")) return this.expectShares(step);
    const name = step.charAt(0);
    const actor = await this.actor(name);
    const hex = step.slice(2);
    switch (step.charAt(1)) {
      case ">":
        return this.send(name, actor, expand(hex));
      case ".":
        for (const byte of expand(hex)) await this.send(name, actor, Buffer.from([byte]));
        return;
      case "<":
        return this.receive(name, actor, bytes(hex));
      case "x":
        return this.closed(name, actor, Number(hex));
      case "-":
        // A PINGREQ that follows proves it.
        if (following !== `${name}>c000`) await actor.client?.expectSilence(SILENCE_MS);
        return;
      case "!":
        return this.cut(name, actor);
      default:
        throw new Error(`unknown step ${step}`);
    }
  }

  /** Told by the broker's own clock, outside of all stages. */
  private wait(ms: number): Promise<void> {
    return hourglass(Math.ceil(ms / 1000), this.stage.broker);
  }

  /** Nobody has got more than was recorded. */
  async finish(): Promise<void> {
    for (const [name, { client, early }] of this.actors) {
      if (client === undefined || name === "P") continue;
      const isConnected = client.received.some((one) => one.type === "connack" && one.code === 0);
      if (isConnected && !client.isClosed) await client.expectNothing();
      const surplus = [...early, ...client.waiting];
      if (surplus.length > 0)
        throw new Error(`${name}: not recorded: ${surplus.map(describePacket)}`);
    }
  }

  close(): void {
    for (const { client } of this.actors.values()) client?.cut();
  }

  private async actor(name: string): Promise<Actor> {
    const found = this.actors.get(name);
    if (found !== undefined) return found;
    const actor: Actor = {
      client: undefined,
      clientId: "",
      aliasMax: 0,
      recordedAliases: new Map(),
      receivedAliases: new Map(),
      early: [],
    };
    this.actors.set(name, actor);
    if (name === "P") await this.openPublisher(actor);
    return actor;
  }

  /** P is a level 5 client whose own CONNECT and acknowledgements are not recorded. */
  private async openPublisher(actor: Actor): Promise<void> {
    actor.client = new RawClient(5, "P");
    await actor.client.open({ port: this.stage.port });
    await actor.client.connected({
      clientId: "publisher",
      ...this.stage.credentials,
    });
  }

  private async send(name: string, actor: Actor, data: Buffer): Promise<void> {
    const isConnect = data[0] === 0x10 && data.length > 1;
    // A CONNECT on an open connection is a second CONNECT, unless the broker has closed.
    if (actor.client === undefined || (actor.client.isClosed && isConnect)) {
      await this.open(name, actor, isConnect ? inspectConnect(data) : NOBODY);
    }
    this.log.push(`${name}> ${data.toString("hex").slice(0, 120)}`);
    const client = actor.client as RawClient;
    client.send(data);
    if (name === "P") await this.completePublish(client, data);
  }

  private async open(name: string, actor: Actor, how: typeof NOBODY): Promise<void> {
    const client = new RawClient(how.version, name);
    Object.assign(actor, { client, clientId: how.clientId, aliasMax: how.aliasMax });
    actor.recordedAliases.clear();
    actor.receivedAliases.clear();
    await client.open({ port: this.stage.port });
  }

  private async completePublish(client: RawClient, data: Buffer): Promise<void> {
    const qos = ((data[0] ?? 0) >> 1) & 3;
    if (data[0] === undefined || data[0] >> 4 !== 3 || qos === 0) {
      await client.ping();
      return;
    }
    const ack = await client.expect(qos === 1 ? "puback" : "pubrec");
    if (qos === 1 || (ack.code ?? 0) >= 0x80) return;
    client.pubrel(ack.packetId);
    await client.expect("pubcomp");
  }

  private async receive(name: string, actor: Actor, raw: Buffer): Promise<void> {
    const client = actor.client as RawClient;
    const recorded = decode(raw, client.version);
    if (recorded.type === "connack" && recorded.code === 0 && recorded.properties !== undefined) {
      Object.assign(recorded.properties, this.stage.announced);
    }
    resolveAlias(recorded, actor.recordedAliases, actor.aliasMax);
    let found = takeMatch(actor.early, recorded, this.isUnordered);
    while (found === undefined) {
      const next = await client.next(ANSWER_MS).catch((error: unknown) => {
        const held = actor.early.map(describePacket).join("; ");
        throw new Error(`${name}: recorded ${describePacket(recorded)}\n${error}\n  held: ${held}`);
      });
      this.log.push(`${name}< ${describePacket(next)}`);
      resolveAlias(next, actor.receivedAliases, actor.aliasMax);
      actor.early.push(next);
      found = takeMatch(actor.early, recorded, this.isUnordered);
    }
    const wrong = compare(recorded, found, this.isUnordered);
    if (wrong.length > 0) {
      actor.early.unshift(found);
      throw new Error(
        `${name}: recorded ${describePacket(recorded)}\n   received ${describePacket(found)}\n` +
          `   differs in ${wrong.join(", ")}`,
      );
    }
  }

  private async closed(name: string, actor: Actor, afterMs: number): Promise<void> {
    if (actor.client === undefined) await this.open(name, actor, NOBODY);
    if (actor.early.length > 0) {
      throw new Error(`${name}: not recorded: ${actor.early.map(describePacket)}`);
    }
    await (actor.client as RawClient).closed(afterMs + CLOSE_MS);
    this.log.push(`${name}: closed by the broker`);
  }

  private async cut(name: string, actor: Actor): Promise<void> {
    this.log.push(`${name}: cuts the connection`);
    actor.client?.cut();
    await waitFor(`${name} is seen as closed`, () => actor.client?.isClosed === true);
    const { broker, mountpoint } = this.stage;
    await waitFor(
      `${actor.clientId} is offline`,
      () =>
        !broker
          .sessions()
          .some(
            (s) => s.mountpoint === mountpoint && s.client_id === actor.clientId && s.is_online,
          ),
    );
  }

  /** `=AB6`: A and B together get six PUBLISH, shared out at random. */
  private async expectShares(step: string): Promise<void> {
    const wanted = Number(step.slice(-1));
    let found = 0;
    for (const name of step.slice(1, -1)) {
      const client = this.actors.get(name)?.client as RawClient;
      client.pingreq();
      for (let one = await client.next(); one.type !== "pingresp"; one = await client.next()) {
        if (one.type === "publish") found++;
      }
    }
    if (found !== wanted) throw new Error(`${found} messages instead of ${wanted}`);
  }
}

const NOBODY = { version: 4 as Version, clientId: "", aliasMax: 0 };

/** `(78*190)` stands for the byte 78 190 times. */
function expand(text: string): Buffer {
  return bytes(text.replace(/\((..)\*(\d+)\)/g, (_, byte, count) => byte.repeat(Number(count))));
}

/** What the player must know of a CONNECT, which may be malformed. */
function inspectConnect(data: Buffer): typeof NOBODY {
  const body = data.subarray(data.findIndex((byte, index) => index > 0 && byte < 0x80) + 1);
  const nameLength = body.length > 1 ? body.readUInt16BE() : 0;
  const level = (body[2 + nameLength] ?? 0) & 0x7f;
  const version = level >= 5 ? 5 : level === 3 ? 3 : 4;
  let at = 2 + nameLength + 4;
  let aliasMax = 0;
  if (version === 5) {
    const length = body[at] ?? 0;
    const properties = body.subarray(at + 1, at + 1 + length);
    const found = properties.indexOf(0x22);
    if (found >= 0 && found + 2 < properties.length) aliasMax = properties.readUInt16BE(found + 1);
    at += 1 + length;
  }
  const idLength = at + 1 < body.length ? body.readUInt16BE(at) : 0;
  const clientId = body.subarray(at + 2, at + 2 + idLength).toString();
  return { version, clientId, aliasMax };
}

/**
 * VerneMQ sends aliases also to clients that announced none (W-18), and so hides most topics. A client
 * that announced some is compared with its aliases.
 */
function resolveAlias(one: Packet, aliases: Map<number, string>, aliasMax: number): void {
  const alias = one.properties?.topicAlias;
  if (one.type !== "publish" || alias === undefined) return;
  const isFirst = one.topic !== "";
  if (isFirst) aliases.set(alias, one.topic ?? "");
  else one.topic = aliases.get(alias) ?? "(unknown alias)";
  if (one.properties === undefined) return;
  delete one.properties.topicAlias;
  if (aliasMax > 0) one.properties.topicAlias = isFirst ? alias : alias + 0x10_000;
}

/**
 * Removes from `early` the packet a recorded one has to be compared with. The order is kept among QoS 0
 * messages, among QoS 1 and 2 messages and among all other packets, not between these (section 15).
 */
function takeMatch(early: Packet[], recorded: Packet, isUnordered: boolean): Packet | undefined {
  let at = early.findIndex((one) => kindOf(one) === kindOf(recorded));
  if (isUnordered && at >= 0) {
    const same = early.findIndex((one) => compare(recorded, one, true).length === 0);
    if (same < 0) return undefined;
    at = same;
  }
  return at < 0 ? undefined : early.splice(at, 1)[0];
}

function kindOf({ type, qos }: Packet): string {
  return type !== "publish" ? "control" : qos === 0 ? "qos0" : "acknowledged";
}

/** Names of the fields that differ; none for differences that are always on purpose. */
function compare(recorded: Packet, found: Packet, isUnordered: boolean): string[] {
  if (recorded.type !== found.type) return ["type"];
  const { raw: _raw, properties = {}, type, ...fields } = recorded;
  const expected: Expected = { ...fields, exactProperties: properties };
  // 0x10 is optional and never sent by VerneMQ; we send it (section 7.2).
  if ((type === "puback" || type === "pubrec") && fields.code === 0 && found.code === 0x10) {
    expected.code = 0x10;
  }
  if (isUnordered) delete expected.packetId;
  // Recordings and replays do not take the same time.
  const expiry = properties.messageExpiryInterval;
  const left = found.properties?.messageExpiryInterval;
  if (expiry !== undefined && left !== undefined && Math.abs(expiry - left) <= EXPIRY_SLACK_S) {
    expected.exactProperties = { ...properties, messageExpiryInterval: left };
  }
  // Generated client ids are random.
  const assigned = found.properties?.assignedClientIdentifier;
  if (assigned !== undefined && properties.assignedClientIdentifier !== undefined) {
    expected.exactProperties = { ...properties, assignedClientIdentifier: assigned };
  }
  return differences(found, expected);
}
