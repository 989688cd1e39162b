import type { FastifyReply, FastifyRequest } from "fastify";
import type { SessionManager } from "../../session/manager.ts";
import { hasFlag, queryOf, textOf } from "./query.ts";
import { addResource } from "./rest.ts";
import type { HttpModule } from "./types.ts";

/** Headers of the answer to OPTIONS, also of v1. */
export const CORS_HEADERS: Readonly<Record<string, string>> = {
  "access-control-max-age": "1728000",
  "access-control-allow-methods": "HEAD, GET",
  "access-control-allow-headers": "content-type, authorization",
  "access-control-allow-origin": "*",
};

/** `vmq_http_v2_api`: one client, found without a search. */
export function apiV2Module(manager: SessionManager): HttpModule {
  return {
    name: "vmq_http_v2_api",
    scope: "api2",
    register: (app, guard) =>
      addResource(app, {
        path: "/api/v2/:command",
        produces: "application/json",
        guard,
        optionsHeaders: CORS_HEADERS,
        isWellFormed: ({ url }) => queryOf(url) !== undefined,
        answer: (request, reply) => answer(manager, request, reply),
      }),
  };
}

function answer(
  manager: SessionManager,
  request: FastifyRequest,
  reply: FastifyReply,
): string | FastifyReply {
  const { command } = request.params as { command: string };
  const query = queryOf(request.url) ?? [];
  const clientId = textOf(query, "client_id") ?? "";
  const mountpoint = textOf(query, "mountpoint") ?? "";
  switch (command) {
    case "client":
      return JSON.stringify(clientState(manager, mountpoint, clientId, hasFlag(query, "topics")));
    case "disconnect": {
      const isKnown = manager.disconnect(mountpoint, clientId, hasFlag(query, "cleanup"));
      return JSON.stringify(isKnown ? "ok" : "unknown");
    }
    case "":
      return reply.code(404).removeHeader("content-type").send();
    default:
      return reply.code(400).send(Buffer.from("invalid_command"));
  }
}

function clientState(
  manager: SessionManager,
  mountpoint: string,
  clientId: string,
  withTopics: boolean,
): object {
  const subscriber = manager.find(mountpoint, clientId);
  if (subscriber === undefined) return { status: "unknown" };
  const status = subscriber.session === undefined ? "offline" : "online";
  if (!withTopics) return { status };
  const topics = [...(subscriber.subscriptions?.values() ?? [])].map(
    ({ filter, qos }) => [filter, qos] as const,
  );
  // VerneMQ's encoder cannot tell an empty object from an empty list.
  return { status, topics: topics.length === 0 ? [] : Object.fromEntries(topics) };
}
