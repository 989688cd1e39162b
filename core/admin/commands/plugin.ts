import { errorMessage, NautilusError } from "../../errors.ts";
import { CONDITIONAL_HOOKS, conditionalHook, type ExplainQuery } from "../../hooks/explain.ts";
import type { HookName } from "../../hooks/types.ts";
import {
  BadCommand,
  type Call,
  type Command,
  flagValue,
  hasFlag,
  type Parameter,
} from "../command.ts";
import { alert, DONE, type Element, table, text } from "../elements.ts";
import { sourceText } from "../plugin-control.ts";
import type { AdminTarget } from "../target.ts";

/** Arguments that VerneMQ's function of a hook takes, for `M:F/A`. */
const ARITY: Readonly<Record<HookName, number>> = {
  auth_on_register: 5,
  auth_on_register_m5: 6,
  on_auth_m5: 3,
  on_register: 3,
  on_register_m5: 4,
  auth_on_publish: 6,
  auth_on_publish_m5: 7,
  on_publish: 6,
  on_publish_m5: 7,
  auth_on_subscribe: 3,
  auth_on_subscribe_m5: 4,
  on_subscribe: 3,
  on_subscribe_m5: 4,
  on_unsubscribe: 3,
  on_unsubscribe_m5: 4,
  on_topic_unsubscribed: 2,
  on_deliver: 7,
  on_deliver_m5: 7,
  on_offline_message: 5,
  on_message_drop: 3,
  on_client_wakeup: 1,
  on_client_offline: 1,
  on_client_gone: 1,
  on_session_expired: 1,
  change_config: 1,
};

/** Hooks that only `--internal` shows. */
const INTERNAL: ReadonlySet<string> = new Set(["change_config"]);

const NAME: Parameter = { name: "name", short: "n", value: "PluginName", help: "the plugin" };

/** `plugin enable` of one function of an Erlang module. */
const MODULE_FLAGS: readonly Parameter[] = [
  { name: "module", short: "m", value: "ModuleName", help: "module of the Erlang machine" },
  { name: "function", short: "f", value: "FunctionName", help: "function of such a module" },
  { name: "arity", short: "a", value: "Arity", help: "arguments of such a function" },
  { name: "hook", value: "HookName", help: "hook of such a function" },
];

const EXPLAIN_ARGS: readonly Parameter[] = [
  { name: "hook", value: "Hook", isRequired: true, help: "the chain that is asked" },
  {
    name: "client_id",
    value: "ClientId",
    help: "as whom; one that is connected is asked as it is",
  },
  { name: "client-id", value: "ClientId", help: "the same" },
  { name: "username", value: "Username", help: "user name" },
  { name: "password", value: "Password", help: "password, for auth_on_register" },
  { name: "mountpoint", value: "Mountpoint", help: "mountpoint" },
  { name: "topic", value: "Topic", help: "topic or filter" },
  { name: "qos", value: "QoS", help: "0, 1 or 2", isValid: (value) => /^[012]$/.test(value) },
  { name: "payload", value: "Text", help: "payload" },
  { name: "retain", value: "true|false", help: "RETAIN flag" },
  { name: "peer", value: "Address", help: "address of the client" },
  { name: "context", value: "JSON", help: "facts that plugins keep with a session" },
];

/** `vmq-admin plugin ...` */
export function pluginCommands(target: AdminTarget): Command[] {
  const { plugins } = target.broker;
  return [
    {
      path: ["plugin", "show"],
      help: "shows plugins and their hooks",
      flags: [
        { name: "plugin", value: "PluginName", help: "only this plugin" },
        { name: "hook", value: "HookName", help: "only this hook" },
        { name: "internal", help: "with hooks of the broker's own work" },
        { name: "source", help: "with the file that each was loaded from" },
        { name: "chain", help: "each hook with its plugins in call order instead" },
      ],
      run: (call) => [hasFlag(call, "chain") ? chains(target, call) : shown(target, call)],
    },
    {
      path: ["plugin", "enable"],
      help: "loads and starts a plugin, until the next restart",
      details: "It goes to the end of the chains.",
      flags: [
        NAME,
        {
          name: "path",
          short: "p",
          value: "Path",
          help: "its file or folder; without it a bundled plugin",
          isPath: true,
        },
        ...MODULE_FLAGS,
      ],
      run: async (call) => {
        const name = flagValue(call, "name");
        const path = flagValue(call, "path");
        if (name === undefined) return [incomplete(call, "enable")];
        try {
          await plugins.enable(name, path);
          return DONE;
        } catch (error) {
          return [alert(`Can't enable plugin: ${name} due to ${reasonOf(error)}`)];
        }
      },
    },
    {
      path: ["plugin", "disable"],
      help: "takes a plugin out of the chains and stops it, until the next restart",
      flags: [NAME, ...MODULE_FLAGS],
      run: (call) => {
        const name = flagValue(call, "name");
        if (name === undefined) return [incomplete(call, "disable")];
        if (plugins.disable(name)) return DONE;
        return [alert(`Can't disable plugin: ${name} due to plugin_not_found`)];
      },
    },
    {
      path: ["plugin", "reload"],
      help: "loads a plugin's files again; when that fails, the old version stays",
      flags: [NAME],
      run: async (call) => {
        const name = flagValue(call, "name");
        if (name === undefined) return [alert("Incomplete plugin specification")];
        try {
          await plugins.reload(name);
          return DONE;
        } catch (error) {
          return [alert(`Can't reload plugin: ${name} due to ${reasonOf(error)}`)];
        }
      },
    },
    {
      path: ["plugin", "explain"],
      help: "asks a chain without a client: what each plugin says, with modifiers and time",
      args: EXPLAIN_ARGS,
      check: (call) => void queryOf(call),
      run: async (call) => {
        const { hook, links, result } = await plugins.explain(queryOf(call));
        const rows = links.map(({ plugin, verdict, detail, ms }) => [
          plugin,
          verdict,
          detail === undefined ? "" : detailText(detail),
          verdict === "not asked" ? "" : `${ms.toFixed(3)} ms`,
        ]);
        return [table(["Plugin", "Verdict", "Detail", "Time"], rows), text(`${hook}: ${result}`)];
      },
    },
  ];
}

