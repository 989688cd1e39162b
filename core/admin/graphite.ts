import { connect, type Socket } from "node:net";
import type { Config } from "../config/types.ts";
import type { Logger } from "../logger.ts";
import {
  collectHistograms,
  collectSeries,
  histogramPoints,
  type MetricSources,
} from "./metrics.ts";

/** After a connection could not be made, as VerneMQ. */
const RETRY_MS = 5000;
/** A server that does not read: rounds are left out until it does. */
const UNREAD_BYTES_MAX = 1024 * 1024;

export interface GraphiteParts {
  readonly config: Config;
  readonly log: Logger;
  sources(): MetricSources;
}

export interface GraphiteFormat {
  /** `graphite_api_key` and `graphite_prefix`, empty = none. */
  readonly apiKey: string;
  readonly prefix: string;
  /** `graphite_include_labels`. */
  readonly withLabels: boolean;
  /** Seconds since 1970. */
  readonly atS: number;
}

/** One round in Graphite's plain text protocol: `path value seconds` a line. */
function graphiteLines(sources: MetricSources, format: GraphiteFormat): string {
  const { apiKey, prefix, withLabels, atS } = format;
  const start = [apiKey, prefix].filter((part) => part !== "").map((part) => `${part}.`);
  let lines = "";
  const add = (name: string, labels: Readonly<Record<string, string>>, value: number): void => {
    const path = `${start.join("")}${name.replaceAll("_", ".")}`;
    const end = ` ${Math.round(value)} ${atS}\n`;
    lines += path + end;
    if (!withLabels) return;
    for (const [label, text] of Object.entries(labels))
      lines += `${path}.${label}_${safe(text)}${end}`;
  };
  for (const { name, labels, value } of collectSeries(sources)) add(name, labels, value);
  for (const { name, labels, histogram } of collectHistograms(sources)) {
    for (const [suffix, value] of histogramPoints(histogram))
      add(`${name}_${suffix}`, labels, value);
  }
  return lines;
}

/** Dots would be levels, blanks would end the path. */
function safe(text: string): string {
  return text.replace(/[^\w-]/g, "_");
}

/**
 * Sends the metrics to a Graphite server every `graphite_interval`, over one connection that is made
 * again when it breaks. Settings that can change while the broker runs are read in each round.
 */
export class GraphiteExporter {
  private readonly parts: GraphiteParts;
  private socket: Socket | undefined;
  private timer: NodeJS.Timeout | undefined;
  /** Where the connection goes. */
  private place = "";
  private isStopped = false;

  constructor(parts: GraphiteParts) {
    this.parts = parts;
  }

  start(): void {
    this.parts.config.onChange((key) => {
      if (key.startsWith("graphite_")) this.settle();
    });
    this.settle();
  }

  stop(): void {
    this.isStopped = true;
    this.close();
  }

  /** Connects, or makes a new connection where the settings want another one. */
  private settle(): void {
    const { config } = this.parts;
    if (this.isStopped) return;
    const host = config.text("graphite_host");
    const place = config.flag("graphite_enabled") ? `${host}:${config.int("graphite_port")}` : "";
    if (place === this.place) return;
    this.close();
    this.place = place;
    if (place !== "") this.connect();
  }

  private close(): void {
    clearTimeout(this.timer);
    this.socket?.destroy();
    this.socket = undefined;
    this.place = "";
  }

  private connect(): void {
    const { config, log } = this.parts;
    const socket = connect({
      host: config.text("graphite_host"),
      port: config.int("graphite_port"),
    });
    this.socket = socket;
    let isConnected = false;
    socket.unref();
    socket.setTimeout(config.int("graphite_connect_timeout"), () => {
      if (!isConnected) socket.destroy(new Error("no answer within graphite_connect_timeout"));
    });
    socket.once("connect", () => {
      isConnected = true;
      socket.setTimeout(0);
      log.info("connected to Graphite", { server: this.place });
      this.plan();
    });
    // Nothing comes from Graphite; reading it away notices the end of the connection.
    socket.resume();
    let failure = "the server closed the connection";
    socket.on("error", (error) => {
      failure = error.message;
    });
    socket.once("close", () => {
      if (this.socket !== socket) return;
      this.socket = undefined;
      clearTimeout(this.timer);
      const waitMs = isConnected ? config.int("graphite_reconnect_timeout") : RETRY_MS;
      log.limited("graphite", 1).error("no connection to Graphite", {
        server: this.place,
        cause: failure,
        next_try_ms: waitMs,
        hint: "check graphite_host and graphite_port; the metrics of this time are not sent",
      });
      this.timer = setTimeout(() => this.connect(), waitMs).unref();
    });
  }

  private plan(): void {
    const { config } = this.parts;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(), config.int("graphite_interval")).unref();
  }

  private send(): void {
    const { config, log, sources } = this.parts;
    const { socket } = this;
    if (socket === undefined) return;
    if (socket.writableLength > UNREAD_BYTES_MAX) {
      log.limited("graphite slow", 1).warn("Graphite does not read, a round is left out");
    } else {
      const lines = graphiteLines(sources(), {
        apiKey: config.text("graphite_api_key"),
        prefix: config.text("graphite_prefix"),
        withLabels: config.flag("graphite_include_labels"),
        atS: Math.floor(Date.now() / 1000),
      });
      socket.write(lines);
    }
    this.plan();
  }
}
