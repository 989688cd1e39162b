import type { Subscriber } from "../../session/manager.ts";
import { type Command, flagInt, flagValue, isPositiveInt, MOUNTPOINT } from "../command.ts";
import { alert, table } from "../elements.ts";
import { inSlices } from "../fields.ts";
import { waitingMessages } from "../session-rows.ts";
import type { AdminTarget } from "../target.ts";

const LIMIT = {
  name: "limit",
  value: "NumberOfResults",
  help: "rows at most, 100 by default",
  isValid: isPositiveInt,
};
/** A store that is slower than this gives no rows. */
const READ_MS = 5000;

/** `vmq-admin queue ...`: where messages pile up; VerneMQ has no such commands. */
export function queueCommands({ core }: AdminTarget): Command[] {
  return [
    {
      path: ["queue", "show"],
      help: "shows the longest queues first",
      details: "waiting: not sent yet; in_flight: sent, not acknowledged; dropped: queue was full.",
      flags: [
        LIMIT,
        {
          name: "min",
          value: "NumberOfMessages",
          help: "only queues with so many waiting, 1 by default",
          isValid: (value) => /^\d{1,9}$/.test(value),
        },
      ],
      run: async (call) => {
        const min = flagInt(call, "min", 1);
        const limit = flagInt(call, "limit", 100);
        let longest: Subscriber[] = [];
        const size = ({ session, queue }: Subscriber): number =>
          session === undefined ? queue.offlineSize : session.out.queue.size;
        const trim = (): void => {
          longest = longest.sort((a, b) => size(b) - size(a)).slice(0, limit);
        };
        for await (const subscriber of inSlices(core.manager.subscribers.values())) {
          if (size(subscriber) < min) continue;
          longest.push(subscriber);
          if (longest.length > limit * 2 + 1000) trim();
        }
        trim();
        return [
          table(
            ["client_id", "mountpoint", "is_online", "waiting", "in_flight", "dropped", "limit"],
            longest.map((subscriber) => [
              subscriber.clientId,
              subscriber.mountpoint,
              subscriber.isOnline,
              size(subscriber),
              subscriber.session?.out.inflight.count ?? 0,
              subscriber.queue.droppedTotal,
              limitOf(subscriber),
            ]),
          ),
        ];
      },
    },
    {
      path: ["queue", "messages"],
      help: "shows what waits for one client, oldest first, without payloads",
      args: [{ name: "client-id", value: "ClientId", isRequired: true, help: "the client" }],
      flags: [MOUNTPOINT, LIMIT],
      run: async (call) => {
        const clientId = call.args.get("client-id") ?? "";
        const subscriber = core.manager.find(flagValue(call, "mountpoint") ?? "", clientId);
        if (subscriber === undefined) return [alert(`there is no client ${clientId}`)];
        const limit = flagInt(call, "limit", 100);
        const entries = await waitingMessages(core, subscriber, limit, READ_MS);
        return [
          table(
            ["seq", "state", "qos", "topic", "bytes", "expires_in_s"],
            entries.map(({ seq, state, qos, message }) => [
              seq,
              ["waiting", "sent", "released"][state],
              qos,
              message?.topic,
              message?.payloadBytes,
              message === undefined || message.expiresAtMs === 0
                ? null
                : Math.ceil((message.expiresAtMs - core.wallMs()) / 1000),
            ]),
          ),
        ];
      },
    },
  ];
}

function limitOf({ isOnline, settings }: Subscriber): number | string {
  const limit = isOnline ? settings.maxOnlineMessages : settings.maxOfflineMessages;
  return limit < 0 ? "infinity" : limit;
}