/** One row for each plugin; hooks and functions have a line each, all of them ended. */
function shown({ broker, pluginManager }: AdminTarget, call: Call): Element {
  const wanted = flagValue(call, "plugin");
  const hook = flagValue(call, "hook");
  const links = broker.plugins.show(hook === undefined ? {} : { hook });
  const withSource = hasFlag(call, "source");
  const rows = pluginManager.list().flatMap(({ plugin: { name }, file }) => {
    if (wanted !== undefined && wanted !== name) return [];
    const hooks = links
      .filter(({ plugin }) => plugin === name)
      .filter((link) => hasFlag(call, "internal") || !INTERNAL.has(link.hook));
    if (hook !== undefined && hooks.length === 0) return [];
    return [
      [
        name,
        "application",
        hooks.map((link) => `${link.hook}\n`).join(""),
        hooks.map(({ answeredBy }) => `${name}:${answeredBy}/${ARITY[answeredBy]}\n`).join(""),
        ...(withSource ? [sourceText(file)] : []),
      ],
    ];
  });
  return table(["Plugin", "Type", "Hook(s)", "M:F/A", ...(withSource ? ["Source"] : [])], rows);
}

function chains({ broker }: AdminTarget, call: Call): Element {
  const plugin = flagValue(call, "plugin");
  const hook = flagValue(call, "hook");
  const links = broker.plugins.show({
    ...(plugin === undefined ? {} : { plugin }),
    ...(hook === undefined ? {} : { hook }),
  });
  return table(
    ["Hook", "Plugin", "Answered by", "Priority", "Source"],
    links.map(({ plugin, hook, answeredBy, priority, source }) => [
      hook,
      plugin,
      answeredBy,
      priority ?? "",
      source,
    ]),
  );
}

function incomplete(call: Call, what: string): Element {
  const module = flagValue(call, "module");
  if (module === undefined) return alert("Incomplete plugin specification");
  return alert(`Can't ${what} plugin: ${module} due to unknown_module`);
}

/** VerneMQ's words for the errors it knows; ours with file and reason for the rest. */
function reasonOf(error: unknown): string {
  if (error instanceof NautilusError) {
    if (error.code === "PLUGIN_ALREADY_ENABLED") return "already_enabled";
    return error.message;
  }
  return errorMessage(error);
}

function queryOf({ args }: Call): ExplainQuery {
  const hook = conditionalHook(args.get("hook") ?? "");
  if (hook === undefined) {
    throw new BadCommand(`hook is none of ${CONDITIONAL_HOOKS.join(", ")}`);
  }
  const query: Record<string, unknown> = { hook };
  const texts = ["username", "password", "mountpoint", "topic", "payload", "peer", "client_id"];
  for (const name of texts) {
    const value = args.get(name) ?? args.get(name.replace("_", "-"));
    if (value !== undefined) query[name] = value;
  }
  query.qos = Number(args.get("qos") ?? "0");
  query.retain = args.get("retain") === "true";
  const context = args.get("context");
  if (context !== undefined) query.context = contextOf(context);
  return query as unknown as ExplainQuery;
}

function contextOf(json: string): object {
  try {
    const context: unknown = JSON.parse(json);
    if (typeof context === "object" && context !== null) return context;
  } catch {
    // Told below.
  }
  throw new BadCommand(`context is no JSON object: ${json}`);
}

/** Modifiers as JSON, payloads as their length: they may be anything. */
function detailText(detail: unknown): string {
  if (typeof detail === "string") return detail;
  return JSON.stringify(detail, (_, value: unknown) => {
    if (typeof value !== "object" || value === null) return value;
    const { type, data } = value as { type?: unknown; data?: unknown };
    return type === "Buffer" && Array.isArray(data) ? `<${data.length} bytes>` : value;
  });
}
