/**
 * Packet types of MQTT 3.1, 3.1.1 and 5.0 as plain data. Field names follow mqtt-packet where it has
 * one; user properties are an ordered list of pairs because MQTT 5.0 asks for their order to be kept.
 */
export type UserProperty = readonly [name: string, value: string];

/** MQTT 5.0, 2.2.2.2. Absent = not on the wire. */
export interface Properties {
  payloadFormatIndicator?: number;
  messageExpiryInterval?: number;
  contentType?: string;
  responseTopic?: string;
  correlationData?: Buffer;
  subscriptionIdentifiers?: number[];
  sessionExpiryInterval?: number;
  assignedClientIdentifier?: string;
  serverKeepAlive?: number;
  authenticationMethod?: string;
  authenticationData?: Buffer;
  requestProblemInformation?: boolean;
  willDelayInterval?: number;
  requestResponseInformation?: boolean;
  responseInformation?: string;
  serverReference?: string;
  reasonString?: string;
  receiveMaximum?: number;
  topicAliasMaximum?: number;
  topicAlias?: number;
  maximumQoS?: number;
  retainAvailable?: boolean;
  userProperties?: UserProperty[];
  maximumPacketSize?: number;
  wildcardSubscriptionAvailable?: boolean;
  subscriptionIdentifiersAvailable?: boolean;
  sharedSubscriptionAvailable?: boolean;
}

export interface Will {
  topic: string;
  payload: Buffer;
  qos: number;
  retain: boolean;
  properties: Properties | undefined;
}

export interface ConnectPacket {
  type: "connect";
  /** 3, 4 or 5: how packets of this connection are encoded. */
  version: 3 | 4 | 5;
  /** Level byte as sent: 3, 4, 5, 131, 132. */
  level: number;
  /** Levels 131 and 132: a bridge. */
  bridge: boolean;
  /** Clean Session (3.x) or Clean Start (5). */
  clean: boolean;
  keepAliveS: number;
  clientId: string;
  username: string | undefined;
  password: Buffer | undefined;
  will: Will | undefined;
  properties: Properties | undefined;
}

export interface SubscriptionRequest {
  filter: string;
  qos: number;
  noLocal: boolean;
  retainAsPublished: boolean;
  retainHandling: number;
}

export interface SubscribePacket {
  type: "subscribe";
  packetId: number;
  subscriptions: SubscriptionRequest[];
  properties: Properties | undefined;
}

export interface UnsubscribePacket {
  type: "unsubscribe";
  packetId: number;
  filters: string[];
  properties: Properties | undefined;
}

export interface DisconnectPacket {
  type: "disconnect";
  reasonCode: number;
  properties: Properties | undefined;
}

export interface AuthPacket {
  type: "auth";
  reasonCode: number;
  properties: Properties | undefined;
}

/** PUBACK, PUBREC, PUBREL and PUBCOMP in their long form (MQTT 5 with reason code or properties). */
export interface AckPacket {
  type: "puback" | "pubrec" | "pubrel" | "pubcomp";
  packetId: number;
  reasonCode: number;
  properties: Properties | undefined;
}

/** Control packets a client may send, except PUBLISH and PINGREQ (hot-codec.ts). */
export type ControlPacket =
  | ConnectPacket
  | SubscribePacket
  | UnsubscribePacket
  | DisconnectPacket
  | AuthPacket
  | AckPacket;

/** Packet type numbers. MQTT 5.0, 2.1.2. */
export const CONNECT = 1;
export const CONNACK = 2;
export const PUBLISH = 3;
export const PUBACK = 4;
export const PUBREC = 5;
export const PUBREL = 6;
export const PUBCOMP = 7;
export const SUBSCRIBE = 8;
export const SUBACK = 9;
export const UNSUBSCRIBE = 10;
export const UNSUBACK = 11;
export const PINGREQ = 12;
export const PINGRESP = 13;
export const DISCONNECT = 14;
export const AUTH = 15;

/**
 * A violation of the protocol: ends the connection with `reasonCode` (MQTT 5) or silently (3.x).
 * `statement` names the normative statement or section that was broken.
 */
export class MqttError extends Error {
  readonly reasonCode: number;
  readonly statement: string;

  constructor(reasonCode: number, message: string, statement: string) {
    super(message);
    this.name = "MqttError";
    this.reasonCode = reasonCode;
    this.statement = statement;
  }
}
