/** vmq_http_pub: publishes what an HTTP request asks for, as the client it names (http.md, section 8). */
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

function answer(counters: Counters, { result }: ClientPublishResult): PluginHttpResponse {
  switch (result) {
    case "published":
      counters.published.increment();
      return text(200, "Published");
    case "topic_invalid":
      counters.apiError.increment();
      return text(400, "Invalid topic");
    case "properties_invalid":
      counters.apiError.increment();
      return text(400, "User properties need to be a key/value list (json encoded)");
    case "not_authenticated":
      counters.authError.increment();
      return text(401, "Authentication failure.");
    case "not_authorized":
      counters.authError.increment();
      return text(403, "Authorization failure.");
    case "too_large":
      counters.apiError.increment();
      return text(413, "Payload too large.");
    default:
      return result satisfies never;
  }
}

function text(status: number, body: string): PluginHttpResponse {
  return { status, headers: { "content-type": "text/plain" }, body };
}
