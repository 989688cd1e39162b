import parse from "parse-prometheus-text-format";
import { beforeAll, describe, expect, it } from "vitest";
import type { Broker } from "../../../../core/broker-types.ts";
import { startBroker, tempDir, waitFor } from "../../../support/broker.ts";
import { call } from "../../../support/http.ts";
import { pluginWith } from "../../../support/plugins.ts";
import { connectClient } from "../../../support/raw-client.ts";

/** All 89 names of VerneMQ. */
const NAMES =
  "socket_open socket_close socket_close_timeout socket_error bytes_received bytes_sent mqtt_connect_received mqtt_publish_received mqtt_puback_received mqtt_pubrec_received mqtt_pubrel_received mqtt_pubcomp_received mqtt_subscribe_received mqtt_unsubscribe_received mqtt_pingreq_received mqtt_disconnect_received mqtt_auth_received mqtt_connack_sent mqtt_publish_sent mqtt_puback_sent mqtt_pubrec_sent mqtt_pubrel_sent mqtt_pubcomp_sent mqtt_suback_sent mqtt_unsuback_sent mqtt_pingresp_sent mqtt_disconnect_sent mqtt_auth_sent mqtt_connack_accepted_sent mqtt_connack_unacceptable_protocol_sent mqtt_connack_identifier_rejected_sent mqtt_connack_server_unavailable_sent mqtt_connack_bad_credentials_sent mqtt_connack_not_authorized_sent mqtt_publish_auth_error mqtt_subscribe_auth_error mqtt_invalid_msg_size_error mqtt_puback_invalid_error mqtt_pubrec_invalid_error mqtt_pubcomp_invalid_error mqtt_publish_error mqtt_subscribe_error mqtt_unsubscribe_error client_keepalive_expired queue_setup queue_initialized_from_storage queue_teardown queue_message_drop queue_message_expired queue_message_unhandled queue_message_in queue_message_out client_expired router_matches_local router_matches_remote cluster_bytes_received cluster_bytes_sent cluster_bytes_dropped netsplit_detected netsplit_resolved router_subscriptions router_memory retain_messages retain_memory queue_processes active_mqtt_connections active_mqttws_connections total_active_connections system_context_switches system_exact_reductions system_reductions system_gc_count system_words_reclaimed_by_gc system_io_in system_io_out system_run_queue system_runtime system_wallclock system_process_count system_utilization vm_memory_total vm_memory_processes vm_memory_processes_used vm_memory_system vm_memory_atom vm_memory_atom_used vm_memory_binary vm_memory_code vm_memory_ets".split(
    " ",
  );

const GAUGES =
  "system_run_queue system_process_count system_utilization vm_memory_total vm_memory_processes vm_memory_processes_used vm_memory_system vm_memory_atom vm_memory_atom_used vm_memory_binary vm_memory_code vm_memory_ets router_subscriptions router_memory retain_messages retain_memory queue_processes active_mqtt_connections active_mqttws_connections total_active_connections".split(
    " ",
  );

const NODE = 'node="VerneMQ@127.0.0.1"';

async function scrape(broker: Broker): Promise<string[]> {
  const { status, headers, body } = await call(broker.port("http"), "/metrics");
  expect(status).toBe(200);
  expect(headers["content-type"]).toBe("text/plain");
  return body.trimEnd().split("\n");
}

/** Values by `name{labels without node}`. */
async function valuesOf(broker: Broker): Promise<Map<string, number>> {
  const lines = (await scrape(broker)).filter((line) => !line.startsWith("#"));
  return new Map(
    lines.map((line) => {
      const at = line.lastIndexOf(" ");
      const key = line.slice(0, at).replace("vernemq_", "").replace(NODE, "").replace("{,", "{");
      return [key.replace("{}", ""), Number(line.slice(at + 1))];
    }),
  );
}

