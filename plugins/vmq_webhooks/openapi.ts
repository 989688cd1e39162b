import {
  HOOK_PROPERTY_NAMES,
  MODIFIERS,
  PROPERTY_TABLE,
  type PropertyRow,
  type Shape,
} from "../../core/plugin-api.ts";
import { WEBHOOKS, type WebhookHook, type WebhookRow } from "./hooks.ts";
import { SIGNATURE_HEADER } from "./signature.ts";

/** JSON Schema 2020-12, as OpenAPI 3.1 has it. */
type Schema = Readonly<Record<string, unknown>>;

const TEXT: Schema = { type: "string" };
const TEXT_OR_NULL: Schema = { type: ["string", "null"] };
const FLAG: Schema = { type: "boolean" };
const BASE64: Schema = { type: "string", contentEncoding: "base64" };
const QOS: Schema = integer(0, 2);
/** Without wildcards [MQTT-3.3.2-2]. */
const TOPIC_NAME: Schema = { type: "string", pattern: "^[^+#]+$" };
const NAMES: Schema = { type: "array", items: TEXT };

function integer(minimum: number, maximum: number): Schema {
  return { type: "integer", minimum, maximum };
}

function described(schema: Schema, description: string): Schema {
  return { ...schema, description };
}

function list(items: Schema): Schema {
  return { type: "array", items };
}

function ref(name: string): Schema {
  return { $ref: `#/components/schemas/${name}` };
}

// ---- requests

const PAYLOAD = described(
  TEXT,
  "base64, or text with `base64encode = off`; not there in auth_on_publish(_m5) with `no_payload = on`",
);

/** Members of bodies; "topics" and "properties" depend on the hook. */
const MEMBERS: Readonly<Record<string, Schema>> = {
  peer_addr: described(TEXT, 'IP address, "local" for clients of unix sockets'),
  peer_port: integer(0, 65_535),
  mountpoint: TEXT,
  client_id: TEXT,
  username: TEXT_OR_NULL,
  password: TEXT_OR_NULL,
  clean_session: FLAG,
  clean_start: FLAG,
  qos: QOS,
  topic: TEXT,
  payload: PAYLOAD,
  retain: FLAG,
  listener_addr: described(
    TEXT_OR_NULL,
    'with `forward_connection_opts`; "local" for unix sockets',
  ),
  listener_port: integer(0, 65_535),
  listener_type: TEXT,
  client_cert: described(TEXT, "DER, encoded like payload"),
  base64: described(NAMES, "with `not_utf8 = base64`: members that are base64 here"),
};

const CONNECTION = "listener_addr? listener_port? listener_type? client_cert?";
const CLIENT = "mountpoint client_id";
const REGISTER = `peer_addr peer_port ${CLIENT} username`;
const MESSAGE = `username ${CLIENT} qos topic payload retain`;
const TOPICS = `username ${CLIENT} topics`;

/** Members by hook, in their order; `?` = not always there. `_m5` forms have properties, too. */
const BODIES: Readonly<Record<string, string>> = {
  auth_on_register: `${REGISTER} password clean_session ${CONNECTION}`,
  auth_on_register_m5: `${REGISTER} password clean_start properties ${CONNECTION}`,
  on_register: REGISTER,
  auth_on_publish: MESSAGE.replace("payload", "payload?"),
  on_publish: MESSAGE,
  on_deliver: `${MESSAGE} properties`,
  auth_on_subscribe: TOPICS,
  on_subscribe: TOPICS,
  on_unsubscribe: TOPICS,
  on_auth_m5: `username ${CLIENT} properties`,
  on_offline_message: `${CLIENT} qos topic payload retain`,
  on_client_wakeup: CLIENT,
  on_client_offline: CLIENT,
  on_client_gone: CLIENT,
  on_session_expired: CLIENT,
};

function membersOf(hook: WebhookHook): string[] {
  const own = BODIES[hook];
  const members = (own ?? `${BODIES[hook.replace("_m5", "")]} properties`).split(" ");
  return [...new Set([...members, "base64?"])];
}

function requestSchema(hook: WebhookHook): Schema {
  const members = membersOf(hook);
  const properties: Record<string, Schema> = {};
  for (const member of members) {
    const name = member.replace("?", "");
    properties[name] =
      name === "topics"
        ? topicsOf(hook)
        : name === "properties"
          ? ref("Properties")
          : (MEMBERS[name] as Schema);
  }
  return {
    type: "object",
    properties,
    required: members.filter((member) => !member.endsWith("?")),
    additionalProperties: false,
  };
}

