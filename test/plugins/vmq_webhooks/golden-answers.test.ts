import { beforeAll, describe, expect, test } from "vitest";
import type { Broker } from "../../../core/broker-types.ts";
import { connectClient, openClient } from "../../support/raw-client.ts";
import {
  AUTH_HOOKS,
  OK,
  registered,
  startEndpoint,
  startWebhooks,
  type TestEndpoint,
} from "../../support/webhooks.ts";
import { recorded } from "./recorded.ts";

/** What answers did to the clients of VerneMQ 2.2.0: CONNACK, PUBACK and SUBACK codes. */

interface Recorded {
  readonly hook: string;
  readonly scenario: string;
  readonly status: number;
  /** `@` stands for the client id. */
  readonly body: string;
  /** Codes of the answer packet, or the broker closed without one. */
  readonly result: number | number[] | "close";
}

const RECORDED = recorded<Recorded>("answers.jsonl");

/** Differs from VerneMQ on purpose: what the client gets here, by the body of the answer. */
const BETTER: Readonly<Record<string, Recorded["result"]>> = {
  // Texts that name a reason are that reason.
  'auth_on_register {"error": "invalid_credentials"}': 4,
  'auth_on_register_m5 {"error": "quota_exceeded"}': 0x97,
  'auth_on_register_m5 {"error": {"reason_code": "quota_exceeded", "reason_string": "rs"}}': 0x97,
  'auth_on_publish_m5 {"error": "quota_exceeded"}': 0x97,
  'auth_on_publish_m5 {"error": {"reason_code": "quota_exceeded", "reason_string": "rs"}}': 0x97,
  'auth_on_subscribe_m5 {"error": "quota_exceeded"}': [0x97, 0x97, 0x97],
  'auth_on_subscribe_m5 {"error": {"reason_code": "quota_exceeded", "reason_string": "rs"}}': [
    0x97, 0x97, 0x97,
  ],
  // Modifiers that VerneMQ refuses to take from endpoints.
  'auth_on_register {"subscriber_id": {"mountpoint": "mp2", "client_id": "sid-4"}}': 0,
  'auth_on_register {"queue_deliver_mode": "fanout"}': 0,
  'auth_on_register {"allow_multiple_sessions": true}': 0,
  'auth_on_register_m5 {"subscriber_id": {"mountpoint": "mp2", "client_id": "sid-5"}}': 0,
  'auth_on_register_m5 {"queue_deliver_mode": "fanout"}': 0,
  'auth_on_register_m5 {"allow_multiple_sessions": true}': 0,
  'auth_on_register_m5 {"session_expiry_interval": 10}': 0,
  'auth_on_register_m5 {"properties": {"p_max_qos": 0}}': 0,
  'auth_on_register_m5 {"max_packet_size": 50}': 0,
  'auth_on_register_m5 {"topic_alias_max": 3}': 0,
  'auth_on_register_m5 {"request_problem_info": false}': 0,
  'auth_on_publish_m5 {"properties": {"p_payload_format_indicator": "unspecified"}}': 0,
  'auth_on_subscribe_m5 {"topics": [{"topic": "rw/@", "qos": 0}, {"topic": "x/@", "qos": 151}], "properties": {"p_reason_string": "rs", "p_user_property": [{"key": "azI=", "val": "djI="}]}}':
    [0x97, 0, 0x87],
  'auth_on_subscribe_m5 {"properties": {"p_reason_string": "rs"}}': [0, 1, 2],
  // No QoS and no reason code.
  'auth_on_subscribe_m5 {"topics": [{"topic": "s/a/@", "qos": 5}]}': [0x87, 0x87, 0x87],
};

const SAYS_NOTHING = /"modifiers": (\{\}|\{"properties": \{\}\})/;

/** VerneMQ closes the socket without a word: empty objects are none, everything else is a refusal. */
function spoken({ hook, body }: Recorded): Recorded["result"] {
  const saysNothing = SAYS_NOTHING.test(body);
  if (hook.startsWith("auth_on_subscribe")) {
    return saysNothing ? [0, 1, 2] : Array(3).fill(hook.endsWith("_m5") ? 0x87 : 0x80);
  }
  if (saysNothing) return 0;
  if (hook === "auth_on_publish") return "close";
  return hook === "auth_on_register" ? 5 : hook === "auth_on_register_m5" ? 0x86 : 0x87;
}

function wantedOf(one: Recorded): Recorded["result"] {
  const { hook, body, result } = one;
  const [, said = ""] = /(?:"modifiers"|"result"): (\{.*\})\}$/.exec(body) ?? [];
  const better = BETTER[`${hook} ${said}`];
  if (better !== undefined) return better;
  if (result === "close" || SAYS_NOTHING.test(body)) return spoken(one);
  if (!Array.isArray(result)) return result;
  // One code for each filter of the request [MQTT-3.9.3-1]: what the list leaves out is refused.
  const missing = hook.endsWith("_m5") ? 0x87 : 0x80;
  return [...result, missing, missing, missing].slice(0, 3);
}

const title = ({ hook, status, body }: Recorded): string =>
  status === 200 ? `${hook} ${body}` : `${hook} ${status} ${body}`;

describe.each(AUTH_HOOKS)("answers to %s", (hook) => {
  const cases = RECORDED.filter((one) => one.hook === hook);
  let endpoint: TestEndpoint;
  let broker: Broker;
  let current: Recorded | undefined;

  beforeAll(async () => {
    endpoint = await startEndpoint(
      (request) => {
        const { client_id } = request.body;
        if (request.hook !== hook || !client_id.startsWith("g")) return OK;
        const { status = 200, body = OK } = current ?? {};
        return { status, body: body.replaceAll("@", client_id) };
      },
      { scope: "file" },
    );
    broker = await startWebhooks(registered(endpoint, AUTH_HOOKS), [], { scope: "file" });
  });

  test.each(cases.map((one, index) => [title(one), one, index] as const))(
    "%s",
    async (_, one, index) => {
      current = one;
      const version = hook.endsWith("_m5") ? 5 : 4;
      const who = { clientId: `g${index}`, username: "u", password: "p" };
      const wanted = wantedOf(one);
      if (hook.startsWith("auth_on_register")) {
        const client = await openClient(broker, version);
        client.connect(who);
        expect((await client.expect("connack")).code).toEqual(wanted);
        return;
      }
      const client = await connectClient(broker, version, who);
      if (hook.startsWith("auth_on_publish")) {
        client.publish({ topic: `t/g${index}`, payload: "x", qos: 1, packetId: 5 });
        if (wanted === "close") await client.closed();
        else {
          const { code = 0 } = await client.expect("puback");
          expect(code === 0x10 ? 0 : code).toEqual(wanted);
        }
        return;
      }
      const filters = ["a", "b", "c"].map((name, qos) => ({ filter: `s/${name}/g${index}`, qos }));
      expect(await client.subscribed(filters)).toEqual(wanted);
    },
  );
});
