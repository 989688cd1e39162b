/** vmq_http_pub: publishes what an HTTP request asks for, as the client it names. */
import {
  type ClientPublishResult,
  definePlugin,
  type PluginContext,
  type PluginHttpRequest,
  type PluginHttpResponse,
} from "../../core/plugin-api.ts";
import { BadRequest, type Publication, publicationOf } from "./request.ts";

/** Longest body where max_message_size sets no limit. */
const BODY_BYTES_MAX = 16 * 1_048_576;
/** What JSON and base64 may add to a payload of max_message_size. */
const JSON_FACTOR = 2;
const JSON_EXTRA_BYTES = 65_536;

interface Counter {
  increment(): void;
}

interface Counters {
  readonly published: Counter;
  readonly apiError: Counter;
  readonly authError: Counter;
}

interface Identity {
  readonly clientId: string | undefined;
  readonly user: string | undefined;
  readonly password: string | undefined;
}

export default definePlugin({
  name: "vmq_http_pub",
  hooks: {},
  start(context) {
    const counters: Counters = {
      published: context.metrics.counter("http_pub_published"),
      apiError: context.metrics.counter("http_pub_api_error"),
      authError: context.metrics.counter("http_pub_auth_error"),
    };
    context.http({
      name: "vmq_http_pub",
      path: "/restmqtt/api/v1/publish",
      methods: ["PUT", "POST"],
      contentTypes: ["application/json", "application/octet-stream"],
      scope: "httppub",
      bodyBytesMax: bodyBytesMax(Number(context.config("max_message_size") ?? 0)),
      handle: (request) => handle(context, counters, request),
    });
  },
});

function bodyBytesMax(messageBytesMax: number): number {
  return messageBytesMax === 0 ? BODY_BYTES_MAX : messageBytesMax * JSON_FACTOR + JSON_EXTRA_BYTES;
}

async function handle(
  context: PluginContext,
  counters: Counters,
  request: PluginHttpRequest,
): Promise<PluginHttpResponse> {
  try {
    const publication = publicationOf(request);
    const result = await publish(context, request, publication);
    return answer(counters, result);
  } catch (failure) {
    if (!(failure instanceof BadRequest)) throw failure;
    counters.apiError.increment();
    return text(400, failure.message);
  }
}

async function publish(
  context: PluginContext,
  { peer, listener }: PluginHttpRequest,
  publication: Publication,
): Promise<ClientPublishResult> {
  const setting = (name: string): string | undefined => {
    const own = context.config(
      `listener.${listener.kind}.${listener.name}.http_modules.vmq_http_pub.${name}`,
    );
    const value = own ?? context.config(`vmq_http_pub.${name}`);
    return value === undefined || value === "" ? undefined : String(value);
  };
  const { clientId, user, password } = identityOf(setting, publication);
  const { topic, payload, qos, retain, userProperties } = publication;
  return context.broker.publishAs(
    {
      clientId: clientId ?? "",
      username: user,
      password: password === undefined ? undefined : Buffer.from(password),
      peer,
    },
    {
      topic,
      payload,
      qos,
      retain,
      mountpoint: setting("mountpoint") ?? "",
      properties: userProperties.length === 0 ? {} : { p_user_property: [...userProperties] },
    },
  );
}

function identityOf(
  setting: (name: string) => string | undefined,
  publication: Publication,
): Identity {
  if (setting("mqtt_auth.mode") !== "predefined") return publication;
  return {
    clientId: setting("mqtt_auth.client_id"),
    user: setting("mqtt_auth.user"),
    password: setting("mqtt_auth.password"),
  };
}

const ANSWERS = {
  published: ["published", 200, "Published"],
  topic_invalid: ["apiError", 400, "Invalid topic"],
  properties_invalid: [
    "apiError",
    400,
    "User properties need to be a key/value list (json encoded)",
  ],
  not_authenticated: ["authError", 401, "Authentication failure."],
  not_authorized: ["authError", 403, "Authorization failure."],
  too_large: ["apiError", 413, "Payload too large."],
} as const satisfies Record<ClientPublishResult["result"], [keyof Counters, number, string]>;

function answer(counters: Counters, { result }: ClientPublishResult): PluginHttpResponse {
  const [counter, status, body] = ANSWERS[result];
  counters[counter].increment();
  return text(status, body);
}

function text(status: number, body: string): PluginHttpResponse {
  return { status, headers: { "content-type": "text/plain" }, body };
}
