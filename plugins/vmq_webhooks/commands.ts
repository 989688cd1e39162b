import {
  type PluginCommand,
  type PluginContext,
  type PluginParameter,
  type PluginTable,
  withoutPassword,
} from "../../core/plugin-api.ts";
import type { AnswerCache } from "./cache.ts";
import { webhookRow } from "./hooks.ts";
import { checkedTarget, commandOptions } from "./options.ts";
import type { Registration } from "./registration.ts";
import type { Webhooks } from "./webhooks.ts";

type Args = ReadonlyMap<string, string>;

const TARGET: readonly PluginParameter[] = [
  { name: "hook", value: "Hook", isRequired: true, help: "one of VerneMQ's hooks" },
  {
    name: "endpoint",
    value: "Url",
    isRequired: true,
    help: "http, https or http://unix:/socket:/path",
  },
];

const OPTIONS: readonly PluginParameter[] = [
  { name: "base64payload", value: "true|false", help: "payload as base64 (true)" },
  {
    name: "no_payload",
    value: "true|false",
    help: "auth_on_publish without payload (false)",
  },
  { name: "response_timeout", value: "ms", help: "for the whole answer (5000)" },
  { name: "connect_timeout", value: "ms", help: "to open a connection (8000)" },
  { name: "on_error", value: "deny|next|ok", help: "what a failed call means (deny)" },
  {
    name: "ordered",
    value: "true|false",
    help: "a client's on_publish one by one (false)",
  },
  { name: "not_utf8", value: "replace|base64|deny", help: "bytes that are no text (replace)" },
  { name: "negative_cache", value: "ms", help: "keeps refusals and next (0)" },
  { name: "header", value: "Name:Value", help: "a header of every request" },
  { name: "secret_file", value: "File", help: "key that signs requests" },
];

/** `vmq-admin webhooks ...` */
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
      args: [],
      flags: [
        { name: "hook", value: "Hook", help: "of this hook only" },
        { name: "endpoint", value: "Url", help: "of this endpoint only" },
        { name: "full", help: "policy, circuit breaker, queues, requests, errors and origin, too" },
      ],
      run: (args) => show(webhooks, args),
    },
    {
      path: ["webhooks", "register"],
      usage: "webhooks register hook=<Hook> endpoint=<Url>",
      help: "adds an endpoint behind those of the hook, until the next restart",
      args: TARGET,
      flags: OPTIONS,
      run: (args) => {
        const { hook, endpoint } = target(args);
        const options = commandOptions(endpoint, args, context);
        const isNew = webhooks.register({ name: undefined, hook, endpoint, options });
        return isNew ? "Done\n" : { alert: "can't register endpoint due to 'already_registered'" };
      },
    },
    {
      path: ["webhooks", "deregister"],
      usage: "webhooks deregister hook=<Hook> endpoint=<Url>",
      help: "takes an endpoint out, and what was kept of its answers, until the next restart",
      args: TARGET,
      flags: [],
      run: (args) => {
        const { hook, endpoint } = target(args);
        const isThere = webhooks.deregister(hook, endpoint);
        return isThere ? "Done\n" : { alert: "can't deregister endpoint due to 'not_found'" };
      },
    },
    {
      path: ["webhooks", "cache", "show"],
      usage: "webhooks cache show [--reset]",
      help: "entries, hits and misses by endpoint and hook",
      args: [],
      flags: [{ name: "reset", help: "zeroes hits and misses" }],
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
      args: [],
      flags: [
        { name: "endpoint", value: "Url", help: "of this endpoint only" },
        { name: "hook", value: "Hook", help: "to this hook only" },
        { name: "client_id", value: "ClientId", help: "about this client only" },
      ],
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

function show(webhooks: Webhooks, args: Args): PluginTable {
  const [hook, endpoint] = [args.get("hook"), args.get("endpoint")];
  const isFull = args.has("full");
  const rows = webhooks
    .list()
    .filter(({ spec }) => hook === undefined || spec.hook === hook)
    .filter(({ spec }) => endpoint === undefined || spec.endpoint === endpoint)
    .map((one) => (isFull ? [...columns(one), ...more(one)] : columns(one)));
  return { columns: isFull ? [...COLUMNS, ...MORE] : COLUMNS, rows };
}

type Cells = (string | number | boolean)[];

function columns({ spec, options }: Registration): Cells {
  return [spec.hook, withoutPassword(spec.endpoint), options.base64, options.responseTimeoutMs];
}

function more({ spec, options, endpoint, requests, errors, dropped }: Registration): Cells {
  return [
    ...[options.onError, endpoint.breaker.state, endpoint.pending, endpoint.events.length],
    ...[requests, errors, dropped],
    spec.name === undefined ? "command" : `vmq_webhooks.${spec.name}`,
  ];
}

function showCache(cache: AnswerCache): PluginTable {
  const rows = cache
    .stats()
    .flatMap(({ endpoint, hook, entries, hits, misses }) =>
      Object.entries({ entries, hits, misses }).map(([stat, value]) => [
        stat,
        withoutPassword(endpoint),
        hook,
        value,
      ]),
    );
  return { columns: ["stat", "endpoint", "hook", "value"], rows };
}
