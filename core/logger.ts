import { destination, type Logger as Pino, pino } from "pino";
import { Batched } from "./logging/batched.ts";
import { textLine } from "./logging/text-line.ts";
import {
  type HandlerInfo,
  LEVEL_NUMBERS,
  type LogHandler,
  type LogLevel,
  type LogSink,
} from "./logging/types.ts";

export type { HandlerInfo, LogHandler, LogLevel, LogSink } from "./logging/types.ts";

/** Facts beside the message. Bytes are shown as their number, never as content. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Structured logging. No call waits for the line to be written, and none throws. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A fault of the broker's own, with the place where it happened: for the crash log too. */
  fault(message: string, error: unknown, fields?: LogFields): void;
  /** A logger that adds fields to each line. */
  child(fields: LogFields): Logger;
  /**
   * A logger that writes at most `perS` lines a second under this key and counts the others; the
   * next line written says how many there were (`suppressed=…`). Keys name places in the code.
   */
  limited(key: string, perS: number): Logger;
  /** True when lines of this level are written, to save the cost of composing them. */
  isEnabled(level: "debug" | "info" | "warn" | "error"): boolean;
  setLevel(level: LogLevel): void;
  /** Writes what waits; for the end of the process. */
  flush(): void;
}

/** The logger of a process, which knows where its lines go. */
export interface RootLogger extends Logger {
  /** Logs with their levels now. */
  handlers(): HandlerInfo[];
  /** Changes the level of one log; false = there is no such log. */
  setHandlerLevel(name: string, level: LogLevel): boolean;
  /** A fault that ends the process: written at once, past everything that waits. */
  lastWords(message: string, error: unknown): void;
  /** Log files that were renamed are left for new ones of the old name. */
  reopen(): void;
  /** Writes what waits and closes files and connections. */
  close(): Promise<void>;
}

export interface LoggerOptions {
  readonly level: LogLevel;
  /** `json`: one object a line; `text`: `time level message key=value`; `tty`: short and coloured. */
  readonly format?: "text" | "json" | "tty";
  /** Default: standard output, without waiting for it. */
  readonly destination?: { write(line: string): void; flushSync?(): void };
  /** Logs with levels and formats of their own, instead of one at `destination`. */
  readonly handlers?: readonly LogHandler[];
  /** Milliseconds since 1970, for tests. */
  readonly now?: () => number;
}

/** Bytes that may wait for a slow terminal or pipe; more lines are dropped. */
const WAITING_BYTES_MAX = 1024 * 1024;
/** Longest text of one field; longer ones are cut. */
const FIELD_CHARS_MAX = 1000;
/** The same of a `cause`, which may hold the places of a fault. */
const CAUSE_CHARS_MAX = 4000;
/** Keys of `limited` are few; this only bounds a mistake. */
const LIMITED_KEYS_MAX = 1000;
/** Fields that never leave the process, whoever logs them. */
const SECRET_FIELDS = ["payload", "password"];

/** A log, with its level as a number. */
interface Log extends Omit<LogHandler, "level"> {
  level: LogLevel;
  least: number;
}

interface Shared {
  readonly now: () => number;
  readonly windows: Map<string, Window>;
  readonly logs: readonly Log[];
  /** Lowest level that some log wants. */
  least: number;
  /** The process ends as soon as this line is written. */
  isEnding: boolean;
}

/** Lines under one key in the running second. */
interface Window {
  startMs: number;
  written: number;
  suppressed: number;
}

