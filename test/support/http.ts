import { connect } from "node:net";
import { type ConnectionOptions, connect as tlsConnect } from "node:tls";

/** An answer as it came over the wire. */
export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface HttpCall {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Buffer;
  /** HTTPS. */
  readonly tls?: ConnectionOptions;
}

const WAIT_MS = 10_000;

/** Sends one request exactly as given, closes, and reads the answer: no client library mends anything. */
export async function call(
  port: number,
  path: string,
  options: HttpCall = {},
): Promise<HttpAnswer> {
  const { method = "GET", headers = {}, body = "" } = options;
  const bytes = Buffer.from(body);
  const lines = [
    `${method} ${path} HTTP/1.1`,
    "Host: 127.0.0.1",
    "Connection: close",
    ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
    ...(bytes.length > 0 || method === "POST" || method === "PUT"
      ? [`Content-Length: ${bytes.length}`]
      : []),
  ];
  const head = Buffer.from(`${lines.join("\r\n")}\r\n\r\n`);
  return answerOf(await exchange(port, Buffer.concat([head, bytes]), options.tls));
}

/** Sends bytes and gives everything that comes back until the other side closes. */
export function exchange(port: number, bytes: Buffer, tls?: ConnectionOptions): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket =
      tls === undefined
        ? connect(port, "127.0.0.1")
        : tlsConnect({ port, host: "127.0.0.1", rejectUnauthorized: false, ...tls });
    const chunks: Buffer[] = [];
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error(`no answer within ${WAIT_MS} ms to ${bytes.subarray(0, 80)}`));
    }, WAIT_MS);
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.on("error", (error) => {
      clearTimeout(timer);
      if (chunks.length === 0) reject(error);
    });
    socket.on("close", () => {
      clearTimeout(timer);
      resolve(Buffer.concat(chunks));
    });
    socket.write(bytes);
  });
}

/** Status, headers (names in lower case) and body of one answer. */
export function answerOf(bytes: Buffer): HttpAnswer {
  const end = bytes.indexOf("\r\n\r\n");
  const [first = "", ...lines] = bytes.subarray(0, end).toString("latin1").split("\r\n");
  const headers = Object.fromEntries(
    lines.map((line) => {
      const at = line.indexOf(":");
      return [line.slice(0, at).toLowerCase(), line.slice(at + 1).trim()];
    }),
  );
  let body = bytes.subarray(end + 4).toString("utf8");
  if (headers["transfer-encoding"] === "chunked") body = unchunked(body);
  return { status: Number(first.split(" ")[1]), headers, body };
}

function unchunked(text: string): string {
  let rest = text;
  let body = "";
  for (;;) {
    const end = rest.indexOf("\r\n");
    const length = Number.parseInt(rest.slice(0, end), 16);
    if (!(length > 0)) return body;
    body += rest.slice(end + 2, end + 2 + length);
    rest = rest.slice(end + 4 + length);
  }
}

/** `Authorization` with a key as the user name. */
export function basic(key: string, password = ""): Record<string, string> {
  return { Authorization: `Basic ${Buffer.from(`${key}:${password}`).toString("base64")}` };
}
