import { BadCommand, type Call, flagValue, isPositiveInt, type Parameter } from "./command.ts";
import type { Cell } from "./elements.ts";

/** Columns and filters of `session show` and `retain show`. */
export interface Selection {
  readonly columns: readonly string[];
  /** Every field that is shown or filtered by. */
  readonly needed: ReadonlySet<string>;
  readonly limit: number;
  readonly rowTimeoutMs: number;
  readonly filters: readonly Filter[];
}

export interface Filter {
  readonly field: string;
  readonly matches: (cell: Cell) => boolean;
}

const LIMIT_DEFAULT = 100;
const ROW_TIMEOUT_MS = 100;

/** Flags for a set of fields, with `--limit` and `--rowtimeout`. */
export function fieldFlags(fields: Readonly<Record<string, string>>): Parameter[] {
  return [
    ...Object.entries(fields).map(
      ([name, help]): Parameter => ({ name, value: "Value", isValueOptional: true, help }),
    ),
    {
      name: "limit",
      value: "NumberOfResults",
      help: `rows at most, ${LIMIT_DEFAULT} by default`,
      isValid: isPositiveInt,
    },
    {
      name: "rowtimeout",
      value: "NumberOfMilliseconds",
      help: `a row that takes longer is left out, ${ROW_TIMEOUT_MS} by default`,
      isValid: isPositiveInt,
    },
  ];
}

/** What `fieldFlags` do, for the help. */
export const FIELD_DETAILS = [
  "--field shows a column, --field=value shows only rows with that value, --field=~regex only rows",
  "whose text matches the expression. All of them must match. Without a column that is asked for,",
  "the usual ones are shown.",
].join("\n");

/** A comparison of its own for some values of a field. */
export type SpecialFilter = (field: string, value: string) => Filter["matches"] | undefined;

/** Columns in alphabetical order; without any the defaults. */
export function selectionOf(
  call: Call,
  defaults: readonly string[],
  special?: SpecialFilter,
): Selection {
  const shown = new Set<string>();
  const needed = new Set<string>();
  const filters: Filter[] = [];
  for (const { name, value } of call.flags) {
    if (name === "limit" || name === "rowtimeout") continue;
    needed.add(name);
    if (value === undefined) shown.add(name);
    else {
      filters.push({ field: name, matches: special?.(name, value) ?? filterOf(name, value) });
    }
  }
  const columns = shown.size === 0 ? [...defaults] : [...shown].sort();
  for (const column of columns) needed.add(column);
  return {
    columns,
    needed,
    filters,
    limit: Number(flagValue(call, "limit") ?? LIMIT_DEFAULT),
    rowTimeoutMs: Number(flagValue(call, "rowtimeout") ?? ROW_TIMEOUT_MS),
  };
}

/** Differs from VerneMQ: a text that looks like a number can be compared with, too. */
function filterOf(field: string, value: string): (cell: Cell) => boolean {
  if (!value.startsWith("~")) {
    return (cell) => String(cell) === value || (value === "undefined" && cell === null);
  }
  let pattern: RegExp;
  try {
    pattern = new RegExp(value.slice(1));
  } catch {
    throw new BadCommand(`Invalid value: ${JSON.stringify(value)} for flag: ${field}`);
  }
  return (cell) => typeof cell === "string" && pattern.test(cell);
}

/** A row by field name. */
export type Row = Readonly<Record<string, Cell>>;

export function isSelected(row: Row, filters: readonly Filter[]): boolean {
  return filters.every(({ field, matches }) => matches(row[field]));
}

/** What of a row a selection shows. */
export function cellsOf({ columns }: Selection, row: Row): Cell[] {
  return columns.map((column) => row[column]);
}

/** Work in front of the event loop at a time: clients wait no longer than this for an operator. */
const SLICE_MS = 5;
/** The clock is looked at once in so many items. */
const SLICE_ITEMS = 64;

/** Goes through many items in slices, so that everybody else has their turn in between. */
export async function* inSlices<T>(items: Iterable<T>): AsyncGenerator<T, void, undefined> {
  let until = performance.now() + SLICE_MS;
  let count = 0;
  for (const item of items) {
    if (++count % SLICE_ITEMS === 0 && performance.now() > until) {
      await new Promise((resume) => setImmediate(resume));
      until = performance.now() + SLICE_MS;
    }
    yield item;
  }
}
