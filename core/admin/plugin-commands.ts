import { NautilusError } from "../errors.ts";
import { CONDITIONAL_HOOKS, conditionalHook, type ExplainQuery } from "../hooks/explain.ts";
import { type Command, table, UsageError } from "./command.ts";

type Args = ReadonlyMap<string, string>;

/** `vmq-admin plugin ...` (hooks.md, section 3). */
export const PLUGIN_COMMANDS: readonly Command[] = [
  {
    path: ["plugin", "show"],
    usage: "plugin show [--plugin=NAME] [--hook=HOOK]",
    help: "the chain of each hook in call order",
    run: ({ plugins }, args) => {
      const plugin = args.get("plugin");
      const hook = args.get("hook");
      const rows = plugins.show({
        ...(plugin === undefined ? {} : { plugin }),
        ...(hook === undefined ? {} : { hook }),
      });
      return table(
        ["Plugin", "Type", "Hook(s)", "M:F/A", "Priority", "Source"],
        rows.map(({ plugin, hook, answeredBy, priority, source }) => [
          plugin,
          "application",
          hook,
          `${plugin}:${answeredBy}/1`,
          priority,
          source,
        ]),
      );
    },
  },
  {
    path: ["plugin", "enable"],
    usage: "plugin enable --name=NAME [--path=PATH]",
    help: "loads and starts a plugin; it goes to the end of the chains, until the next restart",
    run: async ({ plugins }, args) => {
      const name = nameOf(args);
      await plugins
        .enable(name, args.get("path") ?? args.get("p"))
        .catch(refused(`Can't enable plugin: ${name}`));
      return "Done\n";
    },
  },
  {
    path: ["plugin", "disable"],
    usage: "plugin disable --name=NAME",
    help: "takes a plugin out of the chains and stops it, until the next restart",
    run: ({ plugins }, args) => {
      const name = nameOf(args);
      if (plugins.disable(name)) return "Done\n";
      throw new UsageError(`Can't disable plugin: ${name} due to plugin_not_found`);
    },
  },
  {
    path: ["plugin", "reload"],
    usage: "plugin reload --name=NAME",
    help: "loads a plugin's files again; when that fails, the old version stays",
    run: async ({ plugins }, args) => {
      const name = nameOf(args);
      await plugins.reload(name).catch(refused(`Can't reload plugin: ${name}`));
      return "Done\n";
    },
  },
  {
    path: ["plugin", "explain"],
    usage:
      "plugin explain hook=HOOK [client_id=C] [username=U] [password=P] [topic=T] [qos=Q] " +
      "[payload=TEXT] [retain=true] [mountpoint=MP] [peer=ADDRESS] [context=JSON]",
    help: "asks a chain without a client and shows what each plugin says, with modifiers and time",
    run: async ({ plugins }, args) => {
      const { hook, links, result } = await plugins.explain(queryOf(args));
      const rows = links.map(({ plugin, verdict, detail, ms }) => [
        plugin,
        verdict,
        detail === undefined ? "" : detailText(detail),
        verdict === "not asked" ? "" : `${ms.toFixed(3)} ms`,
      ]);
      return [table(["Plugin", "Verdict", "Detail", "Time"], rows), `${hook}: ${result}\n`];
    },
  },
];

function nameOf(args: Args): string {
  const name = args.get("name") ?? args.get("n");
  if (name === undefined || name === "") throw new UsageError("Incomplete plugin specification");
  return name;
}

/** VerneMQ's words for the errors it knows; ours with file and reason for the rest. */
function refused(what: string): (error: unknown) => never {
  return (error) => {
    const reason =
      error instanceof NautilusError && error.code === "PLUGIN_ALREADY_ENABLED"
        ? "already_enabled"
        : error instanceof Error
          ? error.message
          : String(error);
    throw new UsageError(`${what} due to ${reason}`);
  };
}

function queryOf(args: Args): ExplainQuery {
  const hook = conditionalHook(args.get("hook") ?? "");
  if (hook === undefined) {
    throw new UsageError(`hook is missing or none of ${CONDITIONAL_HOOKS.join(", ")}`);
  }
  const query: Record<string, unknown> = { hook };
  for (const name of [
    "client_id",
    "username",
    "password",
    "mountpoint",
    "topic",
    "payload",
    "peer",
  ]) {
    const value = args.get(name) ?? args.get(name.replace("_", "-"));
    if (value !== undefined) query[name] = value;
  }
  const qos = Number(args.get("qos") ?? "0");
  if (qos !== 0 && qos !== 1 && qos !== 2) throw new UsageError("qos is 0, 1 or 2");
  query.qos = qos;
  query.retain = args.get("retain") === "true";
  const context = args.get("context");
  if (context !== undefined) query.context = JSON.parse(context);
  return query as unknown as ExplainQuery;
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
