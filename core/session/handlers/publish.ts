import { isPromise } from "../../hooks/chain.ts";
import type { Verdict } from "../../hooks/types.ts";
import {
  FRAME_NONE,
  FRAME_V4,
  FRAME_V4_ID,
  FRAME_V5,
  FRAME_V5_ID,
  Message,
} from "../../mqtt/message.ts";
import { MqttError, PUBACK, PUBREC } from "../../mqtt/packets.ts";
import { forwardBytes, scanPublishProperties } from "../../mqtt/publish-properties.ts";
import { malformed, protocolError } from "../../mqtt/reason-codes.ts";
import type { Route } from "../../routing/routes.ts";
import { DEFERRED_MAX } from "../answers.ts";
import { PublishCall } from "../hook-arguments.ts";
import { applyPublishModifiers, type PublishChange } from "../publish-modifiers.ts";
import { Run } from "../run.ts";
import type { Session } from "../session.ts";
import type { Subscriber } from "../subscriber.ts";
import { acknowledge, QOS2, refuse } from "./publish-refusal.ts";

/** A PUBLISH whose authorisation is under way. */
export class AskedPublish {
  readonly session: Session;
  readonly route: Route;
  readonly message: Message;
  readonly answer: number;
  readonly newAlias: number;
  verdict: unknown;
  isDecided = false;

  constructor(session: Session, route: Route, message: Message, answer: number, newAlias: number) {
    this.session = session;
    this.route = route;
    this.message = message;
    this.answer = answer;
    this.newAlias = newAlias;
  }

  /** The chain has answered; it takes effect when those before it have. */
  decide(verdict: unknown): void {
    this.verdict = verdict;
    this.isDecided = true;
    this.session.askedAnswered();
  }

  takeEffect(): void {
    const { session, route, message, answer, newAlias } = this;
    decide(session, route, message, answer, newAlias, this.verdict as Verdict<PublishChange>);
    timed(session, message);
  }
}

/**
 * PUBLISH from a client: parse, `$` check, alias, authorisation, retain, routing, acknowledgement,
 * on_publish, rate limit. Synchronous unless a hook answers later. False: it must not overtake others
 * that are under way, and is to be read again after them.
 */
