import { type ChildProcess, spawn } from "node:child_process";
import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { hostname } from "node:os";
import { connect as connectTls } from "node:tls";
import { errorMessage } from "../errors.ts";
import type { LogSink } from "./types.ts";

export interface SyslogOptions {
  /** `log.syslog.format`. */
  readonly format: "rfc3164" | "rfc5424";
  /** `log.syslog.facility`. */
  readonly facility: string;
  /** `log.syslog.app_name`. */
  readonly appName: string;
  /** Undefined = this machine's syslog, by `logger`. */
  readonly remote?: {
    readonly host: string;
    readonly port: number;
    readonly protocol: "udp" | "tcp" | "tls";
    readonly cafile: string;
  };
  /** Socket of the local syslog, for tests. */
  readonly socket?: string;
}

/** RFC 5424, table 1; VerneMQ has two names for some. */
const FACILITIES: Readonly<Record<string, number>> = {
  kern: 0,
  kernel: 0,
  user: 1,
  mail: 2,
  daemon: 3,
  auth: 4,
  syslog: 5,
  lpr: 6,
  news: 7,
  uucp: 8,
  cron: 9,
  authpriv: 10,
  ftp: 11,
  ntp: 12,
  logaudit: 13,
  logalert: 14,
  clock: 15,
};

const LOCAL0 = 16;
const WAITING_BYTES_MAX = 1024 * 1024;
const RETRY_MS = 5000;
/** A datagram above this may not arrive (RFC 5426, 3.2 asks for 2048 bytes at least). */
const DATAGRAM_BYTES_MAX = 8192;
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/** `<number>` in front of a message: facility and severity. */
export function priority(facility: string, level: number): number {
  const local = /^local([0-7])$/.exec(facility)?.[1];
  const number = local === undefined ? (FACILITIES[facility] ?? 3) : LOCAL0 + Number(local);
  const severity = level >= 60 ? 2 : level >= 50 ? 3 : level >= 40 ? 4 : level >= 30 ? 6 : 7;
  return number * 8 + severity;
}

/** One message as it is sent, without framing. */
function syslogMessage(
  line: string,
  level: number,
  { format, facility, appName }: SyslogOptions,
  atMs = Date.now(),
): string {
  const text = line.replace(/\n$/, "");
  const head = `<${priority(facility, level)}>`;
  const at = new Date(atMs);
  if (format === "rfc5424") {
    return `${head}1 ${at.toISOString()} ${hostname()} ${appName} ${process.pid} - - ${text}`;
  }
  const day = String(at.getDate()).padStart(2, " ");
  const clock = at.toTimeString().slice(0, 8);
  return `${head}${MONTHS[at.getMonth()]} ${day} ${clock} ${hostname()} ${appName}[${process.pid}]: ${text}`;
}

/** What takes messages; made again when it breaks. */
interface Way {
  send(message: Buffer): void;
  /** Bytes that wait. */
  readonly waiting: number;
  close(): Promise<void>;
}

/** Sends lines to syslog: by `logger` on this machine, or to a server over UDP, TCP or TLS. */
export class Syslog implements LogSink {
  private readonly options: SyslogOptions;
  private way: Way | undefined;
  private nextTryMs = 0;
  private lost = 0;
  private isClosed = false;

  constructor(options: SyslogOptions) {
    this.options = options;
  }

  write(line: string, level: number): void {
    if (this.isClosed) return;
    const way = this.way ?? this.open();
    if (way === undefined || way.waiting > WAITING_BYTES_MAX) {
      this.lost++;
      return;
    }
    if (this.lost > 0) {
      const text = `${this.lost} lines before this one could not be sent`;
      this.lost = 0;
      this.send(way, text, 40);
    }
    this.send(way, line, level);
  }

  async close(): Promise<void> {
    const { way } = this;
    this.isClosed = true;
    this.way = undefined;
    await way?.close();
  }

  private send(way: Way, line: string, level: number): void {
    const { remote, facility } = this.options;
    if (remote === undefined) {
      way.send(Buffer.from(`<${priority(facility, level)}>${line.replace(/\n$/, "")}\n`));
      return;
    }
    const message = Buffer.from(syslogMessage(line, level, this.options));
    way.send(message);
  }

