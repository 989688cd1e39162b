import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Guard } from "./types.ts";

/** A path that answers GET and HEAD, the way VerneMQ's resources do. */
export interface Resource {
  readonly path: string;
  /** Content type of the answer. */
  readonly produces: "application/json" | "text/plain";
  readonly guard: Guard;
  /** Also OPTIONS. Default true. */
  readonly hasOptions?: boolean;
  /** Headers of the answer to OPTIONS. */
  readonly optionsHeaders?: Readonly<Record<string, string>>;
  /** False = 400 with an empty body, before the key is looked at. */
  isWellFormed?(request: FastifyRequest): boolean;
  /** The body, or the reply where it has been answered already. */
  answer(
    request: FastifyRequest,
    reply: FastifyReply,
  ): string | FastifyReply | Promise<string | FastifyReply>;
}

/** Every method Node's server knows and a route can take. */
export function anyMethod(app: FastifyInstance): string[] {
  return [...app.supportedMethods];
}

/**
 * Adds a resource. Refusals come in this order, as in VerneMQ: 405 method, 400 form, 400/401/429 key,
 * 406 Accept; nothing of a body is read.
 */
export function addResource(app: FastifyInstance, resource: Resource): void {
  const { hasOptions = true } = resource;
  const allow = hasOptions ? "HEAD, GET, OPTIONS" : "HEAD, GET";
  app.route({
    method: anyMethod(app),
    url: resource.path,
    onRequest: async (request, reply) => {
      const { method } = request;
      const isOptions = hasOptions && method === "OPTIONS";
      reply.header("allow", allow);
      if (method !== "GET" && method !== "HEAD" && !isOptions) return reply.code(405).send();
      if (resource.isWellFormed?.(request) === false) return reply.code(400).send();
      if (!(await resource.guard(request, reply))) return reply;
      if (isOptions) return reply.headers(resource.optionsHeaders ?? {}).send();
      if (!accepts(request.headers.accept, resource.produces)) return reply.code(406).send();
      return undefined;
    },
    handler: async (request, reply) => {
      reply.header("content-type", resource.produces).header("cache-control", "no-store");
      const body = await resource.answer(request, reply);
      // As bytes: to a text the content type would get a charset, which VerneMQ's has not.
      return typeof body === "string" ? reply.send(Buffer.from(body)) : body;
    },
  });
}

/** True when an Accept header allows a content type; q=0 excludes it. */
export function accepts(header: string | undefined, type: string): boolean {
  if (header === undefined || header.trim() === "") return true;
  const [family] = type.split("/");
  return header.split(",").some((entry) => {
    const [range = "", ...parameters] = entry.split(";").map((part) => part.trim().toLowerCase());
    if (parameters.some((parameter) => /^q=0(\.0*)?$/.test(parameter))) return false;
    return range === "*/*" || range === type || range === `${family}/*`;
  });
}