export function handlePublish(
  session: Session,
  header: number,
  buffer: Buffer,
  start: number,
  body: number,
  end: number,
): boolean {
  const qos = (header >> 1) & 0x03;
  // Which packet identifiers are in use must be known for QoS 2.
  if (qos === 2 && session.askedCount > 0) return false;
  if (qos === 3) throw malformed("QoS 3", "MQTT-3.3.1-4");
  if (qos === 0 && (header & 0x08) !== 0) throw malformed("DUP with QoS 0", "MQTT-3.3.1-2");
  const isV5 = session.version === 5;

  const topicStart = body + 2;
  if (topicStart > end) throw malformed("PUBLISH without topic", "3.3.2");
  const topicBytes = ((buffer[body] as number) << 8) | (buffer[body + 1] as number);
  const topicEnd = topicStart + topicBytes;
  let at = topicEnd;
  let packetId = 0;
  if (qos > 0) {
    at += 2;
    if (at > end) throw malformed("PUBLISH ends inside its header", "3.3.2");
    packetId = ((buffer[at - 2] as number) << 8) | (buffer[at - 1] as number);
    if (packetId === 0) throw protocolError("packet identifier 0", "MQTT-2.2.1-3");
  } else if (at > end) {
    throw malformed("PUBLISH ends inside its topic", "3.3.2");
  }

  let layout = qos > 0 ? FRAME_V4_ID : FRAME_V4;
  let properties: Buffer | undefined;
  let expiryS = -1;
  let alias = 0;
  if (isV5) {
    layout = qos > 0 ? FRAME_V5_ID : FRAME_V5;
    if (at >= end) throw malformed("PUBLISH without properties", "3.3.2.3");
    if (buffer[at] === 0) {
      at++;
    } else {
      const block = readPropertyLength(buffer, at, end);
      const scan = scanPublishProperties(buffer, block.start, block.end);
      alias = scan.topicAlias;
      expiryS = scan.messageExpiryInterval;
      if (scan.forward !== "none") properties = forwardBytes(buffer, block.start, block.end);
      if (scan.forward !== "whole") layout = FRAME_NONE;
      at = block.end;
    }
  }

  // What an alias means may depend on a message under way.
  const usesAlias = alias !== 0 || topicBytes === 0;
  if (usesAlias && session.askedCount > 0) return false;
  let route: Route;
  if (topicBytes === 0) {
    route = routeOfAlias(session, alias);
    layout = FRAME_NONE;
  } else {
    route = routeOf(session, buffer, topicStart, topicEnd);
  }
  if (!session.mount.isFresh(route)) {
    route = session.mount.fresh(route);
    if (topicBytes !== 0) session.lastRoute = route;
  }

  // Acknowledged at once, so not before those under way [MQTT-4.6.0-2].
  if (route.isReserved && session.askedCount > 0) return false;
  session.core.counters.publishReceived[isV5 ? 1 : 0]++;
  session.published++;
  session.core.topicCounts?.note(session.mount.name, route.topic);

  const { publishTimer, wheel } = session.core;
  const isTimed = publishTimer.isDue(wheel.nowMs);
  const isPlain = !isTimed && header === 0x30 && layout !== FRAME_NONE && properties === undefined;
  if (isPlain && session.askedCount === 0 && isRunnable(session, route)) {
    joinRun(session, route, layout, buffer, start, end, at);
    return true;
  }
  session.flushRun();
  if (!checkLimits(session, qos, (header & 1) !== 0, packetId)) return true;
  const message = new Message(
    session.mount.name,
    route.topic,
    buffer,
    qos,
    (header & 0x01) !== 0,
    properties,
    expiryS < 0 ? 0 : session.core.wallMs() + expiryS * 1000,
  );
  message.borrow(buffer, start, end, at, layout, route.bytes.length);
  if (alias !== 0 && topicBytes !== 0) checkAlias(session, alias);

  if (route.isReserved) {
    // Differs from VerneMQ, which never acknowledges.
    acknowledge(session, qos === 2 ? packetId | QOS2 : packetId, isV5 ? 0x90 : 0);
    return true;
  }
  if (isTimed) publishTimer.begin(message, wheel.refresh());
  const answer = qos === 2 ? packetId | QOS2 : packetId;
  authorise(session, route, message, answer, topicBytes === 0 ? 0 : alias);
  return true;
}

/** A plain QoS 0 message for a topic without events, groups or a rate limit may join its neighbours. */
function isRunnable(session: Session, route: Route): boolean {
  const { chains } = session.core.hooks;
  return (
    (session.version === 5 ? chains.on_publish_m5 : chains.on_publish).length === 0 &&
    route.groups === undefined &&
    !route.isReserved &&
    session.rate === undefined
  );
}

/** Asks whether a plain QoS 0 message is allowed; if so at once, it joins its neighbours (run.ts). */
function joinRun(
  session: Session,
  route: Route,
  layout: number,
  buffer: Buffer,
  start: number,
  end: number,
  payloadStart: number,
): void {
  if (session.chainSet.isAsked(session.version === 5 ? "auth_on_publish_m5" : "auth_on_publish")) {
    const message = new Message(session.mount.name, route.topic, buffer, 0, false, undefined, 0);
    message.borrow(buffer, start, end, payloadStart, layout, route.bytes.length);
    const verdict = askPublish(session, message);
    if (verdict !== "ok") {
      session.flushRun();
      settle(session, route, message, 0, 0, verdict);
      return;
    }
  }
  const run = session.run;
  if (run !== undefined && run.route === route && run.extend(buffer, start, end)) return;
  session.flushRun();
  session.run = new Run(session.mount, route, layout, buffer, start, end);
}