function topicsOf(hook: WebhookHook): Schema {
  const order = "in reverse order of the packet";
  if (hook.startsWith("on_unsubscribe")) return described(NAMES, order);
  const name = hook.endsWith("_m5") ? "SubscriptionM5" : "Subscription";
  return described(list(ref(name)), order);
}

// ---- answers

function propertySchema(row: PropertyRow): Schema {
  switch (row.kind) {
    case "bit":
      return row.name === "payloadFormatIndicator"
        ? { enum: ["utf8", "unspecified", "undefined"] }
        : integer(0, 1);
    case "boolean":
      return FLAG;
    case "uint16":
      return integer(row.min, 0xffff);
    case "uint32":
      return integer(row.min, 0xffff_ffff);
    case "varInt":
      return list(integer(row.min, 268_435_455));
    case "string":
      return TEXT;
    case "binary":
      if (row.name === "authenticationData") return BASE64;
      return described(TEXT, "as it is; base64 where the member base64 names it");
    case "pair":
      return list(ref("UserProperty"));
    default:
      return row.kind satisfies never;
  }
}

const PROPERTIES: ReadonlyMap<string, Schema> = new Map(
  PROPERTY_TABLE.map((row) => [HOOK_PROPERTY_NAMES[row.name], propertySchema(row)]),
);

function propertiesSchema(names: Iterable<string>): Schema {
  const properties: Record<string, Schema> = {};
  for (const name of names) properties[name] = PROPERTIES.get(name) as Schema;
  return { type: "object", properties, additionalProperties: false };
}

function modifierSchema(shape: Exclude<Shape, { kind: "refused" }>): Schema {
  switch (shape.kind) {
    case "integer":
      return integer(shape.min, shape.max);
    case "flag":
      return FLAG;
    case "text":
      return TEXT;
    case "topic":
      return TOPIC_NAME;
    case "choice":
      return { enum: shape.values };
    case "payload":
      return PAYLOAD;
    case "subscriber":
      return {
        type: "object",
        properties: { mountpoint: TEXT, client_id: TEXT },
        required: ["client_id"],
        additionalProperties: false,
      };
    case "reason":
      return { enum: [...shape.codes, "success", "continue_authentication"] };
    case "properties":
      return propertiesSchema(shape.names);
    case "topics":
      return list(ref("Decision"));
    case "filters":
      return NAMES;
    default:
      return shape satisfies never;
  }
}

/** By name, for a hook. */
function modifiersOf(hook: WebhookHook): Record<string, Schema> {
  const modifiers: Record<string, Schema> = {};
  for (const { hooks, name, shape, effect } of MODIFIERS) {
    const isOne = (hooks as readonly string[]).includes(hook) && shape.kind !== "refused";
    if (isOne) modifiers[name] = described(modifierSchema(shape), effect);
  }
  return modifiers;
}

function acceptance(hook: WebhookHook): Schema {
  const result = { const: "ok" };
  const modifiers = modifiersOf(hook);
  if (hook === "auth_on_subscribe" || hook === "on_unsubscribe") {
    const topics = modifiers.topics as Schema;
    return { type: "object", properties: { result, topics }, required: ["result"] };
  }
  const isRegister = hook.startsWith("auth_on_register");
  const both = "client_id and mountpoint together are the subscriber";
  const schema: Schema = {
    type: "object",
    properties: {
      ...modifiers,
      ...(isRegister
        ? { client_id: described(TEXT, both), mountpoint: described(TEXT, both) }
        : {}),
      base64: described(NAMES, "members that are base64 here: payload, p_correlation_data"),
    },
    additionalProperties: false,
    ...(isRegister
      ? { dependentRequired: { client_id: ["mountpoint"], mountpoint: ["client_id"] } }
      : {}),
  };
  return { type: "object", properties: { result, modifiers: schema }, required: ["result"] };
}

function answerSchema({ hook, kind }: WebhookRow): Schema {
  if (kind === "event") return described({}, "any JSON; {} will do");
  return { anyOf: [acceptance(hook), ref("Next"), ref("Refusal")] };
}

const CODE: Schema = {
  anyOf: [integer(0x80, 0xff), described(TEXT, "name of a reason code of MQTT 5")],
};

function decision(options: Readonly<Record<string, Schema>>): Schema {
  return {
    type: "object",
    properties: {
      topic: TEXT,
      qos: described(
        { anyOf: [QOS, ...(CODE.anyOf as Schema[])] },
        "0 to 2 subscribes; 128 and more, or a name, refuses",
      ),
      ...options,
    },
    required: ["topic", "qos"],
    additionalProperties: false,
  };
}

