import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { loadConfig } from "../../../core/config/load.ts";
import { METRIC_HOOKS, WEBHOOKS } from "../../../plugins/vmq_webhooks/hooks.ts";
import { acceptingPlugin, freePort, tempDir, waitFor } from "../../support/broker.ts";
import { startProcess } from "../../support/process.ts";
import { connectClient, openClient } from "../../support/raw-client.ts";
import {
  NEXT,
  registered,
  startEndpoint,
  startWebhooks,
  webhooksCommand,
} from "../../support/webhooks.ts";

/** Checks of registration, commands and metrics (numbers in brackets). */

const rows = (table: string): string[][] =>
  table
    .split("\n")
    .filter((line) => line.includes("http"))
    .map((line) =>
      line
        .split("|")
        .map((cell) => cell.trim())
        .filter(Boolean),
    );

describe("vmq-admin webhooks", () => {
  test("[31] registers once; what is not there cannot be deregistered", async () => {
    const broker = await startWebhooks();
    expect(await webhooksCommand(broker, "show")).toBe("");
    const target = "hook=auth_on_register_m5 endpoint=http://127.0.0.1:9/h";
    expect(await webhooksCommand(broker, `register ${target}`)).toBe("Done\n");
    expect(await webhooksCommand(broker, `register ${target} --base64payload=false`)).toBe(
      "can't register endpoint due to 'already_registered'\n",
    );
    expect(rows(await webhooksCommand(broker, "show"))).toEqual([
      ["auth_on_register_m5", "http://127.0.0.1:9/h", "true", "5000"],
    ]);
    expect(await webhooksCommand(broker, `deregister ${target}`)).toBe("Done\n");
    expect(await webhooksCommand(broker, `deregister ${target}`)).toBe(
      "can't deregister endpoint due to 'not_found'\n",
    );
    expect(await webhooksCommand(broker, "show")).toBe("");
  });

  test("[32] endpoints may have a query", async () => {
    const endpoint = await startEndpoint(undefined, { path: "/hook?key=value" });
    const broker = await startWebhooks();
    const target = `hook=auth_on_register endpoint=${endpoint.url}`;
    expect(await webhooksCommand(broker, `register ${target}`)).toBe("Done\n");
    await connectClient(broker, 4, { clientId: "c" });
    expect(endpoint.seen[0]?.url).toBe("/hook?key=value");
    expect(await webhooksCommand(broker, `deregister ${target}`)).toBe("Done\n");
    await (await openClient(broker, 4)).refused({ clientId: "d" }, 5);
  });

  test("options of register take effect", async () => {
    const endpoint = await startEndpoint();
    const broker = await startWebhooks(registered(endpoint, ["auth_on_register"]));
    await webhooksCommand(
      broker,
      `register hook=auth_on_publish endpoint=${endpoint.url} --base64payload=false --response_timeout=100 --on_error=next --header=X-Key:abc`,
    );
    const client = await connectClient(broker, 4, { clientId: "c" });
    await client.published({ topic: "a", payload: "text", qos: 1 });
    expect(endpoint.of("auth_on_publish")[0]?.body.payload).toBe("text");
    expect(endpoint.of("auth_on_publish")[0]?.headers["x-key"]).toBe("abc");
    const shown = rows(await webhooksCommand(broker, "show --full"));
    expect(shown).toContainEqual([
      ...["auth_on_publish", endpoint.url, "false", "100"],
      ...["next", "closed", "0", "0", "1", "0", "0", "command"],
    ]);
    expect(shown[0]?.at(-1)).toBe("vmq_webhooks.auth_on_register");
    await webhooksCommand(
      broker,
      "register hook=auth_on_publish_m5 endpoint=http://127.0.0.1:9/ --no_payload=true",
    );
    expect(rows(await webhooksCommand(broker, "show --hook=auth_on_publish_m5"))).toHaveLength(1);
  });

  test.each([
    ["register hook=on_message_drop endpoint=http://h/", 'Invalid value: "on_message_drop"'],
    ["register hook=auth_on_pubish endpoint=http://h/", "did you mean auth_on_publish?"],
    ["register hook=on_publish endpoint=notaurl", 'Invalid value: "notaurl"'],
    ["register hook=on_publish endpoint=http://unix:", 'Invalid value: "http://unix:"'],
    ["register hook=on_publish endpoint=http://unix:/s:/a\tb", "is no endpoint"],
    ["register hook=on_publish endpoint=ftp://h/", 'Invalid value: "ftp://h/"'],
    ["register hook=on_publish endpoint=http://h/ --response_timeout=abc", "response_timeout"],
    ["register hook=on_publish endpoint=http://h/ --base64payload=perhaps", "base64payload"],
    ["register hook=on_publish endpoint=http://h/ --on_error=allow", "on_error"],
    ["register hook=on_publish endpoint=http://h/ --header=Host:x", "Host cannot be set"],
    ["register hook=on_publish endpoint=http://h/ --secret_file=/no/such", "/no/such"],
    ["register hook=on_publish endpoint=http://h/ --nosuch=1", 'Invalid key: "nosuch"'],
  ])("[42] %s is refused, naming what is wrong", async (line, reason) => {
    const broker = await startWebhooks();
    await expect(webhooksCommand(broker, line)).rejects.toThrow(reason);
    expect(await webhooksCommand(broker, "show")).toBe("");
  });

  test.each([
    "register endpoint=http://h/",
    "register hook=on_publish",
    "deregister hook=on_publish",
  ])("%s is answered with the usage, as in VerneMQ", async (line) => {
    const broker = await startWebhooks();
    expect(await webhooksCommand(broker, line)).toContain("hook=<Hook> endpoint=<Url>");
    expect(await webhooksCommand(broker, "show")).toBe("");
  });

  test("tables and refusals have VerneMQ's shapes in JSON", async () => {
    const broker = await startWebhooks();
    const asJson = async (line: string): Promise<unknown> =>
      JSON.parse(await webhooksCommand(broker, `${line} --format=json`));
    expect(await asJson("show")).toEqual({ type: "table", table: [] });
    const target = "hook=on_publish endpoint=http://127.0.0.1:9/h?k=v";
    expect(await asJson(`register ${target} --response_timeout=100`)).toEqual({
      type: "text",
      text: "Done",
    });
    const row = { hook: "on_publish", endpoint: "http://127.0.0.1:9/h?k=v" };
    expect(await asJson("show")).toEqual({
      type: "table",
      table: [{ ...row, base64payload: true, response_timeout: 100 }],
    });
    expect(await asJson(`register ${target}`)).toEqual({
      type: "alert",
      alert: [{ type: "text", text: "can't register endpoint due to 'already_registered'" }],
    });
  });

  test("a password in an endpoint's URL is in no table and no line of the log", async () => {
    const url = `http://me:s3cret@127.0.0.1:${await freePort()}/h`;
    const settings = { ...registered({ url }, ["auth_on_register"]), allow_anonymous: "off" };
    const broker = await startWebhooks(settings);
    await (await openClient(broker, 4)).refused({ clientId: "d" }, 5);
    const tables = [
      await webhooksCommand(broker, "show --full"),
      await webhooksCommand(broker, "cache show"),
    ];
    for (const table of tables) {
      expect(table).toContain("http://me:***@127.0.0.1");
      expect(table).not.toContain("s3cret");
    }
    const running = await startProcess({ settings: { ...settings, "plugins.vmq_webhooks": "on" } });
    await (await openClient(running.port, 4)).refused({ clientId: "d" }, 5);
    await waitFor("the failure is logged", () => running.output.includes("webhook failed"));
    expect(running.output).toContain("http://me:***@127.0.0.1");
    expect(running.output).not.toContain("s3cret");
  });

  test("registered and deregistered at run time, endpoints decide about clients that are there", async () => {
    const endpoint = await startEndpoint(({ body }) =>
      body.topic === "forbidden" ? '{"result":{"error":"not_authorized"}}' : NEXT,
    );
    const broker = await startWebhooks({ allow_anonymous: "on" }, [acceptingPlugin]);
    const client = await connectClient(broker, 5, { clientId: "c" });
    const codeOf = async (topic: string): Promise<number> => {
      client.publish({ topic, qos: 1 });
      const { code = 0 } = await client.expect("puback");
      return code === 0x10 ? 0 : code;
    };
    expect(await codeOf("forbidden")).toBe(0);
    const target = `hook=auth_on_publish_m5 endpoint=${endpoint.url}`;
    await webhooksCommand(broker, `register ${target}`);
    expect([await codeOf("forbidden"), await codeOf("other")]).toEqual([0x87, 0]);
    await webhooksCommand(broker, `deregister ${target}`);
    expect(await codeOf("forbidden")).toBe(0);
    expect(endpoint.seen).toHaveLength(2);
  });

  test("deregistered while a client is decided, the client still gets its answer", async () => {
    const endpoint = await startEndpoint(() => ({ hold: true }));
    const broker = await startWebhooks(registered(endpoint, ["auth_on_register"]));
    const client = await openClient(broker, 4);
    client.connect({ clientId: "c" });
    const request = await endpoint.wait("auth_on_register");
    await webhooksCommand(broker, `deregister hook=auth_on_register endpoint=${endpoint.url}`);
    request.answer({});
    await client.expect("connack", { code: 0 });
  });
});

