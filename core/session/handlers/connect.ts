import { randomBytes } from "node:crypto";
import { isPromise } from "../../hooks/chain.ts";
import type {
  ConnectionMeta,
  HookError,
  HookModifiers,
  HookProperties,
  RegisterModifiers,
  Verdict,
} from "../../hooks/types.ts";
import { decodeConnect, encodeConnack } from "../../mqtt/codec.ts";
import { fromHookProperties, toHookProperties } from "../../mqtt/hook-properties.ts";
import { Message } from "../../mqtt/message.ts";
import { CONNACK, type ConnectPacket, type Properties, type Will } from "../../mqtt/packets.ts";
import { encodePublishProperties } from "../../mqtt/publish-properties.ts";
import { isServerReasonCode, reasonCodeOf } from "../../mqtt/reason-codes.ts";
import type { StoredWill } from "../../store/types.ts";
import { WillCall, withContext, withSignal } from "../hook-arguments.ts";
import { applyPublishModifiers } from "../publish-modifiers.ts";
import { RateLimit } from "../rate.ts";
import { AUTHENTICATING, CONNECTED, CONNECTING, type Session } from "../session.ts";
import { withModifiers } from "../settings.ts";
import { NEVER_EXPIRES } from "../subscriber.ts";
import { askAuth, sendAuth } from "./auth.ts";

/** What CONNACK will carry besides the result. */
interface Progress {
  packet: ConnectPacket;
  /** CONNACK properties of MQTT 5, collected on the way. */
  connack: Properties;
  /** For how long nothing is read after CONNACK. */
  throttleMs: number;
}

/**
 * CONNECT, in VerneMQ's order: enhanced authentication, client id, register hooks, will, takeover,
 * CONNACK. Differs from VerneMQ: the will is checked before anything of a running session is touched.
 */
export function handleConnect(session: Session, buffer: Buffer, body: number, end: number): void {
  const packet = decodeConnect(buffer, body, end);
  session.version = packet.version;
  session.level = packet.level;
  session.phase = CONNECTING;
  session.core.counters.connectReceived[session.versionIndex]++;
  session.clientId = packet.clientId;
  session.username = session.transport.preAuthUsername ?? packet.username;
  session.hookId = { mountpoint: session.mount.name, client_id: packet.clientId };
  session.requestProblemInfo = packet.properties?.requestProblemInformation !== false;
  session.packetBytesMax = packet.properties?.maximumPacketSize;
  session.keepAliveS = packet.keepAliveS;
  session.cleanStart = packet.clean;
  const { listener } = session.transport;
  if (!listener.allowedProtocolVersions.includes(packet.level)) {
    session.refuse(session.version === 5 ? 0x84 : 1, undefined, "protocol version not allowed");
    return;
  }
  const progress: Progress = { packet, connack: {}, throttleMs: 0 };
  const method = packet.properties?.authenticationMethod;
  if (session.version === 5 && method !== undefined) authenticate(session, progress, method);
  else checkClientId(session, progress);
}

function authenticate(session: Session, progress: Progress, method: string): void {
  session.enhancedAuth = {
    method,
    proceed: (properties) => {
      session.phase = CONNECTING;
      Object.assign(progress.connack, properties);
      checkClientId(session, progress);
    },
  };
  session.proceed(askAuth(session, method, progress.packet.properties), (result) => {
    if (result.kind === "refused") session.refuse(result.code, result.properties);
    else if (result.kind === "success") session.enhancedAuth?.proceed?.(result.properties);
    else {
      session.phase = AUTHENTICATING;
      sendAuth(session, 0x18, result.properties);
    }
  });
}

function checkClientId(session: Session, progress: Progress): void {
  const { packet } = progress;
  const isV5 = session.version === 5;
  if (packet.clientId === "") {
    // [MQTT-3.1.3-6] 3.1 needs an id; [MQTT-3.1.3-8] 3.1.1 only without Clean Session.
    if (!isV5 && (session.version === 3 || !packet.clean)) {
      session.refuse(2, undefined, "no client identifier");
      return;
    }
    session.clientId = `anon-${randomBytes(21).toString("base64url")}`;
    session.hookId = { mountpoint: session.mount.name, client_id: session.clientId };
    if (isV5) progress.connack.assignedClientIdentifier = session.clientId;
  } else if (Buffer.byteLength(packet.clientId) > session.settings.maxClientIdSize) {
    session.refuse(isV5 ? 0x85 : 2, undefined, "client identifier above max_client_id_size");
    return;
  }
  register(session, progress);
}

// ---- auth_on_register

