import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { exportSPKI, generateKeyPair, SignJWT } from "jose";
import { type PluginTest, testPlugin } from "nautilus-mq/testing";
import { afterEach, beforeAll, describe, expect, it } from "vitest";
import { waitFor } from "../../support/broker.ts";
import { ROOT } from "../../support/build.ts";
import jwtAuth from "./jwt_auth/index.ts";
import tenantTopics from "./tenant_topics/index.ts";

const open: PluginTest[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

async function start(...args: Parameters<typeof testPlugin>): Promise<PluginTest> {
  const started = await testPlugin(...args);
  open.push(started);
  return started;
}

/** Messages a client gets, as `topic payload`. */
function inbox(client: Awaited<ReturnType<PluginTest["connect"]>>): string[] {
  const got: string[] = [];
  client.on("message", (topic, payload) => got.push(`${topic} ${payload.toString()}`));
  return got;
}

describe.each([4, 5] as const)("a JWT authenticator, MQTT level %i", (protocolVersion) => {
  let keys: Awaited<ReturnType<typeof generateKeyPair>>;
  let settings: Record<string, string>;
  beforeAll(async () => {
    const folder = mkdtempSync(join(tmpdir(), "nautilus-jwt-"));
    keys = await generateKeyPair("ES256", { extractable: true });
    writeFileSync(join(folder, "key.pem"), await exportSPKI(keys.publicKey));
    settings = { "jwt_auth.public_key": join(folder, "key.pem") };
    return () => rmSync(folder, { recursive: true });
  });

  function token(claims: Record<string, unknown>, issuer = "https://id.example"): Promise<string> {
    return new SignJWT(claims)
      .setProtectedHeader({ alg: "ES256" })
      .setSubject("ada")
      .setIssuer(issuer)
      .setExpirationTime("1h")
      .sign(keys.privateKey);
  }

  it("authorises by the claims of the token, kept with the session", async () => {
    const { connect } = await start(jwtAuth, settings);
    const password = await token({ publish: ["up/ada/#"], subscribe: ["down/+"] });
    const client = await connect({ username: "ada", password, protocolVersion });
    const got = inbox(client);
    const granted = await client.subscribeAsync("down/x", { qos: 1 });
    expect(granted[0]?.qos).toBe(1);
    await expect(client.subscribeAsync("down/#")).rejects.toThrow();

    const other = await token({ publish: ["down/x"], subscribe: [] });
    const sender = await connect({ username: "ada", password: other, protocolVersion });
    await sender.publishAsync("down/x", "hello", { qos: 1 });
    await waitFor("the message", () => got.length > 0);
    expect(got).toEqual(["down/x hello"]);
  });

  it("refuses a forged token, another issuer and another user name", async () => {
    const { connect } = await start(jwtAuth, settings);
    const good = await token({});
    const attempts = [
      { username: "ada", password: `${good.slice(0, -4)}AAAA` },
      { username: "ada", password: await token({}, "https://evil.example") },
      { username: "eve", password: good },
    ];
    for (const attempt of attempts) {
      await expect(connect({ ...attempt, protocolVersion })).rejects.toMatchObject({
        code: protocolVersion === 5 ? 0x86 : 4,
      });
    }
  });

  it("needs its key", async () => {
    await expect(testPlugin(jwtAuth)).rejects.toThrow(
      "jwt_auth.public_key: must be set while plugins.jwt_auth = on",
    );
  });
});

describe.each([4, 5] as const)("a topic-rewriting filter, MQTT level %i", (protocolVersion) => {
  it("gives each user topics of its own", async () => {
    const { connect, broker } = await start(tenantTopics, { "tenant_topics.prefix": "t" });
    const ada = await connect({ username: "ada", protocolVersion });
    const bob = await connect({ username: "bob", protocolVersion });
    const [toAda, toBob] = [inbox(ada), inbox(bob)];
    for (const client of [ada, bob]) await client.subscribeAsync("state/#");
    await ada.publishAsync("state/a", "1", { qos: 1 });
    await bob.publishAsync("state/b", "2", { qos: 1 });
    await waitFor("both messages", () => toAda.length > 0 && toBob.length > 0);
    expect(toAda).toEqual(["state/a 1"]);
    expect(toBob).toEqual(["state/b 2"]);
    expect(broker.sessions().flatMap(({ subscriptions }) => subscriptions)).toEqual(
      expect.arrayContaining([expect.objectContaining({ topic: "t/ada/state/#" })]),
    );
    expect(broker.metrics().tenant_topics_rewritten).toBe(2);

    await ada.unsubscribeAsync("state/#");
    await ada.subscribeAsync("last");
    await ada.publishAsync("state/a", "3", { qos: 1 });
    await ada.publishAsync("last", "4", { qos: 1 });
    await waitFor("the last message", () => toAda.includes("last 4"));
    expect(toAda).toEqual(["state/a 1", "last 4"]);
  });
});

describe("plugins/README.md", () => {
  const readme = readFileSync(join(ROOT, "plugins/README.md"), "utf8");

  it.each(["jwt_auth", "tenant_topics"])("quotes the example %s as it is", (name) => {
    const source = readFileSync(join(ROOT, `test/plugins/examples/${name}/index.ts`), "utf8");
    expect(readme).toContain(`\`\`\`ts\n${source}\`\`\``);
  });
});
