import { resolve } from "node:path";
import type { Config } from "../config/types.ts";
import { Batched } from "./batched.ts";
import { CrashFile } from "./crash-file.ts";
import { LogFile } from "./log-file.ts";
import { Syslog } from "./syslog.ts";
import { LEVEL_NUMBERS, type LogHandler, type LogLevel, type LogSink } from "./types.ts";

/**
 * The logs that a configuration asks for. Differs from VerneMQ: without `log.console` lines go to the
 * standard output, and a start without a file writes no log files.
 */
export function configuredHandlers(config: Config, console: LogSink): LogHandler[] {
  const handlers: LogHandler[] = [];
  const overall = levelOf(config.text("log.level"));
  const least = (level: LogLevel): LogLevel =>
    LEVEL_NUMBERS[level] < LEVEL_NUMBERS[overall] ? overall : level;
  const level = least(levelOf(config.text("log.console.level")));
  const place = config.isWritten("log.console") ? config.text("log.console") : "console";
  if (place === "console" || place === "both") {
    const isJson = config.text("log.console.console.format") === "json";
    const format = isJson ? "json" : process.stdout.isTTY ? "tty" : textFormat(config);
    handlers.push({ name: "console", type: "standard_io", level, format, sink: console });
  }
  if (place === "file" || place === "both") {
    handlers.push(fileHandler(config, "consolefile", "log.console", level));
  }
  const isPlainStart = config.isFirstRun && !config.isWritten("log.error");
  if (config.flag("log.error") && !isPlainStart) {
    handlers.push(fileHandler(config, "default", "log.error", least("error")));
  }
  if (config.flag("log.crash")) {
    const options = fileOptions(config, "log.crash");
    handlers.push({
      name: "crash",
      type: "file",
      file: options.file,
      level: "critical",
      format: textFormat(config),
      sink: new CrashFile(options),
      isForFaults: true,
    });
  }
  if (config.flag("log.syslog")) {
    handlers.push({
      name: "syslog",
      type: "syslog",
      level: least(levelOf(config.text("log.syslog.level"))),
      format: "simple",
      sink: new Syslog(syslogOptions(config)),
    });
  }
  return handlers;
}

function fileHandler(config: Config, name: string, key: string, level: LogLevel): LogHandler {
  const isJson = config.text(`${key}.file.format`) === "json";
  const options = fileOptions(config, key);
  return {
    name,
    type: "file",
    file: options.file,
    level,
    format: isJson ? "json" : textFormat(config),
    sink: new Batched(new LogFile(options)),
  };
}

function fileOptions(config: Config, key: string) {
  const size = config.value(`${key}.rotation.size`);
  return {
    file: resolve(config.cwd, config.text(`${key}.file`)),
    sizeMax: typeof size === "number" ? size : Number.POSITIVE_INFINITY,
    keep: config.int(`${key}.rotation.keep`),
    isCompressed: config.flag(`${key}.rotation.compress_on_rotate`),
  };
}

function syslogOptions(config: Config) {
  const host = config.text("log.syslog.remote.host");
  const options = {
    format: config.text("log.syslog.format") as "rfc3164" | "rfc5424",
    facility: config.text("log.syslog.facility"),
    appName: config.text("log.syslog.app_name") || "vernemq",
  };
  if (host === "") return options;
  const remote = {
    host,
    port: config.int("log.syslog.remote.port"),
    protocol: config.text("log.syslog.remote.protocol") as "udp" | "tcp" | "tls",
    cafile: resolve(config.cwd, config.text("log.syslog.remote.tls.cafile")),
  };
  return { ...options, remote };
}

function textFormat(config: Config): "text" | "simple" {
  return config.text("log.template") === "simple" ? "simple" : "text";
}

function levelOf(text: string): LogLevel {
  if (text === "all") return "debug";
  return text in LEVEL_NUMBERS ? (text as LogLevel) : "info";
}