describe("the configuration", () => {
  test("[33] endpoints are asked by their names' order, then those of commands", async () => {
    const order: number[] = [];
    const endpoints = await Promise.all(
      [0, 1, 2].map((i) =>
        startEndpoint(() => {
          order.push(i);
          return NEXT;
        }),
      ),
    );
    const url = (i: number): string => endpoints[i]?.url ?? "";
    const broker = await startWebhooks({
      "vmq_webhooks.webhook2.hook": "auth_on_register",
      "vmq_webhooks.webhook2.endpoint": url(1),
      "vmq_webhooks.webhook1.hook": "auth_on_register",
      "vmq_webhooks.webhook1.endpoint": url(0),
    });
    await webhooksCommand(broker, `register hook=auth_on_register endpoint=${url(2)}`);
    await (await openClient(broker, 4)).refused({ clientId: "c" }, 5);
    expect(order).toEqual([0, 1, 2]);
  });

  test.each([
    ["vmq_webhooks.w.hook = on_publish", "vmq_webhooks.w.endpoint is not defined"],
    ["vmq_webhooks.w.endpoint = http://h/", "vmq_webhooks.w.hook is not defined"],
    [
      "vmq_webhooks.w.hook = on_message_drop\nvmq_webhooks.w.endpoint = http://h/",
      "on_message_drop",
    ],
    [
      "vmq_webhooks.w.hook = on_publish\nvmq_webhooks.w.endpoint = notaurl",
      '"notaurl" is no endpoint',
    ],
    [
      "vmq_webhooks.w.hook = on_publish\nvmq_webhooks.w.endpoint = http://h/\nvmq_webhooks.w.on_error = allow",
      "vmq_webhooks.w.on_error",
    ],
    ["vmq_webhooks.cafile = /no/such.pem", "/no/such.pem"],
  ])("[34] [42] %s is an error with its line", (text, fault) => {
    const file = join(tempDir(), "v.conf");
    writeFileSync(file, `plugins.vmq_webhooks = on\n${text}\n`);
    const { errors } = loadConfig({ file });
    expect(errors.join("\n")).toContain(fault);
    expect(errors.join("\n")).toMatch(/v\.conf:\d/);
  });

  test("a header that cannot be sent keeps the broker from starting", async () => {
    const settings = {
      ...registered({ url: "http://127.0.0.1:9/" }, ["on_publish"]),
      "vmq_webhooks.on_publish.header.Host": "x",
    };
    await expect(startWebhooks(settings)).rejects.toThrow(
      "vmq_webhooks.on_publish.header.Host: header Host cannot be set",
    );
  });

  test("[41] registrations by command are gone after a restart", async () => {
    const endpoint = await startEndpoint();
    const broker = await startProcess({
      settings: {
        ...registered(endpoint, ["on_publish"]),
        "plugins.vmq_webhooks": "on",
        allow_anonymous: "on",
      },
    });
    const target = `hook=on_register endpoint=${endpoint.url}`;
    await broker.control("webhooks", "register", ...target.split(" "));
    expect(await broker.control("webhooks", "show")).toContain("on_register");
    expect(await broker.stop()).toBe(0);
    await broker.start();
    const shown = await broker.control("webhooks", "show");
    expect(shown).toContain("on_publish");
    expect(shown).not.toContain("on_register");
  });

  test("plugin show names the hooks that somebody is registered for", async () => {
    const broker = await startWebhooks(
      registered({ url: "http://127.0.0.1:9/" }, ["on_deliver", "auth_on_publish"]),
    );
    const hooks = (): string[] =>
      broker.plugins.show({ plugin: "vmq_webhooks" }).map(({ hook }) => hook);
    expect(hooks()).toEqual(["auth_on_publish", "on_deliver", "change_config"]);
    await webhooksCommand(broker, "register hook=on_auth_m5 endpoint=http://127.0.0.1:9/");
    expect(hooks()).toContain("on_auth_m5");
    await webhooksCommand(broker, "deregister hook=on_deliver endpoint=http://127.0.0.1:9/");
    expect(hooks()).not.toContain("on_deliver");
  });
});