function readPropertyLength(
  buffer: Buffer,
  at: number,
  end: number,
): { start: number; end: number } {
  let length = 0;
  let start = at;
  for (let shift = 0; ; shift += 7) {
    if (start >= end || shift > 21) throw malformed("property length", "MQTT-1.5.5-1");
    const byte = buffer[start++] as number;
    length += (byte & 0x7f) << shift;
    if (byte < 128) break;
  }
  if (start + length > end) throw malformed("properties beyond the packet", "2.2.2.1");
  return { start, end: start + length };
}

/** The last topic again is found by comparing bytes; others by the mount's cache. */
function routeOf(session: Session, buffer: Buffer, start: number, end: number): Route {
  const last = session.lastRoute;
  if (last !== undefined && last.bytes.length === end - start) {
    const bytes = last.bytes;
    let i = 0;
    while (i < bytes.length && bytes[i] === buffer[start + i]) i++;
    if (i === bytes.length) return last;
  }
  const route = session.mount.lookup(buffer, start, end);
  session.lastRoute = route;
  return route;
}

/** Differs from VerneMQ, which answers unknown aliases with an error code and goes on. */
function routeOfAlias(session: Session, alias: number): Route {
  if (session.version < 5) throw malformed("empty topic", "MQTT-4.7.3-1");
  if (alias === 0) throw protocolError("empty topic without alias", "MQTT-3.3.2-8");
  const route = session.aliasesIn?.[alias];
  if (route === undefined) throw new MqttError(0x94, `alias ${alias} is unknown`, "MQTT-3.3.2-8");
  return route;
}

function checkAlias(session: Session, alias: number): void {
  if (alias > session.settings.topicAliasMaxClient) {
    throw new MqttError(0x94, `alias ${alias} above the maximum`, "MQTT-3.3.2-9");
  }
}

/** Announced limits, receive maximum, repeated QoS 2 ids. False when the packet is dealt with. */
function checkLimits(session: Session, qos: number, retain: boolean, packetId: number): boolean {
  const { settings } = session;
  if (session.version === 5) {
    if (qos > settings.maximumQoS) throw new MqttError(0x9b, "QoS above maximum", "MQTT-3.2.2-11");
    if (retain && !settings.retainAvailable) {
      throw new MqttError(0x9a, "retain is not available", "MQTT-3.2.2-14");
    }
  }
  if (qos === 0) return true;
  const ids = (session.subscriber as Subscriber).inboundIds;
  if (ids === undefined) return true;
  if (ids.has(packetId)) {
    if (qos === 2) {
      // Received before, PUBREL outstanding: acknowledged again, never routed again [MQTT-4.3.3-10].
      // Noted again: the PUBREC must not be earlier than the first one would have been.
      const { core, subscriber } = session;
      const id = subscriber?.id ?? 0;
      session.out.answers.acknowledge(
        PUBREC,
        packetId,
        0,
        id === 0 ? 0 : core.store.putInboundId(id, packetId),
      );
      return false;
    }
  }
  if (session.version === 5 && ids.size >= settings.receiveMaxBroker) {
    throw new MqttError(0x93, "receive maximum exceeded", "MQTT-3.3.4-7");
  }
  return true;
}

/** Asks auth_on_publish(_m5), if there is anyone to ask (hooks/registry.ts, isAsked). */
function authorise(
  session: Session,
  route: Route,
  message: Message,
  answer: number,
  newAlias: number,
): void {
  const chain = session.version === 5 ? "auth_on_publish_m5" : "auth_on_publish";
  if (!session.chainSet.isAsked(chain) && session.askedCount === 0) {
    if (newAlias !== 0) learnAlias(session, newAlias, route);
    accept(session, route, message, answer, 0);
    timed(session, message);
    return;
  }
  const isAsked = session.chainSet.isAsked(chain);
  settle(session, route, message, answer, newAlias, isAsked ? askPublish(session, message) : "ok");
}

function askPublish(session: Session, message: Message): unknown {
  const call = new PublishCall(session.core, session.username, session.hookId, message, session);
  const chain = session.version === 5 ? "auth_on_publish_m5" : "auth_on_publish";
  return session.core.hooks.ask(chain, call, session.chainSet);
}