const RETAIN_HANDLING: Schema = { enum: ["send_retain", "send_if_new_sub", "dont_send"] };
const OPTIONS: Readonly<Record<string, Schema>> = {
  no_local: FLAG,
  rap: FLAG,
  retain_handling: RETAIN_HANDLING,
};
const SUB_ID = { sub_id: described(integer(1, 268_435_455), "subscription identifier") };

function subscription(qos: Schema, options: Readonly<Record<string, Schema>>): Schema {
  const properties = { topic: TEXT, qos, ...options };
  const required = Object.keys(properties);
  return { type: "object", properties, required, additionalProperties: false };
}

const SHARED_SCHEMAS: Readonly<Record<string, Schema>> = {
  Properties: described(
    propertiesSchema(PROPERTIES.keys()),
    "properties of the packet, those it has",
  ),
  UserProperty: {
    type: "object",
    properties: { key: BASE64, val: BASE64 },
    required: ["key", "val"],
  },
  Subscription: subscription(
    { enum: [0, 1, 2, 128], description: "128: refused by a plugin before" },
    {},
  ),
  SubscriptionM5: subscription({ anyOf: [QOS, integer(0x80, 0xff)] }, OPTIONS),
  Decision: decision({ ...OPTIONS, ...SUB_ID }),
  Next: described(
    { type: "object", properties: { result: { const: "next" } }, required: ["result"] },
    "the next endpoint, then the next plugin decides; after the last it is a refusal",
  ),
  Refusal: {
    type: "object",
    properties: {
      result: {
        type: "object",
        properties: {
          error: {
            anyOf: [
              TEXT,
              { type: "number" },
              {
                type: "object",
                properties: { reason_code: CODE, reason_string: TEXT },
              },
            ],
          },
          reason_code: described(CODE, "what an MQTT 5 client is told"),
          reason_string: TEXT,
        },
      },
    },
    required: ["result"],
  },
};

/** `auth_on_register_m5` -> `AuthOnRegisterM5`. */
function schemaName(hook: string): string {
  return hook
    .split("_")
    .map((part) => part.charAt(0).toUpperCase() + part.slice(1))
    .join("");
}

function operation(row: WebhookRow): Schema {
  const { hook, about, kind, isCached } = row;
  const name = schemaName(hook);
  const content = (what: string): Schema => ({
    "application/json": { schema: ref(`${name}${what}`) },
  });
  const keep =
    "`max-age=SECONDS` keeps an `ok` for so long; `no-store`, `no-cache` and `max-age=0` do not";
  return {
    post: {
      operationId: hook,
      summary: about,
      tags: [kind === "decides" ? "decisions" : "events"],
      parameters: [
        { name: "vernemq-hook", in: "header", required: true, schema: { const: hook } },
        {
          name: SIGNATURE_HEADER,
          in: "header",
          required: false,
          description:
            "with a secret: `t=SECONDS,v1=HEX`, HMAC-SHA256 of `SECONDS.HOOK.BODY` with the secret as key",
          schema: { type: "string", pattern: "^t=[0-9]+,v1=[0-9a-f]{64}$" },
        },
      ],
      requestBody: { required: true, content: content("Request") },
      responses: {
        "200": {
          description: "the answer",
          ...(isCached
            ? { headers: { "cache-control": { description: keep, schema: TEXT } } }
            : {}),
          content: content("Answer"),
        },
        default: { description: "a failure: what it means, `on_error` says" },
      },
    },
  };
}

/** What endpoints are asked and may answer, as an OpenAPI document. */
export function openApi(): Schema {
  const schemas: Record<string, Schema> = {};
  for (const row of WEBHOOKS) {
    schemas[`${schemaName(row.hook)}Request`] = requestSchema(row.hook);
    schemas[`${schemaName(row.hook)}Answer`] = answerSchema(row);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Webhooks of an MQTT broker",
      version: "1.0.0",
      description:
        "What vmq_webhooks asks and what an endpoint may answer. Each hook has a path of its own here, so that " +
        "servers can be generated: register `endpoint = SERVER/HOOK`. One path for several hooks is possible, too: " +
        "the header `vernemq-hook` tells them apart.",
    },
    servers: [{ url: "http://127.0.0.1:8080" }],
    tags: [
      { name: "decisions", description: "the client waits for the answer" },
      { name: "events", description: "nobody waits" },
    ],
    paths: Object.fromEntries(WEBHOOKS.map((row) => [`/${row.hook}`, operation(row)])),
    components: { schemas: { ...schemas, ...SHARED_SCHEMAS } },
  };
}
