import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { beforeAll, describe, expect, it } from "vitest";
import {
  BatchWriter,
  LUA_HOOKS,
  RESULT_ERROR,
  RESULT_KILLED,
  RESULT_TRUE,
  type ResultBatch,
} from "../../../plugins/vmq_diversity/wire.ts";
import { Engine } from "../../../plugins/vmq_diversity/worker/engine.ts";
import { loadLua } from "../../../plugins/vmq_diversity/worker/lua-api.ts";
import { Marshal } from "../../../plugins/vmq_diversity/worker/marshal.ts";
import { LuaRuntime } from "../../../plugins/vmq_diversity/worker/runtime.ts";
import { ScriptFolders } from "../../../plugins/vmq_diversity/worker/script-folders.ts";
import { tempDir, waitFor } from "../../support/broker.ts";

/** The bytes of a batch, which may be large, go with the last of its calls. */

const SCRIPT = `hooks = { auth_on_publish = function(a)
  if a.topic == "error" then error("boom") end
  if a.topic == "kill" then while true do end end
  if a.topic == "wait" then test.wait() end
  return true
end }`;

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

let engine: Engine;
let results: ResultBatch[] = [];
let isWaiting = false;

beforeAll(async () => {
  const api = await loadLua();
  const marshal = new Marshal(api);
  const wait = (): Promise<undefined> => {
    isWaiting = true;
    return new Promise(() => undefined);
  };
  const runtime = new LuaRuntime(api, marshal, {
    limits: { instructions: 1_000_000, memoryBytes: 1 << 24 },
    // The prelude takes `environment` for os.getenv.
    libraries: { test: { wait }, environment: { getenv: () => undefined } },
    log: () => undefined,
  });
  engine = new Engine({
    api,
    marshal,
    runtime,
    callTimeoutMs: 10_000,
    progress: new Int32Array(4),
    begun: new Uint8Array(1024),
    post: (batch) => results.push(batch),
  });
  const folder = tempDir("file");
  const folders = new ScriptFolders("script.lua", folder, folder);
  const source = { path: "script.lua", source: Buffer.from(SCRIPT), folders, keepState: false };
  await engine.createVersion(1, source).load(0, 1, 1, 1);
});

/** Calls the hook; only the engine has the bytes then. */
function publish(id: number, topic: string): WeakRef<Uint8Array> {
  const writer = new BatchWriter();
  const fields = { username: "u", mountpoint: "", clientId: "c", qos: 0, topic, retain: false };
  const payload = Buffer.alloc(5000);
  writer.publish(id, 1, LUA_HOOKS.indexOf("auth_on_publish"), {
    ...fields,
    payload,
    properties: undefined,
  });
  const batch = writer.take();
  results = [];
  engine.receive(batch);
  return new WeakRef(batch.bytes);
}

async function isGone(bytes: WeakRef<Uint8Array>): Promise<void> {
  await waitFor("the bytes are collected", () => {
    collect();
    return bytes.deref() === undefined;
  });
}

describe("the bytes of a call's arguments", () => {
  it.each([
    ["has been answered", "fine", RESULT_TRUE],
    ["failed", "error", RESULT_ERROR],
    ["was killed", "kill", RESULT_KILLED],
  ])("are let go when it %s", async (_, topic, result) => {
    const bytes = publish(1, topic);
    await waitFor("an answer", () => results.length > 0);
    expect(results[0]?.results[1]).toBe(result);
    await isGone(bytes);
  });

  it("are kept while it waits, and let go when it is given up", async () => {
    const bytes = publish(2, "wait");
    await waitFor("the call waits", () => isWaiting);
    collect();
    expect(bytes.deref()).toBeDefined();
    engine.cancel(2);
    await isGone(bytes);
  });

  it("are let go when it is given up before it began", async () => {
    publish(3, "wait");
    const bytes = publish(4, "fine");
    engine.cancel(4);
    await isGone(bytes);
    engine.cancel(3);
  });
});
