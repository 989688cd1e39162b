import { createHash } from "node:crypto";
import { chmodSync, lstatSync, rmSync } from "node:fs";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { tmpdir, userInfo } from "node:os";
import { dirname, join, resolve } from "node:path";
import { errorMessage, NautilusError } from "../errors.ts";
import { makeFolder } from "../folder.ts";

/** A command as typed after `vmq-admin`: its first word and the others. */
export interface ControlRequest {
  readonly command: string;
  readonly args: readonly string[];
}

/** What the client prints, and its exit code. */
export interface ControlAnswer {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The way back to the client while a command runs. */
export interface ControlLine {
  /** Sends a text at once. */
  readonly say: (text: string) => void;
  /** Aborted when the client is gone, or does not read what it asked for. */
  readonly signal: AbortSignal;
}

export type ControlHandler = (request: ControlRequest, line: ControlLine) => Promise<ControlAnswer>;

/** How a command is sent. */
export interface SendOptions {
  /** The broker's socket, when it is not the one of the data directory. */
  readonly socket?: string;
  /**
   * Gets the texts of a command that goes on, such as `trace client`, and the first pieces of a long
   * answer; without it all of that is in the answer.
   */
  readonly say?: (text: string) => void;
}

export interface ControlServer {
  readonly path: string;
  /** Stops answering and removes the socket; requests that run get no answer any more. */
  close(): Promise<void>;
}

/** sockaddr_un has room for 108 bytes on Linux and 104 on macOS, the final zero included. */
const SOCKET_PATH_MAX = 100;
/** A command line is far shorter; a client that sends more is cut off. */
const REQUEST_BYTES_MAX = 1024 * 1024;
/** A connection that asks nothing is closed. */
const IDLE_MS = 60_000;
/** Longest piece of an answer. */
const PIECE_CHARS = 256 * 1024;
/** Texts that a client has not read; with more it is cut off. */
const UNREAD_BYTES_MAX = 4 * 1024 * 1024;

/** Where the broker of a data directory listens for commands. */
export function controlSocketPath(dataDir: string): string {
  const path = join(resolve(dataDir), "control.sock");
  if (Buffer.byteLength(path) <= SOCKET_PATH_MAX) return path;
  const hash = createHash("sha256").update(path).digest("hex").slice(0, 16);
  return join(tmpdir(), `nautilus-${userInfo().uid}`, `${hash}.sock`);
}

/**
 * Opens the control socket, for the broker's own user only: whoever reaches it may do everything.
 * The caller holds the pid file of the data directory, so that a socket found there is stale.
 */
export async function startControlServer(
  dataDir: string,
  handler: ControlHandler,
): Promise<ControlServer> {
  const path = controlSocketPath(dataDir);
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    serve(socket, handler);
  });
  try {
    makePrivateFolder(dirname(path), dataDir);
    rmSync(path, { force: true });
    await listenPrivately(server, path);
  } catch (error) {
    const reason = errorMessage(error);
    throw new NautilusError("CONTROL_SOCKET_FAILED", { path, reason }, error);
  }
  return {
    path,
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        for (const socket of sockets) socket.destroy();
      }),
  };
}

/** Sends one command to the broker of a data directory. Throws NODE_NOT_RUNNING when none answers. */
export function sendControl(
  dataDir: string,
  request: ControlRequest,
  options: SendOptions = {},
): Promise<ControlAnswer> {
  return new Promise((answer, fail) => {
    const socket = createConnection(options.socket ?? controlSocketPath(dataDir));
    let received = "";
    let said = "";
    const keep = (text: string): void => {
      said += text;
    };
    const say = options.say ?? keep;
    socket.setEncoding("utf8");
    socket.on("connect", () => socket.write(`${JSON.stringify(request)}\n`));
    socket.on("data", (text: string) => {
      const lines = (received + text).split("\n");
      received = lines.pop() ?? "";
      for (const line of lines) {
        const parsed = readJson(line);
        if (isSaying(parsed)) say(parsed.say);
        else {
          socket.destroy();
          if (isAnswer(parsed)) answer({ ...parsed, stdout: said + parsed.stdout });
          else
            fail(new NautilusError("INTERNAL", { where: "control socket", reason: "no answer" }));
        }
      }
    });
    socket.on("error", (error) => fail(new NautilusError("NODE_NOT_RUNNING", {}, error)));
    // After an answer this changes nothing: the promise is settled.
    socket.on("close", () => fail(new NautilusError("NODE_NOT_RUNNING")));
  });
}

