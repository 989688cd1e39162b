import { originText, savedSettings, saveSettings } from "../../config/load.ts";
import { allowedText, shownText } from "../../config/schema.ts";
import type { Config } from "../../config/types.ts";
import { NautilusError } from "../../errors.ts";
import {
  BadCommand,
  type Call,
  type Command,
  flagValue,
  hasFlag,
  type Parameter,
} from "../command.ts";
import { alert, type Cell, DONE, type Element, table, text } from "../elements.ts";
import type { AdminTarget } from "../target.ts";

const NODE_FLAGS: readonly Parameter[] = [
  { name: "node", short: "n", value: "Node", help: "on this node" },
  { name: "all", short: "a", help: "on all nodes of the cluster" },
];

/** `set`, `show`, `describe` and `config ...` */
export function settingCommands(target: AdminTarget): Command[] {
  const { config, core } = target;
  return [
    {
      path: ["set"],
      help: "changes settings while the broker runs",
      details: [
        "Changes are lost with a restart, unless --persist writes them to vmq-admin.conf in the data",
        "directory, which is read after vernemq.conf.",
      ].join("\n"),
      anyArgs: "<variable>=<value> ...",
      flags: [...NODE_FLAGS, { name: "persist", help: "also after a restart" }],
      check: (call) => {
        if (call.args.size === 0) throw usage("set <variable>=<value> ...");
        checkNode(target, call);
        for (const [key, value] of call.args) checkSetting(target, key, value);
      },
      run: (call) => set(target, call),
    },
    {
      path: ["show"],
      help: "shows settings",
      words: "<variable> ...",
      flags: NODE_FLAGS,
      check: (call) => {
        if (call.words.length === 0) throw usage("show <variable> ...");
        checkNode(target, call);
        checkKeys(target, call.words);
      },
      run: (call) => [
        table(
          ["node", ...call.words],
          [[core.cluster.nodeName, ...call.words.map((key) => shownValue(config, key))]],
        ),
      ],
    },
    {
      path: ["describe"],
      help: "tells what settings mean and accept",
      words: "<variable> ...",
      check: (call) => {
        if (call.words.length === 0) throw usage("describe <variable> ...");
        checkKeys(target, call.words);
      },
      run: (call) => call.words.map((key) => text(described(target, key))),
    },
    {
      path: ["config", "show"],
      help: "shows all settings of a part of the broker",
      args: [{ name: "app", value: "App", help: "vmq_server, or the name of a plugin" }],
      flags: [{ name: "key", short: "k", value: "Key", help: "only this setting" }],
      run: (call) => showApp(target, call),
    },
    {
      path: ["config", "reset"],
      help: "removes settings that `set --persist` has saved",
      args: [{ name: "app", value: "App", help: "vmq_server, or the name of a plugin" }],
      flags: [
        { name: "key", short: "k", value: "Key", help: "only this setting" },
        { name: "local", help: "accepted: this node keeps its own" },
        { name: "global", help: "accepted: this node keeps its own" },
      ],
      run: (call) => resetApp(target, call),
    },
  ];
}

function usage(line: string): BadCommand {
  return new BadCommand(`Usage: vmq-admin ${line} [[--node | -n] <node> | --all]`, true);
}

function checkNode({ core }: AdminTarget, call: Call): void {
  const node = flagValue(call, "node");
  if (node === undefined) return;
  if (hasFlag(call, "all"))
    throw new BadCommand("Cannot specify both --all and --node flags", true);
  if (!core.cluster.members().some(({ name }) => name === node)) {
    throw new BadCommand(`Invalid node name: ${node}`, true);
  }
}

function checkKeys({ config }: AdminTarget, keys: readonly string[]): void {
  const unknown = keys.filter((key) => config.rowOf(key) === undefined);
  if (unknown.length > 0) throw new BadCommand(`Invalid config keys: ${unknown.join(" ")} `, true);
}

/** VerneMQ's words, ours behind them where they tell more. */
function checkSetting({ config }: AdminTarget, key: string, value: string): void {
  try {
    config.check(key, value);
  } catch (error) {
    if (!(error instanceof NautilusError)) throw error;
    const reason = error.message.replace(`${key}: `, "");
    switch (error.code) {
      case "CONFIG_UNKNOWN_KEY":
        throw new BadCommand(`Unknown variable: ${key}\n${reason}`, true);
      case "CONFIG_NOT_LIVE":
        throw new BadCommand(
          `The following config keys are not settable: [${JSON.stringify(key)}]\n${error.hint}`,
          true,
        );
      default:
        throw new BadCommand(`Error transforming datatype for: ${key}\n${reason}`, true);
    }
  }
}

