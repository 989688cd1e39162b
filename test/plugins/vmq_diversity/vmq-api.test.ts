import { describe, expect, it } from "vitest";
import { definePlugin, type PluginContext } from "../../../core/plugin-api.ts";
import { testPlugin } from "../../../core/testing.ts";
import { apiServices } from "../../../plugins/vmq_diversity/broker-services.ts";
import { vmqApi } from "../../../plugins/vmq_diversity/libs/small.ts";
import { LuaError } from "../../../plugins/vmq_diversity/worker/library.ts";
import { atEnd } from "../../support/cleanup.ts";
import { lua, luaCall, luaHost, type TestValue } from "../../support/lua-library.ts";

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
  it("disconnects a client", async () => {
    const { connect, call } = await start();
    const id = { mountpoint: "", client_id: "one" };
    const disconnect = (options?: TestValue) => call("disconnect_by_subscriber_id", id, options);
    expect(await disconnect({ do_cleanup: false })).toBe("not_found");
    const client = await connect({ clientId: "one", clean: false });
    const closed = new Promise((resolve) => client.once("close", () => resolve(true)));
    expect(await disconnect({ do_cleanup: false })).toBe("ok");
    await closed;
    const again = await connect({ clientId: "one", clean: false });
    const gone = new Promise((resolve) => again.once("close", () => resolve(true)));
    expect(await disconnect({ do_cleanup: true })).toBe("ok");
    await gone;
    expect(await disconnect()).toBe("not_found");
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
