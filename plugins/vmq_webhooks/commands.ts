import { type PluginCommand, type PluginContext, table } from "../../core/plugin-api.ts";
import type { AnswerCache } from "./cache.ts";
import { webhookRow } from "./hooks.ts";
import { checkedTarget, commandOptions } from "./options.ts";
import type { Registration } from "./registration.ts";
import type { Webhooks } from "./webhooks.ts";

type Args = ReadonlyMap<string, string>;

const OPTIONS = [
  "[--base64payload=true|false] [--no_payload=true|false] [--response_timeout=MS]",
  "[--connect_timeout=MS] [--on_error=deny|next|ok] [--ordered=true|false]",
  "[--not_utf8=replace|base64|deny] [--negative_cache=MS] [--header=NAME:VALUE] [--secret_file=FILE]",
].join(" ");

/** `vmq-admin webhooks ...` (webhooks.md, section 1). */
export function webhookCommands(
  webhooks: Webhooks,
  cache: AnswerCache,
  context: Pick<PluginContext, "resolvePath">,
): PluginCommand[] {
  return [
    {
      path: ["webhooks", "show"],
      usage: "webhooks show [--hook=HOOK] [--endpoint=URL] [--full]",
      help: "registered endpoints in the order they are asked; with --full their state",
      run: (args) => show(webhooks, args),
    },
    {
      path: ["webhooks", "register"],
      usage: `webhooks register hook=HOOK endpoint=URL ${OPTIONS}`,
      help: "adds an endpoint behind those of the hook, until the next restart",
      run: (args) => {
        const { hook, endpoint } = target(args);
        const options = commandOptions(endpoint, args, context);
        const isNew = webhooks.register({ name: undefined, hook, endpoint, options });
        return isNew ? "Done\n" : "can't register endpoint due to 'already_registered'\n";
      },
    },
    {
      path: ["webhooks", "deregister"],
      usage: "webhooks deregister hook=HOOK endpoint=URL",
      help: "takes an endpoint out, and what was kept of its answers, until the next restart",
      run: (args) => {
        const { hook, endpoint } = target(args);
        const isThere = webhooks.deregister(hook, endpoint);
        return isThere ? "Done\n" : "can't deregister endpoint due to 'not_found'\n";
      },
    },
    {
      path: ["webhooks", "cache", "show"],
      usage: "webhooks cache show [--reset]",
      help: "entries, hits and misses by endpoint and hook; --reset zeroes hits and misses",
      run: (args) => {
        if (!args.has("reset")) return showCache(cache);
        cache.resetStats();
        return "Done\n";
      },
    },
    {
      path: ["webhooks", "cache", "clear"],
      usage: "webhooks cache clear",
      help: "forgets all answers and their statistics",
      run: () => {
        cache.clear();
        return "Done\n";
      },
    },
    {
      path: ["webhooks", "cache", "purge"],
      usage: "webhooks cache purge [--endpoint=URL] [--hook=HOOK] [--client_id=ID]",
      help: "forgets the answers of an endpoint, to a hook, about a client, or all",
      run: (args) => {
        const [endpoint, hook, clientId] = ["endpoint", "hook", "client_id"].map((name) =>
          args.get(name),
        );
        if (hook !== undefined && webhookRow(hook) === undefined) {
          throw new Error(`Invalid value: "${hook}"`);
        }
        const removed = cache.purge({
          ...(endpoint === undefined ? {} : { endpoint }),
          ...(hook === undefined ? {} : { hook }),
          ...(clientId === undefined ? {} : { clientId }),
        });
        return `${removed} removed\n`;
      },
    },
  ];
}

function target(args: Args): { hook: ReturnType<typeof checkedTarget>; endpoint: string } {
  const [hook = "", endpoint = ""] = [args.get("hook"), args.get("endpoint")];
  if (hook === "" || endpoint === "") {
    throw new Error(`${hook === "" ? "hook" : "endpoint"} is missing`);
  }
  try {
    return { hook: checkedTarget(hook, endpoint), endpoint };
  } catch (error) {
    const wrong = webhookRow(hook) === undefined ? hook : endpoint;
    throw new Error(`Invalid value: "${wrong}"\n${(error as Error).message}`);
  }
}

const COLUMNS = ["hook", "endpoint", "base64payload", "response_timeout"];
const MORE = ["on_error", "state", "pending", "queued", "requests", "errors", "dropped", "source"];

function show(webhooks: Webhooks, args: Args): string {
  const [hook, endpoint] = [args.get("hook"), args.get("endpoint")];
  const isFull = args.has("full");
  const rows = webhooks
    .list()
    .filter(({ spec }) => hook === undefined || spec.hook === hook)
    .filter(({ spec }) => endpoint === undefined || spec.endpoint === endpoint)
    .map((one) => (isFull ? [...columns(one), ...more(one)] : columns(one)));
  return rows.length === 0 ? "" : table(isFull ? [...COLUMNS, ...MORE] : COLUMNS, rows);
}

function columns({ spec, options }: Registration): string[] {
  return [spec.hook, spec.endpoint, String(options.base64), String(options.responseTimeoutMs)];
}

function more({ spec, options, endpoint, requests, errors, dropped }: Registration): string[] {
  return [
    options.onError,
    endpoint.breaker.state,
    String(endpoint.pending),
    String(endpoint.events.length),
    String(requests),
    String(errors),
    String(dropped),
    spec.name === undefined ? "command" : `vmq_webhooks.${spec.name}`,
  ];
}

function showCache(cache: AnswerCache): string {
  const rows = cache
    .stats()
    .flatMap(({ endpoint, hook, entries, hits, misses }) =>
      Object.entries({ entries, hits, misses }).map(([stat, value]) => [
        stat,
        endpoint,
        hook,
        String(value),
      ]),
    );
  return rows.length === 0 ? "" : table(["stat", "endpoint", "hook", "value"], rows);
}