function set({ config, core }: AdminTarget, call: Call): readonly Element[] {
  const isSaved = hasFlag(call, "persist");
  const hidden = [...call.args.keys()].filter(
    (key) => isSaved && hidesSaved(config.written(), key),
  );
  if (isSaved) saveSettings(config.dataDir, call.args);
  for (const [key, value] of call.args) config.set(key, value);
  const lines = [...call.args].map(
    ([key, value]) => `${key} set to ${JSON.stringify(shownSetting(config, key, value))}`,
  );
  const answer: Element[] = [text(lines.join("\n"))];
  if (hasFlag(call, "all")) {
    answer.unshift(text("Setting config across the cluster"));
    answer[1] = table(
      ["Node", "Node Down/Unreachable", "Result"],
      [[core.cluster.nodeName, false, lines.join("\n")]],
    );
  }
  if (hidden.length > 0) {
    answer.push(
      alert(
        `${hidden.join(", ")}: environment or command line set another value, which counts again after a restart`,
      ),
    );
  }
  return answer;
}

/** The environment and `--set` of the start win over files. */
function hidesSaved(
  written: readonly { key: string; origin: { kind: string } }[],
  key: string,
): boolean {
  return written.some((setting) => setting.key === key && setting.origin.kind === "environment");
}

function shownValue(config: Config, key: string): Cell {
  const value = config.value(key);
  if (typeof value === "boolean") return value ? "on" : "off";
  if (Array.isArray(value)) return value.join(",");
  return typeof value === "string" ? shownSetting(config, key, value) : (value as Cell);
}

function shownSetting(config: Config, key: string, text: string): string {
  const row = config.rowOf(key);
  return row === undefined ? text : shownText(row, text);
}

function described({ config }: AdminTarget, key: string): string {
  const row = config.rowOf(key);
  if (row === undefined) return key;
  const written = config.written().find((setting) => setting.key === key);
  const facts = [
    `${key}:`,
    row.doc,
    `type: ${row.type}, allowed: ${allowedText(row)}`,
    `default: ${row.default ?? "none"}, now: ${String(shownValue(config, key) ?? "unset")}`,
    `from: ${written === undefined ? "default" : originText(written.origin)}`,
    `changes: ${row.live === true ? "while the broker runs (vmq-admin set)" : "with a restart"}`,
  ];
  return facts.join("\n");
}

/** Keys of an application of VerneMQ: those of a plugin begin with its name. */
function keysOf({ config, pluginManager }: AdminTarget, app: string): string[] | undefined {
  const plugins = new Set([
    ...pluginManager.list().map(({ plugin }) => plugin.name),
    "vmq_webhooks",
    "vmq_bridge",
    "vmq_diversity",
    "vmq_acl",
    "vmq_passwd",
  ]);
  if (app !== "vmq_server" && !plugins.has(app)) return undefined;
  return [...config.entries()]
    .map(({ key }) => key)
    .filter((key) => {
      const [first = ""] = key.split(".");
      return app === "vmq_server" ? !plugins.has(first) : first === app;
    });
}

function showApp(target: AdminTarget, call: Call): readonly Element[] {
  const app = call.args.get("app");
  if (app === undefined) return [alert("Please provide an app=<App>")];
  const keys = keysOf(target, app);
  if (keys === undefined || keys.length === 0) return [alert("App not configured via vmq_config")];
  const saved = savedSettings(target.config.dataDir);
  const wanted = flagValue(call, "key");
  if (wanted !== undefined) {
    const key = keys.find((one) => one === wanted || one === `${app}.${wanted}`);
    if (key === undefined) return [alert("not found")];
    const scope = saved.has(key) ? "node" : "env";
    return [text(`Scope: ${scope}\nValue: ${String(plainValue(target, key))}`)];
  }
  return [
    table(
      ["Config", "Env", "Node", "Global"],
      keys.map((key) => [
        key,
        plainValue(target, key),
        shownSetting(target.config, key, saved.get(key) ?? ""),
        "",
      ]),
    ),
  ];
}

function plainValue({ config }: AdminTarget, key: string): Cell {
  const value = config.value(key);
  if (Array.isArray(value)) return "too_complex";
  return typeof value === "string" ? shownSetting(config, key, value) : (value as Cell);
}

function resetApp(target: AdminTarget, call: Call): readonly Element[] {
  const app = call.args.get("app");
  if (app === undefined) return [alert("Please provide an app=<App>")];
  const { dataDir } = target.config;
  const keys = new Set(keysOf(target, app) ?? []);
  const wanted = flagValue(call, "key");
  const removed = [...savedSettings(dataDir).keys()].filter(
    (key) =>
      keys.has(key) && (wanted === undefined || key === wanted || key === `${app}.${wanted}`),
  );
  saveSettings(dataDir, new Map(removed.map((key) => [key, undefined])));
  if (removed.length === 0) return DONE;
  return [
    text(`Done\n${removed.join(", ")}: no longer saved; the value changes with the next restart`),
  ];
}
