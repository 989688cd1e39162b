import { describe, expect, it } from "vitest";
import { aggregate, collectSeries, type Series, seriesKey } from "../../../core/admin/metrics.ts";
import { staying, turn, World } from "../session/world.ts";

/** Names and labels of VerneMQ. */
const REASONS = {
  A: "success no_matching_subscribers unspecified_error impl_specific_error not_authorized topic_name_invalid packet_id_in_use quota_exceeded payload_format_invalid",
  P: "success packet_id_not_found",
  U: "success continue_authentication reauthenticate",
  C: "success unspecified_error malformed_packet protocol_error impl_specific_error unsupported_protocol_version client_identifier_not_valid bad_username_or_password not_authorized server_unavailable server_busy banned bad_authentication_method topic_name_invalid packet_too_large quota_exceeded payload_format_invalid retain_not_supported qos_not_supported use_another_server server_moved connection_rate_exceeded",
  DR: "normal_disconnect disconnect_with_will_msg unspecified_error malformed_packet protocol_error impl_specific_error topic_name_invalid receive_max_exceeded topic_alias_invalid packet_too_large message_rate_too_high quota_exceeded administrative_action payload_format_invalid",
  DS: "normal_disconnect unspecified_error malformed_packet protocol_error impl_specific_error not_authorized server_busy server_shutting_down keep_alive_timeout session_taken_over topic_filter_invalid topic_name_invalid receive_max_exceeded topic_alias_invalid packet_too_large message_rate_too_high quota_exceeded administrative_action payload_format_invalid retain_not_supported qos_not_supported use_another_server server_moved shared_subs_not_supported connection_rate_exceeded max_connect_time subscription_ids_not_supported wildcard_subs_not_supported",
} as const;

const RETURN_CODES =
  "success unsupported_protocol_version client_identifier_not_valid server_unavailable bad_username_or_password not_authorized";

const PLAIN =
  "socket_open socket_close socket_close_timeout socket_error bytes_received bytes_sent queue_setup queue_initialized_from_storage queue_teardown queue_message_drop queue_message_expired queue_message_unhandled queue_message_in queue_message_out client_expired router_matches_local router_matches_remote cluster_bytes_received cluster_bytes_sent cluster_bytes_dropped netsplit_detected netsplit_resolved router_subscriptions router_memory retain_messages retain_memory queue_processes active_mqtt_connections active_mqttws_connections total_active_connections";

const BOTH_VERSIONS =
  "mqtt_connect_received mqtt_publish_received mqtt_subscribe_received mqtt_unsubscribe_received mqtt_pingreq_received mqtt_publish_sent mqtt_suback_sent mqtt_unsuback_sent mqtt_pingresp_sent mqtt_publish_auth_error mqtt_subscribe_auth_error mqtt_invalid_msg_size_error mqtt_puback_invalid_error mqtt_pubcomp_invalid_error mqtt_publish_error mqtt_subscribe_error mqtt_unsubscribe_error client_keepalive_expired";

const FOUR_ONLY =
  "mqtt_pubrec_invalid_error mqtt_connack_accepted_sent mqtt_connack_unacceptable_protocol_sent mqtt_connack_identifier_rejected_sent mqtt_connack_server_unavailable_sent mqtt_connack_bad_credentials_sent mqtt_connack_not_authorized_sent";

const BY_REASON: [name: string, reasons: keyof typeof REASONS, hasFour: boolean][] = [
  ["mqtt_puback_received", "A", true],
  ["mqtt_pubrec_received", "A", true],
  ["mqtt_pubrel_received", "P", true],
  ["mqtt_pubcomp_received", "P", true],
  ["mqtt_disconnect_received", "DR", true],
  ["mqtt_auth_received", "U", false],
  ["mqtt_connack_sent", "C", false],
  ["mqtt_puback_sent", "A", true],
  ["mqtt_pubrec_sent", "A", true],
  ["mqtt_pubrel_sent", "P", true],
  ["mqtt_pubcomp_sent", "P", true],
  ["mqtt_disconnect_sent", "DS", false],
  ["mqtt_auth_sent", "U", false],
];

async function freshSeries(): Promise<Series[]> {
  return collectSeries((await new World().start()).core);
}

async function keysOf(): Promise<Set<string>> {
  return new Set((await freshSeries()).map(seriesKey));
}

const missing = (known: ReadonlySet<string>, wanted: readonly string[]): string[] =>
  wanted.filter((key) => !known.has(key));