/** A logger for the whole process; parts get a `child`. */
export function createLogger(options: LoggerOptions): RootLogger {
  const now = options.now ?? Date.now;
  const logs = (options.handlers ?? [onlyHandler(options)]).map(
    (handler): Log => ({ ...handler, least: leastLevel(handler, handler.level) }),
  );
  const shared: Shared = {
    now,
    windows: new Map(),
    logs,
    least: leastOf(logs),
    isEnding: false,
  };
  const sink = {
    // pino tells the level of a line to a stream with this mark.
    [Symbol.for("pino.metadata")]: true,
    lastLevel: 0,
    write(line: string): void {
      for (const log of logs) {
        if (log.format === "json" && this.lastLevel >= log.least)
          put(shared, log, line, this.lastLevel);
      }
    },
  };
  const root = pino(
    {
      // What no log wants is not even handed to pino.
      level: "debug",
      base: null,
      messageKey: "msg",
      // As VerneMQ's JSON lines: microseconds since 1970.
      timestamp: () => `,"time":${now() * 1000}`,
      formatters: { level: (label) => ({ level: LABELS[label] ?? label }) },
    },
    sink,
  );
  const logger = facade(shared, root, {}, undefined);
  return {
    ...logger,
    lastWords: (message, error) => {
      shared.isEnding = true;
      logger.fault(message, error);
      shared.isEnding = false;
      logger.flush();
    },
    handlers: () =>
      logs.map(({ name, level, type, file }) => ({ name, level, type, file: file ?? "-" })),
    setHandlerLevel: (name, level) => {
      const log = logs.find((one) => one.name === name);
      if (log === undefined) return false;
      setLevel(shared, [log], level);
      return true;
    },
    reopen: () => {
      for (const { sink } of logs) sink.reopen?.();
    },
    close: async () => {
      await Promise.all(logs.map(({ sink }) => sink.close()));
    },
  };
}

function onlyHandler({ format, destination: out, level }: LoggerOptions): LogHandler {
  return {
    name: "console",
    type: "standard_io",
    level,
    format: format ?? (process.stdout.isTTY ? "tty" : "text"),
    sink:
      out === undefined
        ? standardOutput()
        : { ...closing, write: (line) => out.write(line), flushSync: () => out.flushSync?.() },
  };
}

const closing = { close: () => Promise.resolve() };

/** The standard output, without waiting for it. */
export function standardOutput(): LogSink {
  const out = destination({ dest: 1, sync: false, minLength: 0, maxLength: WAITING_BYTES_MAX });
  return new Batched({
    ...closing,
    write: (line) => out.write(line),
    flushSync: () => out.flushSync(),
  });
}

function leastLevel({ isForFaults }: Pick<LogHandler, "isForFaults">, level: LogLevel): number {
  return isForFaults === true
    ? Math.max(LEVEL_NUMBERS.critical, LEVEL_NUMBERS[level])
    : LEVEL_NUMBERS[level];
}

function leastOf(logs: readonly Log[]): number {
  return Math.min(Number.POSITIVE_INFINITY, ...logs.map(({ least }) => least));
}

function setLevel(shared: Shared, logs: readonly Log[], level: LogLevel): void {
  for (const log of logs) {
    log.level = level;
    log.least = leastLevel(log, level);
  }
  shared.least = leastOf(shared.logs);
}

function flush({ logs }: Shared): void {
  for (const { sink } of logs) {
    try {
      sink.flushSync?.();
    } catch {
      // The reader of the log is gone; there is nobody left to tell.
    }
  }
}

type Written = "debug" | "info" | "warn" | "error" | "critical";

function put({ isEnding }: Shared, { sink }: Log, line: string, level: number): void {
  if (isEnding && sink.writeNow !== undefined) sink.writeNow(line);
  else sink.write(line, level);
}

/** JSON lines are pino's; text, which most people read, is composed without them in between. */
function emit(
  shared: Shared,
  target: Pino,
  level: Written,
  message: string,
  fields: readonly [common: Record<string, unknown>, own: Record<string, unknown>],
): void {
  const number = LEVEL_NUMBERS[level];
  const name = level === "critical" ? "fatal" : level;
  let isJson = false;
  for (const log of shared.logs) {
    if (number < log.least) continue;
    if (log.format === "json") isJson = true;
    else {
      const line = textLine(log.format, LABELS[name] ?? name, shared.now(), message, fields);
      put(shared, log, line, number);
    }
  }
  if (isJson) target[name](fields[1], message);
}