/** The data directory's own folder, or one below the temporary folder that nobody else can use. */
function makePrivateFolder(folder: string, dataDir: string): void {
  makeFolder(folder, 0o700);
  if (folder === resolve(dataDir)) return;
  const { uid, mode } = lstatSync(folder);
  if (uid !== userInfo().uid || (mode & 0o077) !== 0) {
    throw new Error(`${folder} belongs to somebody else or is open to others`);
  }
}

/** A socket gets its rights when it is bound, so that there is no moment with wider ones. */
function listenPrivately(server: Server, path: string): Promise<void> {
  return new Promise((done, fail) => {
    server.once("error", fail);
    const umask = process.umask(0o177);
    try {
      server.listen(path, () => {
        server.off("error", fail);
        chmodSync(path, 0o600);
        done();
      });
    } finally {
      process.umask(umask);
    }
  });
}

/** Answers the requests of one connection, one after the other. */
function serve(socket: Socket, handler: ControlHandler): void {
  let received = "";
  let last: Promise<void> = Promise.resolve();
  const gone = new AbortController();
  const line: ControlLine = {
    say: (text) => {
      if (socket.destroyed) return;
      if (socket.writableLength > UNREAD_BYTES_MAX) socket.destroy();
      else socket.write(`${JSON.stringify({ say: text })}\n`);
    },
    signal: gone.signal,
  };
  socket.setEncoding("utf8");
  socket.setTimeout(IDLE_MS, () => socket.destroy());
  socket.on("close", () => gone.abort());
  // A client that goes away early is its own business.
  socket.on("error", () => socket.destroy());
  socket.on("data", (text: string) => {
    received += text;
    const lines = received.split("\n");
    received = lines.pop() ?? "";
    if (received.length > REQUEST_BYTES_MAX) socket.destroy();
    for (const text of lines) {
      last = last.then(async () => {
        // However long it takes: a trace may see nothing for an hour.
        socket.setTimeout(0);
        const answer = await answerLine(text, handler, line);
        if (socket.destroyed) return;
        socket.setTimeout(IDLE_MS);
        const rest = await sayLong(socket, answer.stdout);
        socket.write(`${JSON.stringify({ ...answer, stdout: rest })}\n`);
      });
    }
  });
}

/** A long text goes piece by piece, as the client takes it; gives the last piece. */
async function sayLong(socket: Socket, text: string): Promise<string> {
  let at = 0;
  while (text.length - at > PIECE_CHARS && !socket.destroyed) {
    let end = at + PIECE_CHARS;
    // The two halves of a character stay together.
    if (/[\ud800-\udbff]/.test(text[end - 1] ?? "")) end--;
    if (!socket.write(`${JSON.stringify({ say: text.slice(at, end) })}\n`)) {
      await new Promise<void>((done) => {
        socket.once("drain", done);
        socket.once("close", done);
      });
    }
    at = end;
  }
  return text.slice(at);
}

async function answerLine(
  text: string,
  handler: ControlHandler,
  line: ControlLine,
): Promise<ControlAnswer> {
  const request = readJson(text);
  if (!isRequest(request)) return { exit: 1, stdout: "", stderr: "not a request\n" };
  try {
    return await handler(request, line);
  } catch (error) {
    const reason = errorMessage(error);
    return { exit: 1, stdout: "", stderr: `${reason}\n` };
  }
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The caller says what is wrong with a text that is no JSON.
    return undefined;
  }
}

function isRequest(value: unknown): value is ControlRequest {
  if (typeof value !== "object" || value === null) return false;
  if (!("command" in value) || typeof value.command !== "string") return false;
  if (!("args" in value) || !Array.isArray(value.args)) return false;
  return value.args.every((arg) => typeof arg === "string");
}

function isSaying(value: unknown): value is { say: string } {
  return (
    typeof value === "object" && value !== null && "say" in value && typeof value.say === "string"
  );
}

function isAnswer(value: unknown): value is ControlAnswer {
  if (typeof value !== "object" || value === null) return false;
  if (!("exit" in value) || typeof value.exit !== "number") return false;
  if (!("stdout" in value) || typeof value.stdout !== "string") return false;
  return "stderr" in value && typeof value.stderr === "string";
}
