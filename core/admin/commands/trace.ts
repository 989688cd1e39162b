import { type Command, flagInt, flagValue, isPositiveInt } from "../command.ts";
import { alert, DONE } from "../elements.ts";
import type { AdminTarget } from "../target.ts";
import { Trace } from "../trace.ts";

/** More of a payload is no use on a terminal. */
const PAYLOAD_MAX = 65_536;

/** `vmq-admin trace ...` */
export function traceCommands({ core }: AdminTarget): Command[] {
  let running: Trace | undefined;
  return [
    {
      path: ["trace", "client"],
      help: "shows packets and hook calls of one client until it is interrupted",
      details: [
        "Each plugin of a chain is shown with its answer and the time it took. Passwords are never",
        "shown. One trace at a time; more packets and calls than --rate-max end it.",
      ].join("\n"),
      args: [{ name: "client-id", value: "ClientId", isRequired: true, help: "the client" }],
      flags: [
        { name: "mountpoint", value: "Mountpoint", help: "mountpoint of its listener" },
        {
          name: "rate-max",
          value: "Number",
          help: "packets and calls within the interval, 10 by default",
          isValid: isPositiveInt,
        },
        {
          name: "rate-interval",
          value: "Milliseconds",
          help: "the interval, 100 by default",
          isValid: isPositiveInt,
        },
        {
          name: "trunc-payload",
          value: "Bytes",
          help: "bytes of a payload that are shown, 200 by default",
          isValid: (value) => /^\d{1,5}$/.test(value) && Number(value) <= PAYLOAD_MAX,
        },
      ],
      isEndless: true,
      run: async (call) => {
        if (running !== undefined) {
          return [alert("Cannot start trace as another trace is already running.")];
        }
        const trace = new Trace(core, {
          clientId: call.args.get("client-id") ?? "",
          mountpoint: flagValue(call, "mountpoint") ?? "",
          rateMax: flagInt(call, "rate-max", 10),
          rateIntervalMs: flagInt(call, "rate-interval", 100),
          payloadMax: flagInt(call, "trunc-payload", 200),
          say: call.say,
        });
        running = trace;
        const stop = (): void => trace.end();
        call.signal.addEventListener("abort", stop);
        try {
          trace.start();
          if (call.signal.aborted) stop();
          await trace.over;
        } finally {
          call.signal.removeEventListener("abort", stop);
          running = undefined;
        }
        return [];
      },
    },
    {
      path: ["trace", "stop_all"],
      help: "ends a trace that somebody runs",
      run: () => {
        running?.end("Trace terminated by external action.");
        return DONE;
      },
    },
  ];
}