function facade(
  shared: Shared,
  target: Pino,
  common: Record<string, unknown>,
  limit: { key: string; perS: number } | undefined,
): Logger {
  function write(level: Written, text: string, fields?: LogFields) {
    if (LEVEL_NUMBERS[level] < shared.least) return;
    const suppressed = limit === undefined ? 0 : admit(shared, limit.key, limit.perS);
    if (suppressed === undefined) return;
    const clean = fields === undefined ? {} : cleanFields(fields);
    if (suppressed > 0) clean.suppressed = suppressed;
    const message = /[\r\n]/.test(text) ? text.replace(/\s*\r?\n\s*/g, ", ") : text;
    emit(shared, target, level, message, [common, clean]);
  }
  return {
    debug: (message, fields) => write("debug", message, fields),
    info: (message, fields) => write("info", message, fields),
    warn: (message, fields) => write("warn", message, fields),
    error: (message, fields) => write("error", message, fields),
    fault: (message, error, fields) => {
      const cause = error instanceof Error ? (error.stack ?? error.message) : String(error);
      write("critical", message, { ...fields, cause });
    },
    child: (fields) => {
      const added = cleanFields(fields);
      return facade(shared, target.child(added), { ...common, ...added }, limit);
    },
    limited: (key, perS) => facade(shared, target, common, { key, perS }),
    isEnabled: (level) => LEVEL_NUMBERS[level] >= shared.least,
    setLevel: (level) => setLevel(shared, shared.logs, level),
    flush: () => flush(shared),
  };
}

/** Lines suppressed before this one, or undefined when this one is suppressed too. */
function admit(shared: Shared, key: string, perS: number): number | undefined {
  const nowMs = shared.now();
  let window = shared.windows.get(key);
  if (window === undefined) {
    if (shared.windows.size >= LIMITED_KEYS_MAX) shared.windows.clear();
    window = { startMs: nowMs, written: 0, suppressed: 0 };
    shared.windows.set(key, window);
  }
  if (nowMs - window.startMs >= 1000 || nowMs < window.startMs) {
    window.startMs = nowMs;
    window.written = 0;
  }
  if (window.written >= perS) {
    window.suppressed += 1;
    return undefined;
  }
  window.written += 1;
  const { suppressed } = window;
  window.suppressed = 0;
  return suppressed;
}

/** What pino calls otherwise than VerneMQ. */
const LABELS: Readonly<Record<string, string>> = { warn: "warning", fatal: "critical" };

/** Objects within objects are followed so far; below, only their kind is shown. */
const FIELD_DEPTH_MAX = 3;

function cleanFields(fields: LogFields, depth = 0): Record<string, unknown> {
  const clean: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined || SECRET_FIELDS.includes(key)) continue;
    clean[key] = cleanField(value, depth, key === "cause" ? CAUSE_CHARS_MAX : FIELD_CHARS_MAX);
  }
  return clean;
}

function cleanField(value: unknown, depth: number, charsMax = FIELD_CHARS_MAX): unknown {
  if (value instanceof Uint8Array) return `<${value.length} bytes>`;
  if (value instanceof Error) return value.message;
  if (typeof value === "bigint") return String(value);
  if (typeof value === "string" && value.length > charsMax) {
    return `${value.slice(0, charsMax)}…`;
  }
  if (typeof value === "object" && value !== null) {
    if (depth >= FIELD_DEPTH_MAX) return Array.isArray(value) ? "[…]" : "{…}";
    return Array.isArray(value)
      ? value.slice(0, FIELD_CHARS_MAX).map((item) => cleanField(item, depth + 1))
      : cleanFields({ ...value }, depth + 1);
  }
  return value;
}
