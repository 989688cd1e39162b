import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { createBroker } from "../../core/broker.ts";
import { loadConfig } from "../../core/config/load.ts";
import { freePort, tempDir } from "../support/broker.ts";
import { atEnd } from "../support/cleanup.ts";
import { call } from "../support/http.ts";
import { connectClient } from "../support/raw-client.ts";

const TUTORIAL = readFileSync(
  new URL("../core/config/tutorial.vernemq.conf", import.meta.url),
  "utf8",
);

/** The configuration of a public tutorial with its files in a folder and its ports free ones. */
async function adapted(folder: string): Promise<{ file: string; mqtt: number; http: number }> {
  const [mqtt, http] = [await freePort(), await freePort()];
  mkdirSync(join(folder, "log"));
  mkdirSync(join(folder, "lua"));
  writeFileSync(join(folder, "vmq.acl"), "topic plant/#\n");
  writeFileSync(join(folder, "vmq.passwd"), "");
  const text = TUTORIAL.replaceAll("/etc/vernemq/", `${folder}/`)
    .replaceAll("/var/log/vernemq/", `${folder}/log/`)
    .replaceAll("/usr/share/vernemq/lua", `${folder}/lua`)
    .replace("127.0.0.1:1883", `127.0.0.1:${mqtt}`)
    .replace("127.0.0.1:8888", `127.0.0.1:${http}`);
  const file = join(folder, "vernemq.conf");
  writeFileSync(file, text);
  expect(loadConfig({ file }).errors).toEqual([]);
  return { file, mqtt, http };
}

describe("the configuration of a public tutorial, with other paths and ports", () => {
  it("starts the broker with its listeners, its ACL and its HTTP modules", async () => {
    const folder = tempDir();
    const { file, mqtt, http } = await adapted(folder);
    const broker = await createBroker({
      configFile: file,
      dataDir: join(folder, "data"),
      logLevel: "silent",
    });
    atEnd(() => broker.close());
    const client = await connectClient(mqtt, 4, { clientId: "c1" });
    expect(await client.subscribed(["other/#"], { qos: 1 })).toEqual([0x80]);
    expect(await client.subscribed(["plant/#"], { qos: 1 })).toEqual([1]);
    const publisher = await connectClient(mqtt, 5, { clientId: "c2" });
    await publisher.published({ topic: "plant/a", payload: "x", qos: 1 });
    await client.delivered({ topic: "plant/a", payload: "x", qos: 1 });
    const metrics = await call(http, "/metrics");
    expect(metrics.body).toContain('vernemq_router_subscriptions{node="VerneMQ@127.0.0.1"} 1');
    expect((await call(http, "/health")).body).toBe('{"status":"OK"}');
    expect((await call(http, "/api/v1/cluster/show")).status).toBe(401);
  });
});
