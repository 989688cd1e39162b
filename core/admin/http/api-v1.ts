import type { FastifyReply, FastifyRequest } from "fastify";
import { NautilusError } from "../../errors.ts";
import { BadCommand } from "../command.ts";
import { CORS_HEADERS } from "./api-v2.ts";
import { type Parameter, queryOf } from "./query.ts";
import { addResource } from "./rest.ts";
import type { HttpModule } from "./types.ts";

/** A command whose words, arguments and flags are in order; gives its answer as JSON text. */
export type PreparedCommand = () => Promise<string>;

/** The commands of `vmq-admin`. */
export interface CommandSource {
  /** Words and arguments as typed after `vmq-admin`; undefined = there is no such command or argument. */
  prepare(words: readonly string[]): PreparedCommand | undefined;
}

const PREFIX = "/api/v1";

/** First words that mean another one. */
const ALIASES: Readonly<Record<string, readonly [word: string, alone: string]>> = {
  sessions: ["session", "show"],
  listeners: ["listener", "show"],
  plugins: ["plugin", "show"],
};

/** `vmq_http_mgmt_api`: every command of `vmq-admin` as a GET. */
export function apiV1Module(commands: CommandSource): HttpModule {
  const prepare = (request: FastifyRequest): PreparedCommand | undefined => {
    const words = wordsOf(request.url);
    return words === undefined ? undefined : commands.prepare(words);
  };
  return {
    name: "vmq_http_mgmt_api",
    scope: "mgmt",
    register: (app, guard) => {
      for (const path of [PREFIX, `${PREFIX}/*`]) {
        addResource(app, {
          path,
          produces: "application/json",
          guard,
          optionsHeaders: CORS_HEADERS,
          // Before the key is looked at, as in VerneMQ: what commands there are is no secret.
          isWellFormed: (request) => prepare(request) !== undefined,
          answer: async (request, reply): Promise<string | FastifyReply> => {
            const command = prepare(request);
            if (command === undefined) return reply.code(400).send();
            try {
              return await command();
            } catch (error) {
              // A value that is not allowed, say: the caller's fault, so 400 where VerneMQ has 500.
              if (error instanceof NautilusError || error instanceof BadCommand) {
                return reply.code(400).send();
              }
              throw error;
            }
          },
        });
      }
    },
  };
}

/** What would be typed after `vmq-admin`; undefined = not decodable. */
export function wordsOf(url: string): string[] | undefined {
  const query = queryOf(url);
  if (query === undefined) return undefined;
  const [path = ""] = url.split("?");
  let words: string[];
  try {
    words = path.slice(PREFIX.length).split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    return undefined;
  }
  // A word that looks like an argument would be taken for one.
  if (words.some((word) => word.startsWith("-") || word.includes("="))) return undefined;
  const [first = "", ...rest] = words;
  const alias = ALIASES[first];
  if (alias !== undefined) words = [alias[0], ...(rest.length === 0 ? [alias[1]] : rest)];
  return [...words, ...query.map(argumentText)];
}

/** `--flag`, `--flag=value` or `key=value`, as typed. */
function argumentText({ name, value }: Parameter): string {
  return value === undefined ? name : `${name}=${value}`;
}
