import { type DestinationStream, destination, type Logger as Pino, pino } from "pino";

/** Levels of `log.console.level` and the shorter names of pino; `silent` logs nothing. */
export type LogLevel =
  | "silent"
  | "debug"
  | "info"
  | "notice"
  | "warn"
  | "warning"
  | "error"
  | "critical"
  | "alert"
  | "emergency";

/** Facts beside the message. Bytes are shown as their number, never as content. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Structured logging. No call waits for the line to be written, and none throws. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
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

export interface LoggerOptions {
  readonly level: LogLevel;
  /** `json`: one object a line; `text`: `time level message key=value`; `tty`: short and coloured. */
  readonly format?: "text" | "json" | "tty";
  /** Default: standard output, without waiting for it. */
  readonly destination?: { write(line: string): void; flushSync?(): void };
  /** Milliseconds since 1970, for tests. */
  readonly now?: () => number;
}

/** pino's levels; syslog's finer ones are folded into them. */
const PINO_LEVELS: Readonly<Record<LogLevel, string>> = {
  silent: "silent",
  debug: "debug",
  info: "info",
  notice: "info",
  warn: "warn",
  warning: "warn",
  error: "error",
  critical: "fatal",
  alert: "fatal",
  emergency: "fatal",
};

/** Bytes that may wait for a slow terminal or pipe; more lines are dropped. */
const WAITING_BYTES_MAX = 1024 * 1024;
/** Longest text of one field; longer ones are cut. */
const FIELD_CHARS_MAX = 1000;
/** Keys of `limited` are few; this only bounds a mistake. */
const LIMITED_KEYS_MAX = 1000;
/** Fields that never leave the process, whoever logs them. */
const SECRET_FIELDS = ["payload", "password"];

interface Shared {
  readonly pino: Pino;
  readonly now: () => number;
  readonly windows: Map<string, Window>;
  readonly flush: () => void;
}

/** Lines under one key in the running second. */
interface Window {
  startMs: number;
  written: number;
  suppressed: number;
}

/** A logger for the whole process; parts get a `child`. */
export function createLogger(options: LoggerOptions): Logger {
  const format = options.format ?? (process.stdout.isTTY ? "tty" : "text");
  const now = options.now ?? Date.now;
  const out =
    options.destination ??
    destination({ dest: 1, sync: false, minLength: 0, maxLength: WAITING_BYTES_MAX });
  const sink: DestinationStream =
    format === "json" ? out : { write: (line) => out.write(textLine(line, format)) };
  const root = pino(
    {
      level: PINO_LEVELS[options.level],
      base: null,
      messageKey: "msg",
      // As VerneMQ's JSON lines: microseconds since 1970.
      timestamp: () => `,"time":${now() * 1000}`,
      formatters: { level: (label) => ({ level: label === "warn" ? "warning" : label }) },
    },
    sink,
  );
  const flush = () => {
    try {
      out.flushSync?.();
    } catch {
      // The reader of the log is gone; there is nobody left to tell.
    }
  };
  return facade({ pino: root, now, windows: new Map(), flush }, root, undefined);
}

/** A logger that writes nothing. */
export function silentLogger(): Logger {
  return createLogger({ level: "silent", destination: { write: () => undefined } });
}

function facade(
  shared: Shared,
  target: Pino,
  limit: { key: string; perS: number } | undefined,
): Logger {
  function write(level: "debug" | "info" | "warn" | "error", text: string, fields?: LogFields) {
    if (!target.isLevelEnabled(level)) return;
    const suppressed = limit === undefined ? 0 : admit(shared, limit.key, limit.perS);
    if (suppressed === undefined) return;
    const clean = fields === undefined ? {} : cleanFields(fields);
    if (suppressed > 0) clean.suppressed = suppressed;
    target[level](clean, text.replace(/\s*\r?\n\s*/g, ", "));
  }
  return {
    debug: (message, fields) => write("debug", message, fields),
    info: (message, fields) => write("info", message, fields),
    warn: (message, fields) => write("warn", message, fields),
    error: (message, fields) => write("error", message, fields),
    child: (fields) => facade(shared, target.child(cleanFields(fields)), limit),
    limited: (key, perS) => facade(shared, target, { key, perS }),
    isEnabled: (level) => target.isLevelEnabled(level),
    setLevel: (level) => {
      target.level = PINO_LEVELS[level];
    },
    flush: shared.flush,
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

/** Objects within objects are followed so far; below, only their kind is shown. */
const FIELD_DEPTH_MAX = 3;

function cleanFields(fields: LogFields, depth = 0): Record<string, unknown> {
  const clean: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined || SECRET_FIELDS.includes(key)) continue;
    clean[key] = cleanField(value, depth);
  }
  return clean;
}

function cleanField(value: unknown, depth: number): unknown {
  if (value instanceof Uint8Array) return `<${value.length} bytes>`;
  if (value instanceof Error) return value.message;
  if (typeof value === "bigint") return String(value);
  if (typeof value === "string" && value.length > FIELD_CHARS_MAX) {
    return `${value.slice(0, FIELD_CHARS_MAX)}…`;
  }
  if (typeof value === "object" && value !== null) {
    if (depth >= FIELD_DEPTH_MAX) return Array.isArray(value) ? "[…]" : "{…}";
    return Array.isArray(value)
      ? value.slice(0, FIELD_CHARS_MAX).map((item) => cleanField(item, depth + 1))
      : cleanFields({ ...value }, depth + 1);
  }
  return value;
}

/** One JSON line of pino as text. */
function textLine(json: string, format: "text" | "tty"): string {
  const { level, time, msg, ...fields }: Record<string, unknown> = JSON.parse(json);
  const iso = new Date(Number(time) / 1000).toISOString();
  const facts = Object.entries(fields)
    .map(([key, value]) => ` ${key}=${fieldText(value)}`)
    .join("");
  return format === "tty"
    ? `${iso.slice(11, 23)} ${coloured(String(level))} ${String(msg)}\u001b[2m${facts}\u001b[0m\n`
    : `${iso} ${String(level)} ${String(msg)}${facts}\n`;
}

function fieldText(value: unknown): string {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return /[\s"=\p{Cc}]|^$/u.test(text) ? JSON.stringify(text) : text;
}

function coloured(level: string): string {
  const colour = level === "error" || level === "fatal" ? 31 : level === "warning" ? 33 : 32;
  return `\u001b[${colour}m${level.padEnd(7)}\u001b[0m`;
}