/** Goes on with a verdict that is there, or waits for it. */
function settle(
  session: Session,
  route: Route,
  message: Message,
  answer: number,
  newAlias: number,
  verdict: unknown,
): void {
  if (!isPromise(verdict)) {
    if (session.askedCount === 0) {
      decide(session, route, message, answer, newAlias, verdict as Verdict<PublishChange>);
      timed(session, message);
      return;
    }
    message.own();
    const entry = new AskedPublish(session, route, message, answer, newAlias);
    entry.verdict = verdict;
    entry.isDecided = true;
    session.addAsked(entry, false);
    return;
  }
  message.own();
  const entry = new AskedPublish(session, route, message, answer, newAlias);
  const chain = session.version === 5 ? "auth_on_publish_m5" : "auth_on_publish";
  const isLast = newAlias !== 0 || answer >= QOS2 || !session.chainSet.isPipelined(chain);
  session.addAsked(entry, isLast);
  verdict.then(
    (late) => entry.decide(late),
    (error: unknown) => session.fault(error),
  );
}

/** The message has been routed or refused. */
function timed(session: Session, message: Message): void {
  const { publishTimer, wheel } = session.core;
  if (publishTimer.isTiming(message)) publishTimer.end(wheel.refresh());
}

function decide(
  session: Session,
  route: Route,
  message: Message,
  answer: number,
  newAlias: number,
  verdict: Verdict<PublishChange>,
): void {
  if (verdict === "ok") {
    if (newAlias !== 0) learnAlias(session, newAlias, route);
    accept(session, session.mount.fresh(route), message, answer, 0);
  } else if (typeof verdict === "object" && "ok" in verdict) {
    const changed = applyPublishModifiers(session, message, verdict.ok);
    if (changed === undefined) {
      refuse(session, route, answer, { reason_code: 0x83 });
      return;
    }
    const mount = session.core.router.mount(changed.mountpoint);
    const newRoute = mount.lookupText(changed.topic);
    if (newAlias !== 0) learnAlias(session, newAlias, newRoute);
    accept(session, newRoute, changed, answer, verdict.ok.throttle ?? 0);
  } else {
    refuse(session, route, answer, typeof verdict === "string" ? verdict : verdict.error);
  }
}

function learnAlias(session: Session, alias: number, route: Route): void {
  session.aliasesIn ??= [];
  session.aliasesIn[alias] = route;
}

/** Routes an authorised message and acknowledges it when it is safe. */
function accept(
  session: Session,
  route: Route,
  message: Message,
  answer: number,
  throttleMs: number,
): void {
  const { core } = session;
  const subscriber = session.subscriber as Subscriber;
  let batch = message.retain
    ? core.router.publishRetained(route, message, subscriber, core.wallMs())
    : core.router.publish(route, message, subscriber);
  if (answer !== 0) {
    // A hook may have changed the message's QoS; the client is answered for the one it used.
    const isQos2 = answer >= QOS2;
    const packetId = answer & 0xffff;
    let code = 0;
    if (batch === -1) {
      batch = 0;
      if (session.version === 5) code = 0x10;
    }
    if (isQos2) {
      subscriber.inboundIds ??= new Set();
      subscriber.inboundIds.add(packetId);
      if (subscriber.isStored) {
        batch = Math.max(batch, core.store.putInboundId(subscriber.id, packetId));
      }
    }
    if (isQos2 || message.retain) {
      session.out.answers.acknowledge(isQos2 ? PUBREC : PUBACK, packetId, code, batch);
    } else {
      session.out.answers.acknowledgeMessage(message, packetId, code, batch);
    }
    if (session.out.answers.count > DEFERRED_MAX) session.holdBack();
  }
  const event = session.version === 5 ? "on_publish_m5" : "on_publish";
  if (core.hooks.chains[event].length > 0) {
    core.hooks.tell(
      event,
      new PublishCall(session.core, session.username, session.hookId, message, session),
    );
  }
  const rateMs = session.rate === undefined ? 0 : session.rate.take(core.wheel.refresh());
  const pauseMs = Math.max(throttleMs, rateMs);
  if (pauseMs > 0) session.pauseFor(pauseMs);
}
