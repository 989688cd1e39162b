/** A worker thread of vmq_diversity: Lua states, libraries and connection pools. */
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { LIBRARIES } from "../libs/libraries.ts";
import {
  type FromWorker,
  type LoadRequest,
  RUNNING_VERSION,
  type ToWorker,
  TURNS,
  type WorkerOptions,
} from "../messages.ts";
import { ownThread } from "../thread-time.ts";
import { Engine } from "./engine.ts";
import { type LibraryHost, type LuaCall, LuaError, type PoolStats } from "./library.ts";
import { LogLimit } from "./log-limit.ts";
import { loadLua } from "./lua-api.ts";
import { Marshal } from "./marshal.ts";
import { LuaRuntime } from "./runtime.ts";
import { ScriptFolders } from "./script-folders.ts";

/** States of a script that keeps none and does not say how many. Differs from VerneMQ: 1 there. */
const SEVERAL_STATES = 4;
const TICK_MS = 100;
const STATS_MS = 1000;
/** A log line of a script. */
const MESSAGE_LENGTH_MAX = 8192;

const options = workerData as WorkerOptions;
const port = parentPort as MessagePort;
/** What is said between two answers travels with the next of them, or at the end of the turn. */
let said: FromWorker[] = [];
let saidTransfer: ArrayBuffer[] = [];
let isFlushScheduled = false;

function flush(): void {
  isFlushScheduled = false;
  if (said.length === 0) return;
  port.postMessage(said, saidTransfer);
  said = [];
  saidTransfer = [];
}

function post(message: FromWorker, transfer: readonly ArrayBuffer[] = []): void {
  said.push(message);
  saidTransfer.push(...transfer);
  if (message.type === "results") flush();
  else if (!isFlushScheduled) {
    isFlushScheduled = true;
    setImmediate(flush);
  }
}

const asked = new Map<
  number,
  { resolve: (value: unknown) => void; reject: (error: LuaError) => void }
>();
let requests = 0;
const pools = new Set<() => PoolStats>();
const logLimit = new LogLimit();

const host: LibraryHost = {
  settings: options.settings,
  threads: options.threads,
  secret: options.secret,
  log: (level, message, fields = {}, call) => {
    if (!logLimit.admits(call?.script ?? "")) return;
    const text = message.slice(0, MESSAGE_LENGTH_MAX);
    post({ type: "log", level, message: text, fields, script: call?.script });
  },
  ask: (service, args, call) =>
    new Promise((resolve, reject) => {
      const request = ++requests;
      asked.set(request, { resolve, reject });
      postRequest(request, service, args, call);
    }),
  tell: (service, args, call) => postRequest(0, service, args, call),
  pool: (read) => {
    pools.add(read);
    return () => void pools.delete(read);
  },
};

function postRequest(request: number, service: string, args: unknown, call?: LuaCall): void {
  post({ type: "ask", request, service, args, script: call?.script ?? "", id: call?.id ?? 0 });
}

const api = await loadLua();
const marshal = new Marshal(api);
const progress = new Int32Array(options.progress);
const runtime = new LuaRuntime(api, marshal, {
  limits: { instructions: options.instructionLimit, memoryBytes: options.memoryLimit },
  libraries: Object.fromEntries(
    Object.entries(LIBRARIES).map(([name, factory]) => [name, factory(host)]),
  ),
  log: (level, message, call) => {
    const known = level === "warn" || level === "error" || level === "debug" ? level : "info";
    host.log(known, message, {}, call);
  },
});
const engine = new Engine({
  api,
  marshal,
  runtime,
  callTimeoutMs: options.callTimeoutMs,
  progress,
  begun: new Uint8Array(options.begun),
  post,
});

async function load(message: LoadRequest): Promise<void> {
  const { request, version, path, source, scriptDir, bundledDir, keepState } = message;
  const folders = new ScriptFolders(path, scriptDir, bundledDir);
  progress[RUNNING_VERSION] = version;
  const created = engine.createVersion(version, { path, source, folders, keepState });
  try {
    const loaded = await created.load(
      options.thread,
      options.threads,
      message.defaultStates,
      SEVERAL_STATES,
    );
    post({ type: "loaded", request, ...loaded, modules: [...folders.files] });
  } catch (error) {
    engine.versions.delete(version);
    const fault = error instanceof Error ? error.message : String(error);
    post({ type: "loaded", request, fault });
  }
}

port.on("message", (message: ToWorker) => {
  switch (message.type) {
    case "calls":
      engine.receive(message);
      break;
    case "cancel":
      engine.cancel(message.id);
      break;
    case "load":
      void load(message);
      break;
    case "retire":
      engine.retire(message.version);
      break;
    case "answer": {
      const waiting = asked.get(message.request);
      asked.delete(message.request);
      if (message.fault !== undefined) waiting?.reject(new LuaError(message.fault));
      else waiting?.resolve(message.value);
      break;
    }
    default:
      message satisfies never;
  }
});

setInterval(() => Atomics.add(progress, TURNS, 1), TICK_MS).unref();
setInterval(() => {
  for (const { script, lost } of logLimit.next()) {
    const text = "the script logs too much: lines were left out";
    post({ type: "log", level: "warn", message: text, fields: { lost }, script });
  }
  post({
    type: "stats",
    pools: [...pools].map((read) => read()),
    versions: [...engine.versions.values()].map(({ number, states, memoryBytes }) => ({
      version: number,
      states,
      memoryBytes,
    })),
  });
}, STATS_MS).unref();
post({ type: "ready", accounts: ownThread() });
