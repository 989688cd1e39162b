import { LEVEL_NUMBERS, type LogLevel } from "../../logging/types.ts";
import type { Command } from "../command.ts";
import { alert, DONE, table } from "../elements.ts";
import type { AdminTarget } from "../target.ts";

/** Levels as VerneMQ names them; `all` and `none` are its words for the ends. */
const LEVELS: readonly string[] = [
  ...["all", "debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"],
  "none",
];

/** `vmq-admin log ...` */
export function logCommands({ logs }: AdminTarget): Command[] {
  return [
    {
      path: ["log", "show", "config"],
      help: "shows the logs with level and file",
      run: () => [
        table(
          ["logger", "level", "type", "file"],
          logs.handlers().map(({ name, level, type, file }) => [name, shown(level), type, file]),
        ),
      ],
    },
    {
      path: ["log", "level"],
      help: "changes the level of a log, until the next restart",
      args: [
        {
          name: "logger",
          value: "console|consolefile|default|syslog",
          isRequired: true,
          help: "the log; default is the error file",
        },
        {
          name: "level",
          value: LEVELS.join("|"),
          isRequired: true,
          help: "lowest level that is written",
          isValid: (value) => LEVELS.includes(value),
        },
      ],
      run: ({ args }) => {
        const name = args.get("logger") ?? "";
        if (logs.setHandlerLevel(name, levelOf(args.get("level") ?? ""))) return DONE;
        const names = logs.handlers().map((one) => one.name);
        return [alert(`there is no log ${name}; there are ${names.join(", ") || "none"}`)];
      },
    },
  ];
}

function levelOf(text: string): LogLevel {
  if (text === "all") return "debug";
  if (text === "none") return "silent";
  return text in LEVEL_NUMBERS ? (text as LogLevel) : "info";
}

function shown(level: LogLevel): string {
  if (level === "silent") return "none";
  return level === "warn" ? "warning" : level;
}