  private open(): Way | undefined {
    if (Date.now() < this.nextTryMs) return undefined;
    let isBroken = false;
    const failed = (reason: string): void => {
      if (isBroken || this.isClosed) return;
      isBroken = true;
      this.way = undefined;
      this.nextTryMs = Date.now() + RETRY_MS;
      process.stderr.write(`syslog cannot be reached: ${reason}\n`);
    };
    try {
      this.way = this.make(failed);
    } catch (error) {
      // The file with the certificates of the server cannot be read.
      failed(errorMessage(error));
    }
    return this.way;
  }

  private make(failed: Failed): Way {
    const { remote, appName, socket, format } = this.options;
    if (remote === undefined) return localWay(appName, socket, failed);
    if (remote.protocol === "udp") return udpWay(remote, failed);
    return streamWay(remote, format === "rfc5424", failed);
  }
}

type Failed = (reason: string) => void;

/** Node has no datagram sockets in the file system, which the local syslog listens on; `logger` does. */
function localWay(appName: string, socket: string | undefined, failed: Failed): Way {
  const place = socket === undefined ? [] : ["--socket", socket];
  const child: ChildProcess = spawn("logger", ["--prio-prefix", "--tag", appName, ...place], {
    stdio: ["pipe", "ignore", "ignore"],
  });
  child.on("error", (error) => failed(`logger: ${error.message}`));
  child.on("exit", (code) => failed(`logger ended with ${code}`));
  child.stdin?.on("error", (error) => failed(`logger: ${error.message}`));
  child.unref();
  return {
    send: (message) => void child.stdin?.write(message),
    get waiting() {
      return child.stdin?.writableLength ?? 0;
    },
    close: () =>
      new Promise((done) => {
        if (child.exitCode !== null || child.stdin === null) return done();
        const timer = setTimeout(done, 1000);
        child.once("exit", () => {
          clearTimeout(timer);
          done();
        });
        child.stdin.end();
      }),
  };
}

function udpWay({ host, port }: { host: string; port: number }, failed: Failed): Way {
  const socket: UdpSocket = createSocket(host.includes(":") ? "udp6" : "udp4");
  let waiting = 0;
  let isOpen = true;
  const end = (reason: string): void => {
    if (isOpen) socket.close();
    isOpen = false;
    failed(reason);
  };
  socket.unref();
  socket.on("error", (error) => end(error.message));
  return {
    send: (message) => {
      const datagram = message.subarray(0, DATAGRAM_BYTES_MAX);
      waiting += datagram.length;
      socket.send(datagram, port, host, (error) => {
        waiting -= datagram.length;
        if (error !== null) end(error.message);
      });
    },
    get waiting() {
      return waiting;
    },
    close: () =>
      new Promise((done) => {
        if (!isOpen) return done();
        isOpen = false;
        socket.close(() => done());
      }),
  };
}

/** RFC 6587: lengths in front of messages of the new format, line ends behind those of the old one. */
function streamWay(
  {
    host,
    port,
    protocol,
    cafile,
  }: { host: string; port: number; protocol: string; cafile: string },
  isCounted: boolean,
  failed: Failed,
): Way {
  const socket: Socket =
    protocol === "tls"
      ? connectTls({ host, port, ca: readFileSync(cafile), servername: serverName(host) })
      : connect({ host, port });
  let reason = "the server closed the connection";
  socket.unref();
  socket.resume();
  socket.on("error", (error) => {
    reason = error.message;
  });
  socket.on("close", () => failed(reason));
  return {
    send: (message) => {
      socket.write(isCounted ? `${message.length} ` : "");
      socket.write(message);
      if (!isCounted) socket.write("\n");
    },
    get waiting() {
      return socket.writableLength;
    },
    close: () =>
      new Promise((done) => {
        if (socket.destroyed) return done();
        const timer = setTimeout(done, 1000);
        socket.once("close", () => {
          clearTimeout(timer);
          done();
        });
        socket.end();
      }),
  };
}

/** An address is no name of a server. */
function serverName(host: string): string {
  return /^[\d.]+$|:/.test(host) ? "" : host;
}
