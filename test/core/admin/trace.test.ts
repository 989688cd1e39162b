import { describe, expect, it } from "vitest";
import type { Broker } from "../../../core/broker-types.ts";
import type { Plugin } from "../../../core/hooks/types.ts";
import { startBroker, waitFor } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";
import { connect } from "../../support/mqtt-js.ts";

/** A running `trace client`, with what it has said so far. */
function trace(broker: Broker, ...args: string[]) {
  const stop = new AbortController();
  const said: string[] = [];
  const over = broker.control("trace", ["client", ...args], {
    say: (text) => said.push(text),
    signal: stop.signal,
  });
  atEnd(() => stop.abort());
  return { said, text: () => said.join(""), over, stop: () => stop.abort() };
}

const guard: Plugin = {
  name: "guard",
  hooks: {
    auth_on_publish: async ({ topic }) =>
      topic === "no" ? { error: "not_authorized" } : { ok: { qos: 1 } },
    auth_on_subscribe: () => "next",
    auth_on_subscribe_m5: () => "next",
  },
};

describe("trace client", () => {
  it("shows packets both ways from CONNECT on, without the password (check 37)", async () => {
    const broker = await startBroker({ allow_anonymous: "hooks" });
    const { text } = trace(broker, "client-id=c1", "--rate-max=100");
    expect(text()).toMatch(/^\d{4}-\d\d-\d\dT[\d:]{8}Z No sessions found for client "c1"\n$/);
    const client = await connect(broker, "c1", {
      username: "bob",
      password: "geheim123",
      will: { topic: "w", payload: Buffer.from("last words"), qos: 1, retain: true },
    });
    await connect(broker, "other");
    await client.subscribeAsync("a/b", { qos: 1 });
    await client.publishAsync("a/b", "hello", { qos: 1 });
    await client.unsubscribeAsync("a/b");
    await client.endAsync();
    await waitFor("it is over", () => text().includes("Trace session for c1 stopped"));
    const shown = text().replaceAll(/^\S+Z /gm, "");
    expect(shown).toMatch(/New session with PID <0\.\d+\.0> found for client "c1"/);
    for (const line of [
      'RECV: CID: "c1" CONNECT(c: c1, v: 4, u: bob, p: pw_no_print, cs: true, ka: 60)\n' +
        '    with LWT(wr: true, wq: 1, wt: "w") with payload:\n    last words\n',
      "Calling auth_on_register(",
      'Hook auth_on_register returned "ok"',
      'SEND: CID: "c1" CONNACK(sp: 0, rc: 0)',
      /RECV: CID: "c1" SUBSCRIBE\(m\d+\) with topics:\n {4}q:1, t: "a\/b"/,
      /SEND: CID: "c1" SUBACK\(m\d+, qt\[1\]\)/,
      /RECV: CID: "c1" PUBLISH\(d0, q1, r0, m\d+, "a\/b"\) with payload:\n {4}hello\n/,
      /SEND: CID: "c1" PUBLISH\(d0, q1, r0, m\d+, "a\/b"\) with payload:\n {4}hello\n/,
      /SEND: CID: "c1" PUBACK\(m\d+\)/,
      /RECV: CID: "c1" PUBACK\(m\d+\)/,
      /RECV: CID: "c1" UNSUBSCRIBE\(m\d+\) with topics:\n {4}t: "a\/b"/,
      /SEND: CID: "c1" UNSUBACK\(m\d+\)/,
      'RECV: CID: "c1" DISCONNECT()',
    ]) {
      if (typeof line === "string") expect(shown).toContain(line);
      else expect(shown).toMatch(line);
    }
    expect(shown).not.toContain("geheim123");
    expect(shown).not.toContain("other");
  });

  it("shows what each plugin of a chain answers, also later, and how long it took", async () => {
    const broker = await startBroker({}, [guard]);
    const { text } = trace(broker, "client-id=c1", "--rate-max=100");
    const client = await connect(broker, "c1", { protocolVersion: 4 });
    await client.publishAsync("t", "x");
    await client.subscribeAsync("t").catch(() => undefined);
    await waitFor("both are asked", () => text().includes("zz_accept_all"));
    await client.publishAsync("no", "x");
    await waitFor("the second is refused", () => text().includes('{"error":"not_authorized"}'));
    expect(text()).toMatch(
      /Calling auth_on_publish\(\{.*"topic":"t","payload":"x","retain":false,.*\}\)/,
    );
    expect(text()).toMatch(/ {4}guard: \{"ok":\{"qos":1\}\} in \d+\.\d{3} ms\n/);
    expect(text()).toContain('Hook auth_on_publish returned {"ok":{"qos":1}}');
    expect(text()).toMatch(/guard: "next" in .* ms\n.* zz_accept_all: "ok" in /);
  });

  it("follows a client that is connected already, in the middle of its stream, in MQTT 5", async () => {
    const broker = await startBroker();
    const client = await connect(broker, "c5", { protocolVersion: 5 });
    const { text, stop, over } = trace(broker, "client-id=c5");
    expect(text()).toMatch(/New session with PID <0\.\d+\.0> found for client "c5"/);
    await client.publishAsync("a", "x", { qos: 2, properties: { contentType: "text" } });
    await waitFor("it is seen", () => text().includes("PUBCOMP"));
    expect(text()).toMatch(/PUBLISH\(d0, q2, .*\n {4}x\n {4}with properties: \{.*"text".*\}/);
    expect(text()).toMatch(/SEND: CID: "c5" PUBREC\(m\d+, rc: no_matching_subscribers\(16\)\)/);
    stop();
    expect(await over).toMatchObject({ exit: 0, stderr: "" });
    const before = text();
    await client.publishAsync("a", "y", { qos: 1 });
    expect(text()).toBe(before);
  });

  it("cuts payloads and keeps control characters of clients from the terminal", async () => {
    const broker = await startBroker();
    const { text } = trace(broker, "client-id=c1", "--trunc-payload=5");
    const client = await connect(broker, "c1");
    await client.publishAsync("a", "\u001b[31mred", { qos: 1 });
    await waitFor("it is seen", () => text().includes("PUBACK"));
    expect(text()).toContain("    \ufffd[31m (truncated)\n");
    expect(text()).not.toContain("\u001b");
  });

  it("ends when more happens than its rate allows", async () => {
    const broker = await startBroker();
    const { text, over } = trace(broker, "client-id=c1", "--rate-max=3", "--rate-interval=60000");
    const client = await connect(broker, "c1");
    for (let n = 0; n < 5; n++) await client.publishAsync("a", "x", { qos: 1 });
    expect((await over).exit).toBe(0);
    expect(text()).toMatch(/Trace rate limit triggered\.\n$/);
  });

  it("runs once at a time, until somebody ends it", async () => {
    const broker = await startBroker();
    const first = trace(broker, "client-id=c1");
    const second = await broker.control("trace", ["client", "client-id=c2"]);
    expect(second).toMatchObject({
      exit: 0,
      stdout: "Cannot start trace as another trace is already running.\n",
    });
    expect((await broker.control("trace", ["stop_all"])).stdout).toBe("Done\n");
    expect((await first.over).exit).toBe(0);
    expect(first.text()).toMatch(/Trace terminated by external action\.\n$/);
    const third = trace(broker, "client-id=c3", "--format=json");
    expect(JSON.parse(third.text())).toMatchObject({ type: "text" });
  });
});
