import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, it } from "vitest";
import type { Broker } from "../../core/broker-types.ts";
import { startBroker } from "../support/broker.ts";
import { answerOf, exchange, type HttpAnswer } from "../support/http.ts";

/** Every recorded HTTP request, sent again; what we answer otherwise is in CHANGES, with the reason. */

interface Recording {
  readonly case: string;
  readonly listener: string;
  readonly request_line: string;
  readonly request_headers: Readonly<Record<string, string>>;
  readonly request_body?: string;
  readonly status_line: string;
  readonly headers: readonly string[];
  readonly body?: string;
  readonly subscriber_of_h_received?: unknown;
}

interface Change {
  readonly status?: number;
  readonly body?: string;
  readonly why: string;
}

const FILE = new URL("golden/http.jsonl", import.meta.url);
const ALL = readFileSync(FILE, "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line) as Recording);

/** By case, or case and request line. */
const CHANGES: Readonly<Record<string, Change>> = {
  "GET /health/": { status: 200, body: '{"status":"OK"}', why: "a slash more is no fault" },
  "GET /api/v1/show?retry_interval": { status: 200, why: "a name is a name, wherever it stands" },
  "publish, no topic": { status: 400, body: "Invalid topic", why: "the request's fault" },
  "publish, no payload": {
    status: 400,
    body: "Invalid payload. Must be a text",
    why: "the request's fault",
  },
  "publish, bad user properties": {
    status: 400,
    body: "User properties need to be a key/value list (json encoded)",
    why: "the request's fault",
  },
  "publish, payload a number": {
    status: 400,
    body: "Invalid payload. Must be a text",
    why: "the request's fault",
  },
  "publish, payload an object": {
    status: 400,
    body: "Invalid payload. Must be a text",
    why: "the request's fault",
  },
  "publish, JSON array": {
    status: 400,
    body: "Content is not a valid json",
    why: "the request's fault",
  },
  "publish, bad base64": {
    status: 400,
    body: "Invalid payload. Must be base64",
    why: "the request's fault",
  },
  "publish, header and query": {
    status: 400,
    body: "Parameters found in header as well as url-encoded",
    why: "the request's fault",
  },
};

/** The recorded texts stand for repetitions: `aaa...(9000 bytes)`. */
function unfolded(text: string): string {
  return text.replace(/a+\.\.\.\((\d+) bytes\)/, (_, count) => "a".repeat(Number(count)));
}

async function replay(port: number, { request_line, request_headers, request_body }: Recording) {
  // Two were recorded with all they sent, blank lines included.
  const isWhole = request_line.includes("\n");
  const body = Buffer.from(request_body ?? "");
  const lines = [
    unfolded(request_line).trim(),
    "Host: 127.0.0.1",
    "Connection: close",
    ...Object.entries(request_headers).map(([name, value]) => `${name}: ${unfolded(value)}`),
    ...(body.length > 0 ? [`Content-Length: ${body.length}`] : []),
  ];
  const head = isWhole
    ? request_line.replace(/\r?\n/g, "\r\n").trimStart()
    : `${lines.join("\r\n")}\r\n\r\n`;
  return answerOf(
    await exchange(port, Buffer.concat([Buffer.from(head), isWhole ? Buffer.alloc(0) : body])),
  );
}

function check(recording: Recording, answer: HttpAnswer): void {
  const path = recording.request_line.split(" ").slice(0, 2).join(" ");
  const change = CHANGES[path] ?? CHANGES[recording.case];
  const status = change?.status ?? Number(recording.status_line.split(" ")[1]);
  if (recording.case.startsWith("v1") && status === 500) {
    // What the caller did wrong is 400, what works is 200; nothing of it is the broker's fault.
    expect([200, 400]).toContain(answer.status);
    return;
  }
  expect(answer.status).toBe(status);
  if (change?.body !== undefined) {
    expect(answer.body).toBe(change.body);
    return;
  }
  const recorded = new Map(
    recording.headers.map((line) => [line.split(": ")[0], line.split(": ").slice(1).join(": ")]),
  );
  const type = recorded.get("content-type");
  const isPage = type === "text/html";
  if (type !== undefined) {
    expect(answer.headers["content-type"]).toBe(isPage ? "text/html; charset=utf-8" : type);
  }
  for (const name of ["www-authenticate", "access-control-allow-origin"]) {
    expect(answer.headers[name], name).toBe(recorded.get(name));
  }
  const body = recording.body ?? "";
  const isMetrics = recording.request_line.includes("/metrics") && answer.status === 200;
  // Tables are of what was there when they were recorded.
  const isTable = recording.case.startsWith("v1") && answer.status === 200;
  const hasState = recording.case === "status.json" || recording.case === "v2 with key" || isTable;
  if (isPage || isMetrics || (hasState && answer.status === 200)) {
    const hasBody = !/^(HEAD|OPTIONS)/.test(recording.request_line);
    expect(answer.body.length > 0, "a body").toBe(hasBody);
  } else expect(answer.body).toBe(body);
}

/** What needs state of its own is tested in test/core/admin/http. */
function isReplayed(recording: Recording): boolean {
  return (
    !recording.case.includes("suspended") &&
    !recording.case.includes("key as password") &&
    // Commands that say what they write are tested with what they do.
    !/\/api\/v1\/(log|trace)\//.test(recording.request_line)
  );
}

describe("recorded HTTP requests", () => {
  let broker: Broker;
  let ports: Readonly<Record<string, number>>;

  beforeAll(async () => {
    broker = await startBroker(
      {
        "plugins.vmq_http_pub": "on",
        "listener.http.default": "127.0.0.1:0",
        "listener.http.open": "127.0.0.1:0",
        "listener.http.open.http_module.vmq_http_mgmt_api.auth.mode": "noauth",
        "listener.http.publish": "127.0.0.1:0",
        "listener.http.publish.http_modules": "vmq_http_pub",
        "listener.http.publish.http_module.vmq_http_pub.auth.mode": "noauth",
      },
      [],
      { scope: "file" },
    );
    for (const [letter, scope] of Object.entries({ K: "mgmt", M: "metrics", A: "api2" })) {
      await broker.control("api-key", ["add", `key=${letter.repeat(32)}`, `scope=${scope}`]);
    }
    ports = {
      default: broker.port("http", "default"),
      "vmq_http_mgmt_api auth.mode=noauth": broker.port("http", "open"),
      "http_modules=vmq_http_pub, auth.mode=noauth": broker.port("http", "publish"),
    };
  });

  const replayed = ALL.filter(isReplayed);

  it("are there", () => {
    expect(replayed.length).toBeGreaterThan(60);
  });

  it.each(
    replayed.map((recording) => [recording.case, recording.request_line, recording] as const),
  )("%s: %s", async (_, __, recording) => {
    check(recording, await replay(ports[recording.listener] as number, recording));
  });
});