function register(session: Session, progress: Progress): void {
  const { settings } = session;
  const { listener } = session.transport;
  const mode = listener.allowAnonymousOverride ? "on" : settings.allowAnonymous;
  if (mode === "on") {
    checkWill(session, progress);
    return;
  }
  const chain = session.version === 5 ? "auth_on_register_m5" : "auth_on_register";
  if (mode === "hooks" && session.chainSet.chains[chain].length === 0) {
    checkWill(session, progress);
    return;
  }
  const verdict = askRegister(session, progress.packet);
  const decide = (answer: Verdict<RegisterModifiers>): void => {
    if (answer === "ok") checkWill(session, progress);
    else if (typeof answer === "object" && "ok" in answer) {
      applyModifiers(session, progress, answer.ok);
      checkWill(session, progress);
    } else {
      const error = typeof answer === "string" ? answer : answer.error;
      if (mode === "hooks" && error === "plugin_chain_exhausted") checkWill(session, progress);
      else refuseRegistration(session, error);
    }
  };
  if (isPromise(verdict)) {
    session.proceed(verdict as Promise<Verdict<RegisterModifiers>>, decide);
  } else {
    decide(verdict as Verdict<RegisterModifiers>);
  }
}

function askRegister(session: Session, packet: ConnectPacket): unknown {
  // Written out: an object literal that begins with a spread costs V8 5 µs.
  const { peer } = session.transport;
  const { hookId: subscriber_id, username } = session;
  const { password, clean } = packet;
  const connection_meta = connectionMeta(session);
  if (session.version < 5) {
    const common = {
      peer,
      subscriber_id,
      username,
      password,
      connection_meta,
      clean_session: clean,
    };
    return session.core.hooks.ask(
      "auth_on_register",
      withSignal(common, session),
      session.chainSet,
    );
  }
  const properties = toHookProperties(packet.properties);
  const args = withSignal(
    { peer, subscriber_id, username, password, connection_meta, clean_start: clean, properties },
    session,
  );
  return session.core.hooks.ask("auth_on_register_m5", args, session.chainSet);
}

const LISTENER_TYPES = { tcp: "mqtt", ssl: "mqtts", ws: "mqttws", wss: "mqttwss" } as const;

function connectionMeta(session: Session): ConnectionMeta | undefined {
  const { listener, clientCert } = session.transport;
  if (!listener.forwardConnectionOpts) return undefined;
  return {
    listener_addr: listener.address,
    listener_port: listener.port,
    listener_type: LISTENER_TYPES[listener.kind],
    ...(clientCert === undefined ? {} : { client_cert: clientCert }),
  };
}

/** Takes over what the hook changed. */
function applyModifiers(session: Session, progress: Progress, given: RegisterModifiers): void {
  const { connack } = progress;
  session.settings = withModifiers(session.settings, given);
  const id = given.subscriber_id;
  if (id !== undefined) {
    session.clientId = id.client_id;
    session.mount = session.core.router.mount(id.mountpoint ?? session.mount.name);
    session.hookId = { mountpoint: session.mount.name, client_id: id.client_id };
    // A client that left the choice to us must know what it is called.
    if (connack.assignedClientIdentifier !== undefined) {
      connack.assignedClientIdentifier = id.client_id;
    }
  }
  session.username = given.username ?? session.username;
  session.cleanStart = given.clean_start ?? given.clean_session ?? session.cleanStart;
  session.requestProblemInfo = given.request_problem_info ?? session.requestProblemInfo;
  if (given.max_packet_size !== undefined) {
    const clients = session.packetBytesMax ?? Number.POSITIVE_INFINITY;
    session.packetBytesMax = Math.min(clients, given.max_packet_size);
  }
  if (given.properties !== undefined) applyProperties(session, progress, given.properties);
}

function applyProperties(session: Session, progress: Progress, given: HookProperties): void {
  const { connack, packet } = progress;
  if (given.p_server_keep_alive !== undefined) {
    session.keepAliveS = given.p_server_keep_alive;
    connack.serverKeepAlive = given.p_server_keep_alive;
  }
  // [MQTT-3.1.2-28] only for a client that asked for it
  const isAsked = packet.properties?.requestResponseInformation === true;
  if (isAsked && given.p_response_info !== undefined) {
    connack.responseInformation = given.p_response_info;
  }
  if (given.p_user_property !== undefined) {
    connack.userProperties = given.p_user_property.map(({ key, val }) => [key, val]);
  }
}

