import {
  type Call,
  type Command,
  flagValue,
  hasFlag,
  isInt,
  MOUNTPOINT,
  type Parameter,
} from "../command.ts";
import { DONE, type Element, table, text } from "../elements.ts";
import { FIELD_DETAILS, fieldFlags, inSlices, selectionOf } from "../fields.ts";
import {
  MESSAGE_FIELDS,
  QUEUE_FIELDS,
  SESSION_FIELDS,
  SUBSCRIPTION_FIELDS,
  sessionRows,
} from "../session-rows.ts";
import type { AdminTarget } from "../target.ts";

const DEFAULT_COLUMNS = ["client_id", "is_online", "mountpoint", "peer_host", "peer_port", "user"];

const CLEANUP: Parameter = {
  name: "cleanup",
  short: "c",
  help: "removes subscriptions and stored messages, too",
};

/** `vmq-admin session ...` */
export function sessionCommands(target: AdminTarget): Command[] {
  const { core, broker } = target;
  const disconnect = (call: Call, clientId: string): void => {
    broker.disconnectClient(clientId, {
      mountpoint: flagValue(call, "mountpoint") ?? "",
      cleanup: hasFlag(call, "cleanup"),
    });
  };
  return [
    {
      path: ["session", "show"],
      help: "shows clients, their connections, subscriptions and stored messages",
      details: FIELD_DETAILS,
      flags: fieldFlags({
        ...QUEUE_FIELDS,
        ...SESSION_FIELDS,
        ...SUBSCRIPTION_FIELDS,
        ...MESSAGE_FIELDS,
      }),
      check: (call) => void selectionOf(call, DEFAULT_COLUMNS),
      run: async (call) => {
        const selection = selectionOf(call, DEFAULT_COLUMNS);
        return [table(selection.columns, await sessionRows(core, selection))];
      },
    },
    {
      path: ["session", "disconnect"],
      help: "ends a client's sessions; its state stays",
      details: "A client of MQTT 5 is told the reason: administrative action.",
      args: [{ name: "client-id", value: "ClientId", isRequired: true, help: "the client" }],
      flags: [MOUNTPOINT, CLEANUP],
      run: (call) => {
        disconnect(call, call.args.get("client-id") ?? "");
        return DONE;
      },
    },
    {
      path: ["session", "disconnect", "clients"],
      help: "ends the sessions of several clients",
      args: [{ name: "client-ids", value: "Id1,Id2,...", isRequired: true, help: "the clients" }],
      flags: [MOUNTPOINT, CLEANUP],
      run: (call) => {
        for (const clientId of listOf(call.args.get("client-ids"))) disconnect(call, clientId);
        return DONE;
      },
    },
    {
      path: ["session", "disconnect", "batch"],
      help: "ends any sessions, so many on each node",
      args: [
        {
          name: "count",
          value: "Number",
          isRequired: true,
          help: "how many",
          isValid: isInt,
        },
      ],
      flags: [
        MOUNTPOINT,
        CLEANUP,
        {
          name: "filter-client-ids",
          short: "f",
          value: "Id1,Id2,...",
          help: "clients that are spared",
        },
        { name: "node", short: "n", value: "Node1,Node2,...", help: "only on these nodes" },
      ],
      run: (call) => disconnectBatch(target, call),
    },
    {
      path: ["session", "unsubscribe"],
      help: "removes one subscription of a client",
      args: [
        { name: "client-id", value: "ClientId", isRequired: true, help: "the client" },
        { name: "topic", value: "Topic", isRequired: true, help: "the filter as subscribed" },
      ],
      flags: [
        MOUNTPOINT,
        { name: "plugin", short: "p", help: "plugins hear of it (on_topic_unsubscribed)" },
      ],
      run: (call) => {
        unsubscribe(target, call);
        return DONE;
      },
    },
    {
      path: ["session", "reauthorize"],
      help: "asks the subscribe hooks again for every subscription of a client",
      details: "Subscriptions that are refused now are removed.",
      args: [
        { name: "username", value: "Username", isRequired: true, help: "user name for the hooks" },
        { name: "client-id", value: "ClientId", isRequired: true, help: "the client" },
      ],
      flags: [MOUNTPOINT],
      run: async (call) => {
        const { removed, added } = await broker.reauthorize(call.args.get("client-id") ?? "", {
          mountpoint: flagValue(call, "mountpoint") ?? "",
          username: call.args.get("username") ?? "",
        });
        return removed.length + added.length === 0 ? [text("Unchanged")] : DONE;
      },
    },
  ];
}

function listOf(value: string | undefined): string[] {
  return (value ?? "").split(",").filter((item) => item !== "");
}

async function disconnectBatch(
  { core, broker }: AdminTarget,
  call: Call,
): Promise<readonly Element[]> {
  const nodes = listOf(flagValue(call, "node"));
  if (nodes.length > 0 && !nodes.includes(core.cluster.nodeName)) return DONE;
  const spared = new Set(listOf(flagValue(call, "filter-client-ids")));
  const mountpoint = flagValue(call, "mountpoint") ?? "";
  const cleanup = hasFlag(call, "cleanup");
  let left = Number(call.args.get("count"));
  for await (const { clientId, isOnline, mountpoint: own } of inSlices(
    core.manager.subscribers.values(),
  )) {
    if (left === 0) break;
    if (!isOnline || own !== mountpoint || spared.has(clientId)) continue;
    if (broker.disconnectClient(clientId, { mountpoint, cleanup })) left--;
  }
  return DONE;
}

function unsubscribe({ core }: AdminTarget, call: Call): void {
  const topic = call.args.get("topic") ?? "";
  const subscriber = core.manager.find(
    flagValue(call, "mountpoint") ?? "",
    call.args.get("client-id") ?? "",
  );
  if (subscriber?.removeSubscription(topic) !== true) return;
  if (subscriber.isStored) core.store.deleteSubscription(subscriber.id, topic);
  if (hasFlag(call, "plugin")) {
    core.hooks.tell("on_topic_unsubscribed", {
      subscriber_id: subscriber.hookId,
      topics: [topic],
    });
  }
}