describe("/metrics", () => {
  let broker: Broker;
  let lines: string[];

  beforeAll(async () => {
    broker = await startBroker({ "listener.http.default": "127.0.0.1:0" }, [], {
      scope: "file",
      dataDir: tempDir("file"),
    });
    const client = await connectClient(broker, 5, { clientId: "first" }, { scope: "file" });
    await client.published({ topic: "a/b", payload: "x", qos: 1, retain: true });
    lines = await scrape(broker);
  });

  it("has every name of VerneMQ's server, with its type (check 1)", () => {
    expect(NAMES).toHaveLength(89);
    for (const name of NAMES) {
      const type = GAUGES.includes(name) ? "gauge" : "counter";
      expect(lines).toContain(`# TYPE vernemq_${name} ${type}`);
      expect(
        lines.some((line) => line.startsWith(`vernemq_${name}{`)),
        name,
      ).toBe(true);
    }
  });

  it("has the node as the first label of every sample, and integers as values", () => {
    const samples = lines.filter((line) => !line.startsWith("#"));
    expect(samples.length).toBeGreaterThan(223);
    for (const line of samples)
      expect(line).toMatch(/^vernemq_\w+\{node="VerneMQ@127\.0\.0\.1"[^ ]*\} \d+$/);
  });

  it("has HELP and TYPE once per name, before its samples, which stand together", () => {
    const seen: string[] = [];
    for (const [i, line] of lines.entries()) {
      if (!line.startsWith("# HELP ")) continue;
      const [, , name = ""] = line.split(" ");
      seen.push(name);
      expect(line.length, name).toBeGreaterThan(`# HELP ${name} `.length);
      expect(lines[i + 1]).toMatch(new RegExp(`^# TYPE ${name} (counter|gauge|histogram)$`));
      let next = i + 2;
      while (lines[next]?.startsWith("#") === false) {
        expect(lines[next]?.replace(/\{.*/, "")).toMatch(
          new RegExp(`^${name}(_bucket|_sum|_count)?$`),
        );
        next++;
      }
    }
    expect(new Set(seen).size).toBe(seen.length);
  });

  it("is accepted by a parser of the format", () => {
    const families = parse(`${lines.join("\n")}\n`);
    const names = families.map(({ name }) => name);
    for (const name of NAMES) expect(names).toContain(`vernemq_${name}`);
    const histogram = families.find(({ name }) => name === "vernemq_publish_latency_microseconds");
    expect(histogram?.type).toBe("HISTOGRAM");
  });

  it("has 28 series of DISCONNECT sent, all of MQTT 5 (check 2)", () => {
    const found = lines.filter((line) => line.startsWith("vernemq_mqtt_disconnect_sent{"));
    expect(found).toHaveLength(28);
    for (const line of found) expect(line).toContain(`{${NODE},mqtt_version="5",reason_code="`);
  });

  it("has CONNACK by return code for MQTT 3 and by reason code for MQTT 5 (check 3)", () => {
    const found = lines.filter((line) => line.startsWith("vernemq_mqtt_connack_sent{"));
    const of = (version: string, label: string) =>
      found.filter((line) => line.includes(`{${NODE},mqtt_version="${version}",${label}="`));
    expect(of("4", "return_code")).toHaveLength(6);
    expect(of("5", "reason_code")).toHaveLength(22);
    expect(found).toHaveLength(28);
  });

  it("has histograms whose buckets add up to the count (check 26)", async () => {
    const name = "vernemq_store_commit_microseconds";
    const buckets = (await scrape(broker)).filter((line) => line.startsWith(`${name}_bucket`));
    const counts = buckets.map((line) => Number(line.split(" ").at(-1)));
    expect(buckets[0]).toMatch(/\{node="[^"]+",le="0\.25"\} /);
    expect(buckets.at(-1)).toContain('le="+Inf"');
    expect(counts).toEqual([...counts].sort((a, b) => a - b));
    const values = await valuesOf(broker);
    expect(values.get("store_commit_microseconds_count")).toBeGreaterThanOrEqual(
      counts.at(-1) ?? 1,
    );
  });
});

describe("metrics", () => {
  it("count a client of MQTT 3.1.1 and of 3.1 as version 4, one of 5 as 5 (checks 4, 5, 7)", async () => {
    const broker = await startBroker({ "listener.http.default": "127.0.0.1:0" });
    await connectClient(broker, 4);
    await connectClient(broker, 3, { clientId: "old" });
    await connectClient(broker, 5);
    const values = await valuesOf(broker);
    expect(values.get('mqtt_connect_received{mqtt_version="4"}')).toBe(2);
    expect(values.get('mqtt_connect_received{mqtt_version="5"}')).toBe(1);
    expect(values.get('mqtt_connack_sent{mqtt_version="4",return_code="success"}')).toBe(2);
    expect(values.get('mqtt_connack_sent{mqtt_version="5",reason_code="success"}')).toBe(1);
    expect(values.get('mqtt_connack_accepted_sent{mqtt_version="4"}')).toBe(0);
    expect(values.get("total_active_connections")).toBe(3);
    expect((values.get("socket_open") ?? 0) - (values.get("socket_close") ?? 0)).toBe(3);
  });

  it("count one QoS 1 message to one subscriber along its way (check 8)", async () => {
    const broker = await startBroker({ "listener.http.default": "127.0.0.1:0" });
    const receiver = await connectClient(broker, 4, { clientId: "receiver" });
    await receiver.subscribed("a/b", { qos: 1 });
    const client = await connectClient(broker, 4, { clientId: "c" });
    await client.published({ topic: "a/b", payload: "x", qos: 1 });
    await receiver.delivered({ topic: "a/b", qos: 1 });
    const names = {
      publish_received: 'mqtt_publish_received{mqtt_version="4"}',
      puback_sent: 'mqtt_puback_sent{mqtt_version="4"}',
      publish_sent: 'mqtt_publish_sent{mqtt_version="4"}',
      puback_received: 'mqtt_puback_received{mqtt_version="4"}',
      matches: "router_matches_local",
      in: "queue_message_in",
      out: "queue_message_out",
    };
    const values = await waitFor("the message was counted", async () => {
      const now = await valuesOf(broker);
      return Object.values(names).every((name) => now.get(name) === 1) && now;
    });
    expect(values.get("router_subscriptions")).toBe(1);
  });

  it("show retained messages coming and going (check 15)", async () => {
    const broker = await startBroker({ "listener.http.default": "127.0.0.1:0" });
    const client = await connectClient(broker, 4);
    await client.published({ topic: "r", payload: "x", qos: 1, retain: true });
    expect((await valuesOf(broker)).get("retain_messages")).toBe(1);
    await client.published({ topic: "r", payload: "", qos: 1, retain: true });
    expect((await valuesOf(broker)).get("retain_messages")).toBe(0);
  });

  it("show calls, refusals and latency of each plugin's hook", async () => {
    const refuses = pluginWith({ auth_on_publish: () => ({ error: "no" }) }, "my_plugin");
    const broker = await startBroker({ "listener.http.default": "127.0.0.1:0" }, [refuses]);
    const client = await connectClient(broker, 4);
    client.publish({ topic: "a", payload: "x" });
    const labels = 'plugin="my_plugin",hook="auth_on_publish"';
    const values = await waitFor("the refusal was counted", async () => {
      const now = await valuesOf(broker);
      return now.get(`plugin_hook_refusals{${labels}}`) === 1 && now;
    });
    expect(values.get(`plugin_hook_calls{${labels}}`)).toBe(1);
    expect(values.get(`plugin_hook_latency_microseconds_bucket{le="+Inf",${labels}}`)).toBe(1);
    expect(values.get('mqtt_publish_auth_error{mqtt_version="4"}')).toBe(1);
  });

  it("time a publish now and then", async () => {
    const broker = await startBroker({ "listener.http.default": "127.0.0.1:0" });
    const client = await connectClient(broker, 4);
    await waitFor("a publish was timed", async () => {
      await client.published({ topic: "a", qos: 1 });
      const values = await valuesOf(broker);
      const count = values.get("publish_latency_microseconds_count") ?? 0;
      const sent = values.get('mqtt_publish_received{mqtt_version="4"}') ?? 0;
      expect(count).toBeLessThanOrEqual(sent);
      return count > 1;
    });
  });

  it("take the prefix of prometheus_namespace, and none when it is empty (http check 4)", async () => {
    const settings = { "listener.http.default": "127.0.0.1:0" };
    const bare = await startBroker({ ...settings, prometheus_namespace: "" });
    expect(await scrape(bare)).toContainEqual(expect.stringMatching(/^socket_open\{node=/));
    const named = await startBroker({ ...settings, prometheus_namespace: "mqtt:" });
    expect(await scrape(named)).toContainEqual(expect.stringMatching(/^mqtt:socket_open\{node=/));
  });

  it("of a plugin have the plugin's type, and one that throws is left out", async () => {
    const broker = await startBroker({ "listener.http.default": "127.0.0.1:0" });
    broker.enablePlugin({
      name: "counting",
      hooks: (context: {
        metrics: {
          counter(n: string): { increment(): void };
          gauge(n: string, r: () => number): void;
        };
      }) => {
        context.metrics.counter("counting_things").increment();
        context.metrics.gauge("counting_level", () => 7);
        context.metrics.gauge("counting_broken", () => {
          throw new Error("no");
        });
        return {};
      },
    } as never);
    const text = await scrape(broker);
    expect(text).toContain("# TYPE vernemq_counting_things counter");
    expect(text).toContain(`vernemq_counting_things{${NODE}} 1`);
    expect(text).toContain("# TYPE vernemq_counting_level gauge");
    expect(text).toContain(`vernemq_counting_level{${NODE}} 7`);
    expect(text.some((line) => line.includes("counting_broken"))).toBe(false);
  });
});