describe("metrics", () => {
  test("[35] each call adds one request and the bytes of its body", async () => {
    const endpoint = await startEndpoint();
    const broker = await startWebhooks(
      registered(endpoint, ["auth_on_register", "on_register", "auth_on_publish"]),
    );
    const client = await connectClient(broker, 4, { clientId: "c" });
    await client.published({ topic: "ä", payload: "x", qos: 1 });
    await client.published({ topic: "b", payload: "xyz", qos: 1 });
    await endpoint.wait("on_register");
    await waitFor(
      "the event is counted",
      () => broker.metrics().webhooks_on_register_requests === 1,
    );
    const metrics = broker.metrics();
    for (const hook of ["auth_on_register", "on_register", "auth_on_publish"]) {
      const bodies = endpoint.of(hook).map(({ text }) => Buffer.byteLength(text));
      expect(metrics[`webhooks_${hook}_requests`]).toBe(bodies.length);
      expect(metrics[`webhooks_${hook}_bytes_sent`]).toBe(bodies.reduce((a, b) => a + b, 0));
      expect(metrics[`webhooks_${hook}_errors`]).toBe(0);
    }
  });

  test("there are VerneMQ's 81 names", async () => {
    const broker = await startWebhooks();
    const names = Object.keys(broker.metrics());
    const wanted = METRIC_HOOKS.flatMap((hook) =>
      ["requests", "errors", "bytes_sent"].map((what) => `webhooks_${hook}_${what}`),
    );
    for (const hook of ["auth_on_register", "auth_on_register_m5"]) {
      for (const what of ["cancelled", "timeouts", "elapsed_ms"]) {
        wanted.push(`webhooks_${hook}_${what}`);
      }
    }
    expect(wanted).toHaveLength(81);
    expect(names).toEqual(expect.arrayContaining(wanted));
    expect(WEBHOOKS).toHaveLength(22);
  });
});
