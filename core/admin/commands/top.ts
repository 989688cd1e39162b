import { TopicCounts } from "../../session/manager.ts";
import type { Session } from "../../session/session.ts";
import { type Call, type Command, flagInt, flagValue, type Parameter } from "../command.ts";
import { type Cell, type Element, table, text } from "../elements.ts";
import { inSlices } from "../fields.ts";
import { render } from "../render.ts";
import type { AdminTarget } from "../target.ts";

const INTERVAL_MS = 1000;

const FLAGS: readonly Parameter[] = [
  {
    name: "interval",
    value: "Milliseconds",
    help: `how long to count, ${INTERVAL_MS} by default`,
    isValid: (value) => /^\d{3,5}$/.test(value) && Number(value) <= 60_000,
  },
  {
    name: "limit",
    value: "NumberOfResults",
    help: "rows of each table, 10 by default",
    isValid: (value) => /^[1-9]\d{0,3}$/.test(value),
  },
  {
    name: "by",
    value: "rate|queue|drops",
    help: "order of the clients, rate by default",
    isValid: (value) => ["rate", "queue", "drops"].includes(value),
  },
];

/** `vmq-admin top`: who is busy now; VerneMQ has no such command. */
export function topCommands(target: AdminTarget): Command[] {
  return [
    {
      path: ["top"],
      help: "shows the busiest clients and topics by messages a second",
      details: [
        "received and sent: PUBLISH packets a second; waiting: messages in the queue; dropped:",
        "messages lost since the queue was made, because it was full.",
      ].join("\n"),
      flags: FLAGS,
      run: (call) => look(target, call),
    },
    {
      path: ["top", "watch"],
      help: "shows the same again and again, until it is interrupted",
      flags: FLAGS,
      isEndless: true,
      run: async (call) => {
        while (!call.signal.aborted) {
          const elements = await look(target, call);
          const at = `${new Date().toISOString().slice(0, 19)}Z\n`;
          if (!call.signal.aborted) call.say(`${at}${render(elements, "human", true).stdout}`);
        }
        return [];
      },
    },
  ];
}

interface Seen {
  readonly published: number;
  readonly sent: number;
}

interface Row {
  readonly session: Session;
  readonly received: number;
  readonly sent: number;
  readonly waiting: number;
  readonly dropped: number;
}

async function look(target: AdminTarget, call: Call): Promise<readonly Element[]> {
  const { core } = target;
  const before = new Map<Session, Seen>();
  for await (const session of inSlices(core.manager.sessions())) {
    before.set(session, { published: session.published, sent: session.out.sent });
  }
  // Somebody else may be looking, too.
  const topics = core.topicCounts ?? new TopicCounts();
  const noted = new Map(topics.counts);
  const othersBefore = topics.others;
  core.topicCounts = topics;
  lookers.set(topics, (lookers.get(topics) ?? 0) + 1);
  const startMs = performance.now();
  try {
    await wait(flagInt(call, "interval", INTERVAL_MS), call.signal);
  } finally {
    const left = (lookers.get(topics) ?? 1) - 1;
    lookers.set(topics, left);
    if (left === 0) core.topicCounts = undefined;
  }
  const seconds = (performance.now() - startMs) / 1000;
  const limit = flagInt(call, "limit", 10);
  const clients = await clientRows(target, before, flagValue(call, "by") ?? "rate", limit);
  const busiest = [...topics.counts]
    .map(([topic, count]): [string, number] => [topic, count - (noted.get(topic) ?? 0)])
    .filter(([, count]) => count > 0)
    .sort((a, b) => b[1] - a[1]);
  const others = topics.others - othersBefore;
  return [
    clientTable(clients, seconds),
    table(
      ["topic", "mountpoint", "received/s"],
      busiest.slice(0, limit).map(([key, count]) => {
        const [first = "", second] = key.split("\u0000");
        const [mountpoint, topic] = second === undefined ? ["", first] : [first, second];
        return [topic, mountpoint, rate(count, seconds)];
      }),
    ),
    ...(others === 0
      ? []
      : [text(`${rate(others, seconds)} messages a second on topics that are not listed`)]),
  ];
}

/** How many look at a set of counts. */
const lookers = new WeakMap<TopicCounts, number>();

async function clientRows(
  { core }: AdminTarget,
  before: ReadonlyMap<Session, Seen>,
  by: string,
  limit: number,
): Promise<Row[]> {
  const key = ({ received, sent, waiting, dropped }: Row): number =>
    by === "queue" ? waiting : by === "drops" ? dropped : received + sent;
  let rows: Row[] = [];
  const trim = (): void => {
    rows = rows.sort((a, b) => key(b) - key(a)).slice(0, limit);
  };
  for await (const session of inSlices(core.manager.sessions())) {
    const { published = 0, sent = 0 } = before.get(session) ?? {};
    const { queue } = session.out;
    const row: Row = {
      session,
      received: session.published - published,
      sent: session.out.sent - sent,
      waiting: queue.size,
      dropped: queue.droppedTotal,
    };
    if (key(row) === 0) continue;
    rows.push(row);
    if (rows.length > limit + 1000) trim();
  }
  trim();
  return rows;
}

function clientTable(rows: readonly Row[], seconds: number): Element {
  return table(
    [
      ...["client_id", "mountpoint", "peer_host", "received/s", "sent/s"],
      ...["waiting", "in_flight", "dropped"],
    ],
    rows.map(({ session, received, sent, waiting, dropped }): Cell[] => [
      session.clientId,
      session.mount.name,
      session.transport.peer.address,
      rate(received, seconds),
      rate(sent, seconds),
      waiting,
      session.out.inflight.count,
      dropped,
    ]),
  );
}

function rate(count: number, seconds: number): number {
  return Math.round((count / seconds) * 10) / 10;
}

function wait(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      done();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end);
    if (signal.aborted) end();
  });
}
