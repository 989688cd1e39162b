/** Where lines of a log go. No call waits or throws. */
export interface LogSink {
  /** A whole line with its end; `level` as pino numbers it. */
  write(line: string, level: number): void;
  /** Writes what waits; the process may end afterwards. */
  close(): Promise<void>;
  /** Writes what waits at once, where that is possible. */
  flushSync?(): void;
  /** After a file was renamed: what waits goes to it, later lines to a new one of the old name. */
  reopen?(): void;
  /** A line past everything that waits: the process ends right afterwards. */
  writeNow?(line: string): void;
}

/** A log of its own level: VerneMQ's names are console, consolefile, default, crash and syslog. */
export interface LogHandler {
  readonly name: string;
  readonly type: "standard_io" | "file" | "syslog";
  readonly file?: string;
  readonly level: LogLevel;
  readonly format: "text" | "simple" | "json" | "tty";
  readonly sink: LogSink;
  /** Takes faults of the broker only, whatever its level. */
  readonly isForFaults?: boolean;
}

/** A handler as `log show config` lists it. */
export interface HandlerInfo {
  readonly name: string;
  readonly level: LogLevel;
  readonly type: string;
  readonly file: string;
}

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

/** pino's numbers; syslog's finer levels are folded into them. */
export const LEVEL_NUMBERS: Readonly<Record<LogLevel, number>> = {
  debug: 20,
  info: 30,
  notice: 30,
  warn: 40,
  warning: 40,
  error: 50,
  critical: 60,
  alert: 60,
  emergency: 60,
  silent: Number.POSITIVE_INFINITY,
};
