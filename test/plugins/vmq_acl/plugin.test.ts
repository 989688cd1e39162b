import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { connectAsync, type IClientOptions, type MqttClient } from "mqtt";
import { afterEach, describe, expect, it } from "vitest";
import type { Plugin } from "../../../core/hooks/types.ts";
import { createAclPlugin } from "../../../plugins/vmq_acl/index.ts";
import { startBroker, tempDir, waitFor } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";
import { pluginWith } from "../../support/plugins.ts";

const lines: string[] = [];
const note = (message: string, fields?: object) =>
  void lines.push(`${message} ${JSON.stringify(fields ?? {})}`);
const log = { info: note, warn: note, error: note };
afterEach(() => {
  lines.length = 0;
});

/** Lets everybody in; what they may do is vmq_acl's affair. */
const welcoming: Plugin = pluginWith({
  auth_on_register: () => "ok",
  auth_on_register_m5: () => "ok",
});

async function pluginOver(text: string | undefined, topicMaxDepth = 10) {
  const file = join(tempDir(), "vmq.acl");
  if (text !== undefined) await writeFile(file, text);
  const aclFile = text === undefined ? undefined : file;
  const acl = await createAclPlugin({ aclFile, reloadIntervalS: 1, topicMaxDepth, log });
  atEnd(() => acl.stop());
  return { file, acl };
}

async function start(text: string | undefined) {
  const { file, acl } = await pluginOver(text);
  const broker = await startBroker(
    { allow_anonymous: "off", "plugins.vmq_passwd": "off", "plugins.vmq_acl": "off" },
    [welcoming, acl.plugin],
    { acceptAll: false },
  );
  async function connect(options: IClientOptions = {}): Promise<MqttClient> {
    const client = await connectAsync(`mqtt://127.0.0.1:${broker.port()}`, {
      reconnectPeriod: 0,
      ...options,
    });
    client.on("error", () => {});
    atEnd(() => client.endAsync(true));
    return client;
  }
  return { file, acl, broker, connect };
}

/** Codes of the SUBACK. */
async function subscribe(client: MqttClient, ...filters: string[]): Promise<number[]> {
  return new Promise((resolve, reject) => {
    client.subscribe(filters, { qos: 0 }, (error, granted, packet) => {
      const codes = packet?.granted as number[] | undefined;
      if (codes !== undefined) resolve(codes);
      else if (error) reject(error);
      else resolve((granted ?? []).map(({ qos }) => qos));
    });
  });
}

/** MQTT 5 reason code of a QoS 1 publish. */
async function publish(client: MqttClient, topic: string): Promise<number> {
  try {
    const packet = await client.publishAsync(topic, "x", { qos: 1 });
    return (packet as { reasonCode?: number } | undefined)?.reasonCode ?? 0;
  } catch (error) {
    return (error as { code: number }).code;
  }
}

describe("vmq_acl in the broker", () => {
  it("check 38: who may publish what", async () => {
    const { connect } = await start(
      "topic read a/b/c\ntopic write x/y/z\nuser test\ntopic x/y/z/#\npattern write %m/%u/%c\n",
    );
    const test = await connect({
      protocolVersion: 5,
      username: "test",
      clientId: "my-client-id",
    });
    expect(await publish(test, "/test/my-client-id")).toBeLessThan(0x80);
    expect(await publish(test, "x/y/z/blabla")).toBeLessThan(0x80);
    expect(await publish(test, "/test/another-id")).toBe(0x87);
    const invalid = await connect({ protocolVersion: 5, username: "invalid-user" });
    expect(await publish(invalid, "x/y/z")).toBeLessThan(0x80);
    expect(await publish(invalid, "x/y/z/blabla")).toBe(0x87);
  });

  it("check 40: one forbidden topic refuses the whole SUBSCRIBE, for 3.1.1 and 5.0", async () => {
    const { connect } = await start("topic read a/#\n");
    const old = await connect();
    expect(await subscribe(old, "a/b", "x")).toEqual([0x80, 0x80]);
    expect(await subscribe(old, "a/b", "a/+")).toEqual([0, 0]);
    const recent = await connect({ protocolVersion: 5 });
    expect(await subscribe(recent, "a/b", "x")).toEqual([0x87, 0x87]);
    expect(await subscribe(recent, "a/b", "$share/g/a/#")).toEqual([0, 0]);
  });

  it("check 41: filters must be covered, $SYS needs its own rule", async () => {
    const { connect } = await start("topic read a/+\nuser root\ntopic read #\n");
    const client = await connect({ protocolVersion: 5 });
    expect(await subscribe(client, "a/b")).toEqual([0]);
    expect(await subscribe(client, "a/+")).toEqual([0]);
    expect(await subscribe(client, "a/#")).toEqual([0x87]);
    const root = await connect({ protocolVersion: 5, username: "root" });
    expect(await subscribe(root, "#")).toEqual([0]);
    expect(await subscribe(root, "$SYS/#")).toEqual([0x87]);
  });

  it("delivers what rules allow, and closes a 3.1.1 client that publishes what they do not", async () => {
    const { connect } = await start("pattern %u/%c/#\ntopic read #\n");
    const reader = await connect();
    const seen: string[] = [];
    reader.on("message", (topic) => seen.push(topic));
    expect(await subscribe(reader, "#")).toEqual([0]);
    const writer = await connect({ username: "bob", clientId: "dev" });
    await writer.publishAsync("bob/dev/x", "1", { qos: 1 });
    await waitFor("the message", () => seen.length === 1);
    const closed = new Promise((resolve) => writer.once("close", () => resolve(undefined)));
    writer.publish("bob/other/x", "1", { qos: 0 });
    await closed;
    expect(seen).toEqual(["bob/dev/x"]);
  });
});