function refuseRegistration(session: Session, error: HookError): void {
  const why = typeof error === "object" ? String(error.reason_code) : String(error);
  if (session.version < 5) {
    const code = error === "plugin_error" ? 3 : error === "invalid_credentials" ? 4 : 5;
    session.refuse(code, undefined, why);
    return;
  }
  if (error === "plugin_error") {
    session.refuse(0x83, undefined, why);
    return;
  }
  if (error === "plugin_unavailable") {
    session.refuse(0x88, undefined, why);
    return;
  }
  // A bare name is a reason of VerneMQ, not a reason code: 0x86, whatever it is.
  const given = typeof error === "object" ? error.reason_code : error;
  const isCode = typeof error === "object" || typeof error === "number";
  const code = isCode && given !== undefined ? reasonCodeOf(given) : undefined;
  session.refuse(
    code !== undefined && code >= 0x80 && isServerReasonCode(CONNACK, code) ? code : 0x86,
    typeof error === "object" ? refusalProperties(error) : undefined,
    why,
  );
}

/** What of a refusal may go into CONNACK: Reason String and Server Reference. */
function refusalProperties(error: Exclude<HookError, string | number>): Properties | undefined {
  const given = {
    p_reason_string: error.reason_string ?? error.properties?.p_reason_string,
    p_server_ref: error.properties?.p_server_ref,
  };
  const checked = fromHookProperties(given, CONNACK);
  return "properties" in checked ? checked.properties : undefined;
}

// ---- will

function checkWill(session: Session, progress: Progress): void {
  const { will } = progress.packet;
  if (will === undefined) {
    attach(session, progress);
    return;
  }
  const asked = storedWill(session, will);
  if (typeof asked === "number") {
    session.refuse(session.version === 5 ? asked : 5, undefined, "will not possible");
    return;
  }
  const { message } = asked;
  const { core } = session;
  const chain = session.version === 5 ? "auth_on_publish_m5" : "auth_on_publish";
  if (!session.chainSet.isAsked(chain)) {
    session.will = asked;
    attach(session, progress);
    return;
  }
  const decide = (answer: unknown): void => {
    const verdict = answer as Verdict<HookModifiers["auth_on_publish_m5"]>;
    const changes = typeof verdict === "object" && "ok" in verdict ? verdict.ok : undefined;
    const changed =
      changes === undefined
        ? verdict === "ok" && message
        : applyPublishModifiers(session, message, changes, true);
    if (!changed) {
      core.counters.publishAuthError[session.versionIndex]++;
      session.refuse(session.version === 5 ? 0x87 : 5, undefined, "will not authorized");
      return;
    }
    const properties = changes?.properties;
    session.will = {
      message: changed,
      delayS: properties?.p_will_delay_interval ?? asked.delayS,
      expiryS: properties?.p_message_expiry_interval ?? asked.expiryS,
    };
    progress.throttleMs = changes?.throttle ?? 0;
    attach(session, progress);
  };
  const { core: clock, username, hookId } = session;
  const call = new WillCall(clock, username, hookId, message, session, will.properties);
  const verdict = core.hooks.ask(chain, call, session.chainSet);
  if (isPromise(verdict)) session.proceed(verdict as Promise<unknown>, decide);
  else decide(verdict);
}

/** The reason code of CONNACK for a will that is not possible here. */
function storedWill(session: Session, will: Will): StoredWill | number {
  if (will.topic.startsWith("$")) return 0x90;
  const { settings } = session;
  if (will.qos > settings.maximumQoS) return 0x9b; // [MQTT-3.2.2-12]
  if (will.retain && !settings.retainAvailable) return 0x9a; // [MQTT-3.2.2-13]
  session.mount.lookupText(will.topic);
  const encoded = encodePublishProperties(will.properties ?? {});
  const message = new Message(
    session.mount.name,
    will.topic,
    Buffer.from(will.payload),
    will.qos,
    will.retain,
    session.version === 5 ? encoded.forward : undefined,
    0,
  );
  // The clock of its expiry starts when it is published; see will.ts.
  return {
    message,
    delayS: will.properties?.willDelayInterval ?? 0,
    expiryS: encoded.messageExpiryInterval,
  };
}

// ---- session, CONNACK

function attach(session: Session, progress: Progress): void {
  const { core } = session;
  if (core.manager.isHeld(session)) {
    session.refuse(session.version === 5 ? 0x85 : 2);
    return;
  }
  const ready = core.cluster.claim(session.hookId);
  if (ready === undefined) finish(session, progress);
  else session.proceed(ready, () => finish(session, progress));
}

