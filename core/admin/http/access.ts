import type { FastifyReply, FastifyRequest } from "fastify";
import { RateLimiter } from "./rate-limiter.ts";
import type { Guard, KeyCheck } from "./types.ts";

/** Wrong keys that one address may try in a second, before it is answered 429 without a look. */
const WRONG_KEYS_PER_S = 20;

/** As VerneMQ words it. */
const CHALLENGE = 'Authorization realm="VerneMQ"';

/** The key of a request, or what is wrong with it: nothing there, no text that could hold a key. */
export type FoundKey = { key: string } | "none" | "malformed";

/** Basic user name, whatever the password; without that header `x-api-key`. */
export function keyOf(headers: FastifyRequest["headers"]): FoundKey {
  const { authorization } = headers;
  if (authorization === undefined) {
    const key = headers["x-api-key"];
    return typeof key === "string" && key !== "" ? { key } : "none";
  }
  const [, scheme = "", text = ""] = /^(\S+)\s*(.*)$/.exec(authorization) ?? [];
  if (scheme.toLowerCase() !== "basic") return "none";
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return "malformed";
  const pair = Buffer.from(text, "base64").toString("utf8");
  const end = pair.indexOf(":");
  if (end < 0) return "malformed";
  return end === 0 ? "none" : { key: pair.slice(0, end) };
}

/** The addresses of a broker's callers that tried wrong keys lately. */
export class WrongKeys extends RateLimiter {
  constructor(now?: () => number) {
    super(WRONG_KEYS_PER_S, now);
  }
}

/** The access rule of one module: `noauth`, or a key of its scope. */
export function accessGuard(
  mode: "noauth" | "apikey",
  scope: string,
  check: KeyCheck,
  wrongKeys: RateLimiter,
  addressOf: (request: FastifyRequest) => string,
): Guard {
  if (mode === "noauth") return () => true;
  return async (request, reply) => {
    const found = keyOf(request.headers);
    if (found === "malformed") {
      await reply.code(400).send();
      return false;
    }
    if (found === "none") return refuse(reply);
    const address = addressOf(request);
    if (!wrongKeys.has(address)) {
      await reply.code(429).header("retry-after", 1).send();
      return false;
    }
    if (await check(found.key, scope)) return true;
    wrongKeys.take(address);
    return refuse(reply);
  };
}

async function refuse(reply: FastifyReply): Promise<false> {
  await reply.code(401).header("www-authenticate", CHALLENGE).send();
  return false;
}