describe("series of a broker that has just started", () => {
  it("have every name without labels", async () => {
    expect(missing(await keysOf(), PLAIN.split(" "))).toEqual([]);
  });

  it("have every name by version", async () => {
    const wanted = [
      ...BOTH_VERSIONS.split(" ").flatMap((name) => [
        `${name}{mqtt_version="4"}`,
        `${name}{mqtt_version="5"}`,
      ]),
      ...FOUR_ONLY.split(" ").map((name) => `${name}{mqtt_version="4"}`),
    ];
    expect(missing(await keysOf(), wanted)).toEqual([]);
  });

  it.each(BY_REASON)("have %s for every reason code of set %s", async (name, set, hasFour) => {
    const known = await keysOf();
    const wanted = REASONS[set]
      .split(" ")
      .map((code) => `${name}{mqtt_version="5",reason_code="${code}"}`);
    if (hasFour) wanted.push(`${name}{mqtt_version="4"}`);
    expect(missing(known, wanted)).toEqual([]);
  });

  it("have the six return codes of MQTT 3", async () => {
    const wanted = RETURN_CODES.split(" ").map(
      (code) => `mqtt_connack_sent{mqtt_version="4",return_code="${code}"}`,
    );
    expect(missing(await keysOf(), wanted)).toEqual([]);
  });

  it("have no others, and none twice", async () => {
    const all = await freshSeries();
    const names = new Set([
      ...PLAIN.split(" "),
      ...BOTH_VERSIONS.split(" "),
      ...FOUR_ONLY.split(" "),
      ...BY_REASON.map(([name]) => name),
    ]);
    const more = all.filter(
      ({ name }) => !names.has(name) && !/^(system|vm|plugin_hook)_/.test(name),
    );
    expect(more).toEqual([]);
    expect(new Set(all.map(seriesKey)).size).toBe(all.length);
  });

  it("are all zero", async () => {
    const own = (await freshSeries()).filter(({ name }) => !/^(system|vm)_/.test(name));
    expect(own.filter(({ value }) => value !== 0)).toEqual([]);
  });
});

describe("values", () => {
  it("count one QoS 1 publish to one subscriber once everywhere", async () => {
    const world = await new World().start();
    const receiver = await world.connect("r", { version: 4 });
    await receiver.subscribe({ filter: "t", qos: 1 });
    const publisher = await world.connect("p");
    publisher.publish({ topic: "t", qos: 1, packetId: 1, payload: "x" });
    await receiver.receive(1);
    await turn();
    const values = Object.fromEntries(
      collectSeries(world.core).map((one) => [seriesKey(one), one.value]),
    );
    expect(values).toMatchObject({
      'mqtt_connect_received{mqtt_version="4"}': 1,
      'mqtt_connect_received{mqtt_version="5"}': 1,
      'mqtt_connack_sent{mqtt_version="4",return_code="success"}': 1,
      'mqtt_connack_sent{mqtt_version="5",reason_code="success"}': 1,
      'mqtt_publish_received{mqtt_version="5"}': 1,
      'mqtt_puback_sent{mqtt_version="5",reason_code="success"}': 1,
      'mqtt_publish_sent{mqtt_version="4"}': 1,
      'mqtt_puback_received{mqtt_version="4"}': 1,
      'mqtt_subscribe_received{mqtt_version="4"}': 1,
      'mqtt_suback_sent{mqtt_version="4"}': 1,
      router_matches_local: 1,
      queue_message_in: 1,
      queue_message_out: 1,
      router_subscriptions: 1,
      queue_processes: 2,
      queue_setup: 2,
      socket_open: 2,
    });
  });

  it("count MQTT 3.1 under version 4, and refusals by their code", async () => {
    const world = await new World({ settings: { maxClientIdSize: 3 } }).start();
    await world.connect("too long", { version: 3 });
    await world.connect("too long", { version: 5 });
    const values = Object.fromEntries(
      collectSeries(world.core).map((one) => [seriesKey(one), one.value]),
    );
    expect(values).toMatchObject({
      'mqtt_connect_received{mqtt_version="4"}': 1,
      'mqtt_connack_sent{mqtt_version="4",return_code="client_identifier_not_valid"}': 1,
      'mqtt_connack_sent{mqtt_version="5",reason_code="client_identifier_not_valid"}': 1,
    });
  });

  it("count bytes as they are on the wire", async () => {
    const world = await new World().start();
    const client = await world.connect("c", { version: 4 });
    client.send(Buffer.from([0xc0, 0]));
    await turn();
    const sent = Buffer.concat(client.transport.writes).length;
    const totals = aggregate(collectSeries(world.core));
    expect(totals.get("bytes_sent")).toBe(sent);
    expect(totals.get("bytes_received")).toBe(15 + 2);
  });

  it("follow retained messages, subscriptions, overflow and absent receivers", async () => {
    const world = await new World({ settings: { maxOfflineMessages: 1 } }).start();
    const value = (name: string) => aggregate(collectSeries(world.core)).get(name);
    world.publish("t", "x", { retain: true });
    expect(value("retain_messages")).toBe(1);
    expect(value("retain_memory")).toBeGreaterThan(0);
    world.publish("t", "", { retain: true });
    expect([value("retain_messages"), value("retain_memory")]).toEqual([0, 0]);
    const client = await world.connect("c", staying());
    await client.subscribe("t");
    client.drop();
    world.publishSeries("t", 1, 3, { qos: 1 });
    world.publish("t", "zero");
    expect(value("queue_message_drop")).toBe(2);
    expect(value("queue_message_unhandled")).toBe(1);
    expect(value("router_subscriptions")).toBe(1);
    expect([value("socket_open"), value("socket_close")]).toEqual([1, 1]);
  });
});

describe("views", () => {
  const series: Series[] = [
    { name: "a", labels: {}, value: 1 },
    { name: "b", labels: { mqtt_version: "4" }, value: 2 },
    { name: "b", labels: { mqtt_version: "5", reason_code: "success" }, value: 3 },
  ];

  it("sum all labels of a name", () => {
    expect([...aggregate(series)]).toEqual([
      ["a", 1],
      ["b", 5],
    ]);
  });

  it("write labels as Prometheus does", () => {
    expect(series.map(seriesKey)).toEqual([
      "a",
      'b{mqtt_version="4"}',
      'b{mqtt_version="5",reason_code="success"}',
    ]);
  });
});
