import type { PluginHttpRequest } from "../../core/plugin-api.ts";

/** A message and whom it is from, as a request describes them. */
export interface Publication {
  readonly topic: string;
  readonly payload: Buffer;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  readonly userProperties: readonly { key: string; val: string }[];
  readonly clientId: string | undefined;
  readonly user: string | undefined;
  readonly password: string | undefined;
}

/** A request that is answered with 400 and this text. */
export class BadRequest extends Error {}

/** What VerneMQ answers. */
const TEXTS = {
  topic: "Invalid topic",
  qos: "Invalid QoS value. Must be in range 0..2",
  retain: "Invalid retain flag. Must be in true or false",
  properties: "User properties need to be a key/value list (json encoded)",
  twice: "Parameters found in header as well as url-encoded",
  encoding: "Only encoding plain or base64 allows. No more URL parameters supported.",
  json: "Content is not a valid json",
};

/** Where a field stands decides how the message is passed: in headers, in the query, or in JSON. */
export function publicationOf(request: PluginHttpRequest): Publication {
  const query = new URLSearchParams(request.query);
  const header = (name: string): string | undefined => {
    const value = request.headers[name];
    return Array.isArray(value) ? value[0] : value;
  };
  const isInHeaders = header("topic") !== undefined;
  const isInQuery = query.has("topic");
  // Differs from VerneMQ, which fails with 500 unless `encoding` is there, too.
  if (isInHeaders && isInQuery) throw new BadRequest(TEXTS.twice);
  if (isInHeaders) {
    return fields(header, request.body, parsedProperties(header("user_properties")));
  }
  if (isInQuery) return fields((name) => query.get(name) ?? undefined, request.body, undefined);
  return fromJson(request.body, encodingOf(query));
}

function encodingOf(query: URLSearchParams): "plain" | "base64" {
  const encoding = query.get("encoding");
  if (encoding === null) return "plain";
  const isAlone = [...query.keys()].length === 1;
  if (!isAlone || (encoding !== "plain" && encoding !== "base64")) {
    throw new BadRequest(TEXTS.encoding);
  }
  return encoding;
}

function fromJson(body: Buffer, encoding: "plain" | "base64"): Publication {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body.toString("utf8"));
  } catch {
    throw new BadRequest(TEXTS.json);
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    throw new BadRequest(TEXTS.json);
  }
  const given = parsed as Readonly<Record<string, unknown>>;
  const { payload } = given;
  if (typeof given.topic !== "string") throw new BadRequest(TEXTS.topic);
  if (typeof payload !== "string") throw new BadRequest("Invalid payload. Must be a text");
  const text = (name: string): string | undefined => {
    const value = given[name];
    return value === undefined || value === null ? undefined : String(value);
  };
  return fields(text, decoded(payload, encoding), given.user_properties);
}

function decoded(payload: string, encoding: "plain" | "base64"): Buffer {
  if (encoding === "plain") return Buffer.from(payload, "utf8");
  const text = payload.replace(/\s/g, "");
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.replace(/=+$/, "").length % 4 === 1) {
    throw new BadRequest("Invalid payload. Must be base64");
  }
  return Buffer.from(text, "base64");
}

function fields(
  textOf: (name: string) => string | undefined,
  payload: Buffer,
  properties: unknown,
): Publication {
  const qos = textOf("qos") ?? "0";
  const retain = textOf("retain") ?? "false";
  if (qos !== "0" && qos !== "1" && qos !== "2") throw new BadRequest(TEXTS.qos);
  if (retain !== "true" && retain !== "false") throw new BadRequest(TEXTS.retain);
  return {
    topic: textOf("topic") ?? "",
    payload,
    qos: Number(qos) as 0 | 1 | 2,
    retain: retain === "true",
    userProperties: propertyList(properties),
    clientId: textOf("client_id"),
    user: textOf("user"),
    password: textOf("password"),
  };
}

function parsedProperties(text: string | undefined): unknown {
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    throw new BadRequest(TEXTS.properties);
  }
}

/** An array; its first object counts, as in VerneMQ. */
function propertyList(given: unknown): { key: string; val: string }[] {
  if (given === undefined || given === null) return [];
  if (!Array.isArray(given)) throw new BadRequest(TEXTS.properties);
  const [first]: unknown[] = given;
  if (first === undefined) return [];
  if (typeof first !== "object" || first === null || Array.isArray(first)) {
    throw new BadRequest(TEXTS.properties);
  }
  return Object.entries(first).map(([key, value]: [string, unknown]) => {
    if (typeof value === "object") throw new BadRequest(TEXTS.properties);
    return { key, val: String(value) };
  });
}