describe("vmq_acl without a file", () => {
  it("allows everything but writing to $SYS, and says so once", async () => {
    const { acl, connect } = await start(undefined);
    const client = await connect({ protocolVersion: 5 });
    expect(await subscribe(client, "#", "$SYS/#", "$share/g/a")).toEqual([0, 0, 0]);
    expect(await publish(client, "any/thing")).toBeLessThan(0x80);
    const asker = { username: undefined, clientId: "c", mountpoint: "" };
    const sys = { ...asker, topic: "$SYS/x" };
    expect(acl.explain({ ...sys, access: "write" })).toEqual({
      verdict: "next",
      file: "bundled rules",
    });
    expect(acl.explain({ ...sys, access: "read" }).verdict).toBe("ok");
    expect(lines.filter((line) => line.includes("vmq_acl.acl_file"))).toHaveLength(1);
  });
});

describe("the ACL file", () => {
  it.each([
    ["missing", async () => {}],
    ["a folder", async (file: string) => void (await mkdir(file))],
    ["without a usable line", (file: string) => writeFile(file, "user:$6$\n\u0000\n")],
  ])("stops the start when it is %s", async (_kind, make) => {
    const file = join(tempDir(), "vmq.acl");
    await make(file);
    const options = { aclFile: file, reloadIntervalS: 1, topicMaxDepth: 10, log };
    await expect(createAclPlugin(options)).rejects.toThrow(
      `vmq_acl.acl_file: ${file} cannot be used`,
    );
  });

  it("may be empty: then nothing is allowed", async () => {
    const { acl } = await pluginOver("# nothing yet\n");
    const question = { username: "u", clientId: "c", mountpoint: "", topic: "a" } as const;
    expect(acl.explain({ ...question, access: "read" }).verdict).toBe("next");
  });

  it("check 42: a garbage line is logged with its number, the other rules load", async () => {
    const { file, acl } = await pluginOver("topic a\nthis is garbage\ntopic b\n");
    const asker = { username: undefined, clientId: "c", mountpoint: "" };
    expect(acl.explain({ ...asker, access: "write", topic: "b" })).toEqual({
      verdict: "ok",
      file,
      line: 3,
      text: "topic b",
    });
    expect(lines.filter((line) => line.startsWith(`${file}:2: `))).toHaveLength(1);
  });

  it("is reloaded as a whole when it changes, and kept when it breaks", async () => {
    const { file, acl } = await pluginOver("topic a\n");
    const may = (topic: string) =>
      acl.explain({ username: undefined, clientId: "c", mountpoint: "", access: "read", topic })
        .verdict === "ok";
    await writeFile(file, "topic b\n");
    await waitFor("b is allowed", () => may("b"));
    expect(may("a")).toBe(false);
    await rm(file);
    await waitFor("the loss is logged", () => lines.some((line) => line.includes("ENOENT")));
    expect(may("b")).toBe(true);
    await writeFile(file, "garbage\n");
    await waitFor("the refusal is logged", () =>
      lines.some((line) => line.includes("no usable line")),
    );
    expect(may("b")).toBe(true);
    await writeFile(file, "topic c\n");
    await waitFor("c is allowed", () => may("c"));
    expect(may("b")).toBe(false);
  });

  it("can be changed at run time, to the bundled rules and back", async () => {
    const { file, acl } = await pluginOver("topic a\n");
    const may = (topic: string) =>
      acl.explain({ username: undefined, clientId: "c", mountpoint: "", access: "read", topic })
        .verdict === "ok";
    await acl.setFile(`${file}.missing`);
    expect([may("a"), may("b")]).toEqual([true, false]);
    await acl.setFile(undefined);
    expect(may("b")).toBe(true);
    await writeFile(`${file}.2`, "topic z\n");
    await acl.setFile(`${file}.2`);
    expect([may("a"), may("z")]).toEqual([false, true]);
    acl.setInterval(0);
    await writeFile(`${file}.2`, "topic a\n");
    acl.setInterval(1);
    await waitFor("a is allowed", () => may("a"));
  });

  it("takes no promise to answer", async () => {
    const { acl } = await pluginOver("topic a\n");
    const { auth_on_subscribe: ask } = acl.plugin.hooks;
    const args = {
      username: undefined,
      subscriber_id: { mountpoint: "", client_id: "c" },
      topics: [{ topic: "a", qos: 0 as const }],
    };
    expect(ask?.(args)).toBe("ok");
    expect(ask?.({ ...args, topics: [...args.topics, { topic: "b", qos: 0 as const }] })).toBe(
      "next",
    );
  });
});
