import { describe, expect, it } from "vitest";
import { definePlugin, type PluginContext } from "../../../core/plugin-api.ts";
import { testPlugin } from "../../../core/testing.ts";
import { apiServices } from "../../../plugins/vmq_diversity/broker-services.ts";
import { vmqApi } from "../../../plugins/vmq_diversity/libs/small.ts";
import { LuaError } from "../../../plugins/vmq_diversity/worker/library.ts";
import { atEnd } from "../../support/cleanup.ts";
import { lua, luaCall, luaHost, type TestValue } from "../../support/lua-library.ts";
import { connectClient } from "../../support/raw-client.ts";

/** A broker, the module on it, and the filters that its subscribe hook allows. */
async function start() {
  let context: PluginContext | undefined;
  const allowed = new Set(["a", "b"]);
  const asked: (string | undefined)[] = [];
  const plugin = definePlugin({
    name: "test_api",
    start: (given) => {
      context = given;
    },
    hooks: {
      auth_on_subscribe: ({ topics, username }) => {
        asked.push(username);
        return topics.every(({ topic }) => allowed.has(topic)) ? "ok" : { error: "not_authorized" };
      },
    },
  });
  const test = await testPlugin(plugin);
  atEnd(() => test.close());
  if (context === undefined) throw new Error("not started");
  const library = vmqApi(luaHost({ services: apiServices({ context }) }));
  const call = async (name: string, ...args: TestValue[]): Promise<unknown> =>
    await library[name]?.(luaCall(), ...args.map(lua));
  return { ...test, call, allowed, asked };
}

describe("vmq_api", () => {
  it("disconnects a client, and forgets it with do_cleanup, connected or away", async () => {
    const { broker, call } = await start();
    const id = { mountpoint: "", client_id: "one" };
    const disconnect = (options?: TestValue) => call("disconnect_by_subscriber_id", id, options);
    const connect = async (isResumed: boolean) => {
      const client = await connectClient(broker, 4, { clientId: "one", clean: false });
      expect(client.connack).toMatchObject({ sessionPresent: isResumed });
      return client;
    };
    expect(await disconnect({ do_cleanup: false })).toBe("not_found");
    const first = await connect(false);
    expect(await disconnect({ do_cleanup: false })).toBe("ok");
    await first.closed();
    const second = await connect(true);
    expect(await disconnect({ do_cleanup: true })).toBe("ok");
    await second.closed();
    expect(await disconnect()).toBe("not_found");
    const third = await connect(false);
    third.disconnect();
    await third.closed();
    expect(await disconnect({ do_cleanup: true })).toBe("ok");
    await connect(false);
  });

  it("asks the subscribe hooks again", async () => {
    const { connect, call, allowed, asked } = await start();
    const client = await connect({ clientId: "one", protocolVersion: 4 });
    await client.subscribeAsync(["a", "b"]);
    allowed.delete("b");
    const received: string[] = [];
    client.on("message", (topic) => received.push(topic));
    const id = { mountpoint: "", client_id: "one" };
    expect(await call("reauthorize_subscriptions", "somebody", id, {})).toBe("ok");
    await expect.poll(() => asked).toEqual([undefined, "somebody", "somebody"]);
    await client.publishAsync("b", "x", { qos: 1 });
    await client.publishAsync("a", "x", { qos: 1 });
    await expect.poll(() => received).toEqual(["a"]);
    const nobody = { mountpoint: "", client_id: "nobody" };
    expect(await call("reauthorize_subscriptions", "u", nobody, {})).toBe("ok");
  });

  it("raises for an incomplete id", async () => {
    const { call } = await start();
    for (const id of [{}, { mountpoint: "" }, { client_id: "one" }, "one", undefined]) {
      await expect(call("disconnect_by_subscriber_id", id, {})).rejects.toThrow(LuaError);
      await expect(call("reauthorize_subscriptions", "u", id, {})).rejects.toThrow(LuaError);
    }
  });
});
