import { setTimeout as delay } from "node:timers/promises";
import type { Broker } from "../../core/broker-types.ts";
import { waitFor } from "../support/broker.ts";
import {
  bytes,
  describe as describePacket,
  differences,
  type Expected,
  encodeConnect,
  type Packet,
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
}

/** Where one scenario runs: a listener with a mountpoint of its own, so that no other disturbs it. */
export interface Stage {
  broker: Broker;
  port: number;
  mountpoint: string;
  /** Of the helper publisher P. */
  credentials: { username?: string; password?: string };
}

/** The broker has this long to answer or to close; keep-alive scenarios need the most. */
const ANSWER_MS = 4000;
/** For "no answer" where no PINGREQ can prove it. */
const SILENCE_MS = 150;

/** Plays all steps; rejects with the first difference and the conversation so far. */
export async function replay(recording: Recording, stage: Stage): Promise<void> {
  const player = new Player(stage);
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
}

class Player {
  readonly log: string[] = [];
  private readonly stage: Stage;
  private readonly actors = new Map<string, Actor>();

  constructor(stage: Stage) {
    this.stage = stage;
  }

  async play(step: string, following: string | undefined): Promise<void> {
    if (step.startsWith("~")) return delay(Number(step.slice(1)));
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
        await (actor.client as RawClient).closed(ANSWER_MS);
        this.log.push(`${name}: closed by the broker`);
        return;
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

  /** Nobody has got more than was recorded. */
  async finish(): Promise<void> {
    for (const [name, { client }] of this.actors) {
      if (client === undefined || client.isClosed || name === "P") continue;
      const isConnected = client.received.some((one) => one.type === "connack" && one.code === 0);
      if (isConnected) await client.expectNothing();
      else if (client.waiting.length > 0) await client.closed(0);
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
      clientId: `golden-publisher-${this.stage.mountpoint}`,
      ...this.stage.credentials,
    });
  }

  private async send(name: string, actor: Actor, data: Buffer): Promise<void> {
    const isConnect = data[0] === 0x10 && data.length > 1;
    // A CONNECT on an open connection is a second CONNECT, unless the broker has closed.
    if (actor.client === undefined || (actor.client.isClosed && isConnect)) {
      const { version, clientId, aliasMax } = isConnect ? inspectConnect(data) : NOBODY;
      const client = new RawClient(version, name);
      Object.assign(actor, { client, clientId, aliasMax });
      actor.recordedAliases.clear();
      actor.receivedAliases.clear();
      await client.open({ port: this.stage.port });
    }
    this.log.push(`${name}> ${data.toString("hex").slice(0, 120)}`);
    const client = actor.client as RawClient;
    client.send(data);
    if (name === "P") await this.completePublish(client, data);
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
    const found = await client.next(ANSWER_MS).catch((error: unknown) => {
      throw new Error(`${name}: recorded ${describePacket(recorded)}\n${String(error)}`);
    });
    this.log.push(`${name}< ${describePacket(found)}`);
    resolveAlias(recorded, actor.recordedAliases, actor.aliasMax);
    resolveAlias(found, actor.receivedAliases, actor.aliasMax);
    const wrong = compare(recorded, found);
    if (wrong.length > 0) {
      throw new Error(
        `${name}: recorded ${describePacket(recorded)}\n   received ${describePacket(found)}\n` +
          `   differs in ${wrong.join(", ")}`,
      );
    }
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
  const version = level === 5 ? 5 : level === 3 ? 3 : 4;
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

/** Names of the fields that differ; none for differences that are always on purpose. */
function compare(recorded: Packet, found: Packet): string[] {
  if (recorded.type !== found.type) return ["type"];
  const { raw: _raw, properties = {}, type, ...fields } = recorded;
  const expected: Expected = { ...fields, exactProperties: properties };
  // 0x10 is optional and never sent by VerneMQ; we send it (section 7.2).
  if ((type === "puback" || type === "pubrec") && fields.code === 0 && found.code === 0x10) {
    expected.code = 0x10;
  }
  // Generated client ids are random.
  const assigned = found.properties?.assignedClientIdentifier;
  if (assigned !== undefined && properties.assignedClientIdentifier !== undefined) {
    expected.exactProperties = { ...properties, assignedClientIdentifier: assigned };
  }
  return differences(found, expected);
}

/** The bytes of a CONNECT, for scenarios that are changed on purpose. */
export const connectBytes = encodeConnect;
