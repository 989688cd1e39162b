import { errorMessage } from "../errors.ts";
import type { Cell, Element } from "./elements.ts";
import { type Answer, render } from "./render.ts";

/** A broker that is reached over HTTP. */
export interface Remote {
  /** Of its HTTP listener, such as `https://broker:8889`. */
  readonly url: string;
  /** API key of scope `mgmt`. */
  readonly apiKey: string;
}

/** A remote broker has to answer within this. */
const REMOTE_MS = 60_000;

const REFUSED: Readonly<Record<number, string>> = {
  400: "there is no such command or argument there, or a value is not allowed; see --help",
  401: "the API key is missing, wrong, expired or not of scope mgmt; set NAUTILUS_API_KEY",
  404: "that listener does not serve vmq_http_mgmt_api; see http_modules",
  429: "too many requests; try again",
};

/** Sends a command to the management API and gives its answer as the control socket would. */
export async function sendRemote(remote: Remote, words: readonly string[]): Promise<Answer> {
  const format = words.findLast((word) => word.startsWith("--format="))?.slice("--format=".length);
  let response: Response;
  try {
    response = await fetch(requestUrl(remote.url, words), {
      headers: { "x-api-key": remote.apiKey },
      signal: AbortSignal.timeout(REMOTE_MS),
      // A redirect could take the key to somebody else.
      redirect: "error",
    });
  } catch (error) {
    const cause = error instanceof Error ? (error.cause ?? error) : error;
    return failed(`${remote.url}: ${errorMessage(cause)}`);
  }
  const body = await response.text();
  if (response.status !== 200) {
    const why = REFUSED[response.status] ?? "the command failed there; its log says why";
    return failed(`${remote.url} answers ${response.status}: ${why}`);
  }
  try {
    return { exit: 0, ...render(elementsOf(JSON.parse(body)), format) };
  } catch {
    return failed(`${remote.url} answers something else than a command's result`);
  }
}

function failed(reason: string): Answer {
  return { exit: 1, stdout: "", stderr: `${reason}\n` };
}

/** Path = leading words, query = the rest; `--flag value` becomes one parameter. */
function requestUrl(base: string, words: readonly string[]): URL {
  const end = words.findIndex((word) => word.startsWith("-") || word.includes("="));
  const path = end < 0 ? words : words.slice(0, end);
  const query: string[] = [];
  for (const word of end < 0 ? [] : words.slice(end)) {
    if (word.startsWith("--format=")) continue;
    const last = query.at(-1);
    if (!word.startsWith("-") && !word.includes("=") && last !== undefined) {
      query[query.length - 1] = `${last}=${encodeURIComponent(word)}`;
    } else {
      const [name = "", ...value] = word.split("=");
      const text = value.length === 0 ? "" : `=${encodeURIComponent(value.join("="))}`;
      query.push(`${encodeURIComponent(name)}${text}`);
    }
  }
  const url = new URL(base);
  const steps = path.map(encodeURIComponent).join("/");
  url.pathname = `${url.pathname.replace(/\/$/, "")}/api/v1/${steps}`;
  url.search = query.join("&");
  return url;
}

interface JsonElement {
  readonly type?: unknown;
  readonly text?: unknown;
  readonly alert?: readonly JsonElement[];
  readonly table?: readonly Record<string, Cell>[];
  readonly list?: readonly string[];
  readonly title?: string;
}

function elementsOf(json: JsonElement | readonly JsonElement[]): Element[] {
  const all = Array.isArray(json) ? (json as readonly JsonElement[]) : [json as JsonElement];
  return all.map((one): Element => {
    switch (one.type) {
      case "text":
        return { type: "text", text: String(one.text) };
      case "alert":
        return { type: "alert", text: (one.alert ?? []).map(({ text }) => text).join("\n") };
      case "list":
        return {
          type: "list",
          list: one.list ?? [],
          ...(one.title === undefined ? {} : { title: one.title }),
        };
      case "table": {
        const rows = one.table ?? [];
        const columns = Object.keys(rows[0] ?? {});
        return {
          type: "table",
          columns,
          rows: rows.map((row) => columns.map((name) => row[name])),
        };
      }
      default:
        throw new TypeError("no element");
    }
  });
}
