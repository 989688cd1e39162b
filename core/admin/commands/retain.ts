import { matches } from "../../mqtt/topics.ts";
import { type Command, flagValue } from "../command.ts";
import { alert, type Cell, DONE, table } from "../elements.ts";
import {
  cellsOf,
  FIELD_DETAILS,
  fieldFlags,
  inSlices,
  isSelected,
  type SpecialFilter,
  selectionOf,
} from "../fields.ts";
import type { AdminTarget } from "../target.ts";

const FIELDS = {
  topic: "topic; a filter may have wildcards",
  payload: "payload as text",
  mountpoint: "mountpoint, by default the empty one",
};

const DEFAULT_COLUMNS = ["payload", "topic"];

/** Differs from VerneMQ: a filter with wildcards finds what it matches. */
const wildcards: SpecialFilter = (field, value) =>
  field === "topic" && /[+#]/.test(value) && !value.startsWith("~")
    ? (cell) => typeof cell === "string" && matches(value, cell)
    : undefined;

/** `vmq-admin retain ...` */
export function retainCommands({ core }: AdminTarget): Command[] {
  const { retained } = core.router;
  return [
    {
      path: ["retain", "show"],
      help: "shows retained messages",
      details: FIELD_DETAILS,
      flags: fieldFlags(FIELDS),
      check: (call) => void selectionOf(call, DEFAULT_COLUMNS, wildcards),
      run: async (call) => {
        const mountpoint = flagValue(call, "mountpoint") ?? "";
        const selection = selectionOf(call, DEFAULT_COLUMNS, wildcards);
        const rows: Cell[][] = [];
        for await (const { topic, payload } of inSlices(retained.list(mountpoint))) {
          const row = { topic, payload: payload.toString("utf8"), mountpoint };
          if (!isSelected(row, selection.filters)) continue;
          rows.push(cellsOf(selection, row));
          if (rows.length >= selection.limit) break;
        }
        return [table(selection.columns, rows)];
      },
    },
    {
      path: ["retain", "delete"],
      help: "deletes one retained message",
      flags: [
        { name: "topic", short: "t", value: "Topic", help: "its topic, without wildcards" },
        { name: "mountpoint", short: "m", value: "Mountpoint", help: FIELDS.mountpoint },
      ],
      run: (call) => {
        const topic = flagValue(call, "topic");
        if (topic === undefined) return [alert("No valid topic given.")];
        retained.delete(flagValue(call, "mountpoint") ?? "", topic);
        return DONE;
      },
    },
    {
      path: ["retain", "delete-expired"],
      help: "deletes the retained messages whose expiry has passed",
      run: () => [table(["expired"], [[retained.dropExpired(core.wallMs())]])],
    },
  ];
}