function finish(session: Session, progress: Progress): void {
  const { core, settings } = session;
  const { packet, connack } = progress;
  const requestedExpiry = packet.properties?.sessionExpiryInterval ?? 0;
  const expiryS = sessionExpiry(session, requestedExpiry);
  const { sessionPresent, batch } = core.manager.attach(session, {
    expiryS,
    window: sendWindow(session, packet),
    packetBytesMax: session.packetBytesMax ?? Number.POSITIVE_INFINITY,
    aliasMax: Math.min(packet.properties?.topicAliasMaximum ?? 0, settings.topicAliasMaxBroker),
  });
  session.applySizeLimit();
  if (settings.maxMessageRate > 0) {
    session.rate = new RateLimit(settings.maxMessageRate, core.wheel.nowMs);
  }
  if (session.version === 5) {
    announce(session, connack);
    if (expiryS !== requestedExpiry) connack.sessionExpiryInterval = expiryS;
  }
  tellRegistered(session, packet, connack);
  if (core.commits.isDurable(batch)) {
    accept(session, sessionPresent, progress);
    return;
  }
  // What CONNACK promises (a new session, an old one gone) is in the store first.
  session.wait();
  core.commits.when(batch, () => {
    if (session.isAttached) accept(session, sessionPresent, progress);
    session.release();
  });
}

/** Seconds the state is kept after the connection; 0 = not at all. */
function sessionExpiry(session: Session, requested: number): number {
  const { settings } = session;
  const isKept = settings.cleanupOnDisconnect === false;
  const keptS = settings.persistentClientExpirationS || NEVER_EXPIRES;
  if (settings.cleanupOnDisconnect === true) return 0;
  if (session.version === 5) {
    const expiryS = settings.sessionExpiryIntervalS ?? requested;
    return expiryS === 0 && isKept ? keptS : expiryS;
  }
  if (settings.allowMultipleSessions) return NEVER_EXPIRES;
  return session.cleanStart && !isKept ? 0 : keptS;
}

function sendWindow(session: Session, packet: ConnectPacket): number {
  const { settings } = session;
  const inflight = settings.maxInflightMessages || 65_535;
  if (session.version < 5) return inflight;
  return Math.min(
    packet.properties?.receiveMaximum ?? 65_535,
    settings.receiveMaxClient,
    settings.isInflightFromHook ? inflight : 65_535,
  );
}

/** Differs from VerneMQ: every limit that is enforced is announced, and the other way round. */
function announce(session: Session, connack: Properties): void {
  const { settings } = session;
  if (settings.topicAliasMaxClient > 0) connack.topicAliasMaximum = settings.topicAliasMaxClient;
  if (settings.receiveMaxBroker < 65_535) connack.receiveMaximum = settings.receiveMaxBroker;
  if (settings.maxMessageSize > 0) connack.maximumPacketSize = settings.maxMessageSize;
  if (settings.maximumQoS < 2) connack.maximumQoS = settings.maximumQoS;
  if (!settings.retainAvailable) connack.retainAvailable = false;
  if (!settings.wildcardSubscriptionAvailable) connack.wildcardSubscriptionAvailable = false;
  if (!settings.sharedSubscriptionAvailable) connack.sharedSubscriptionAvailable = false;
  if (!settings.subscriptionIdentifiersAvailable) connack.subscriptionIdentifiersAvailable = false;
}

function tellRegistered(session: Session, packet: ConnectPacket, connack: Properties): void {
  const { hooks } = session.core;
  const who = {
    peer: session.transport.peer,
    subscriber_id: session.hookId,
    username: session.username,
  };
  if (session.version < 5) {
    if (hooks.wants("on_register")) hooks.tell("on_register", withContext(who, session));
  } else if (hooks.wants("on_register_m5")) {
    const args = {
      ...who,
      properties: toHookProperties(connack),
      connect_properties: toHookProperties(packet.properties),
    };
    hooks.tell("on_register_m5", withContext(args, session));
  }
}

function accept(session: Session, sessionPresent: boolean, progress: Progress): void {
  const frame = encodeConnack(
    session.version,
    { sessionPresent, code: 0, properties: progress.connack },
    { maximumPacketSize: session.packetBytesMax },
  );
  if (frame === undefined) {
    session.end({ reason: "CONNACK above maximum packet size", publishWill: false });
    return;
  }
  session.out.outbox.append(frame);
  session.countConnack(0);
  session.phase = CONNECTED;
  if (session.enhancedAuth !== undefined) session.enhancedAuth.proceed = undefined;
  session.startDeadlines();
  logConnected(session, sessionPresent);
  session.out.open();
  if (progress.throttleMs > 0) session.pauseFor(progress.throttleMs);
}

/** One line for each client; not even its fields are made where nobody reads it. */
function logConnected(session: Session, sessionPresent: boolean): void {
  const { core, transport } = session;
  if (!core.log.isEnabled("info")) return;
  core.log.info("client connected", {
    client_id: session.clientId,
    ...(session.mount.name === "" ? {} : { mountpoint: session.mount.name }),
    username: session.username,
    peer: `${transport.peer.address}:${transport.peer.port}`,
    listener: `${transport.listener.kind}.${transport.listener.name}`,
    protocol: session.level,
    keep_alive_s: session.keepAliveS,
    session_present: sessionPresent,
  });
}
