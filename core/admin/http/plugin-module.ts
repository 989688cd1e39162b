import type { FastifyRequest } from "fastify";
import type { PluginHttpModule } from "../../hooks/define-plugin.ts";
import { anyMethod } from "./rest.ts";
import type { HttpModule } from "./types.ts";

/** A plugin's module; refusals come in VerneMQ's order: 405, key, 415, then the body is read. */
export function pluginModule(module: PluginHttpModule): HttpModule {
  const { name, scope, path, methods, contentTypes } = module;
  const allow = methods.join(", ");
  return {
    name,
    scope,
    register: (app, guard, listener, peerOf) => {
      app.removeAllContentTypeParsers();
      app.addContentTypeParser("*", { parseAs: "buffer" }, (_, body, done) => done(null, body));
      app.route({
        method: anyMethod(app),
        url: path,
        ...(module.bodyBytesMax === undefined ? {} : { bodyLimit: module.bodyBytesMax }),
        onRequest: async (request, reply) => {
          reply.header("allow", allow);
          if (!methods.includes(request.method)) return reply.code(405).send();
          if (!(await guard(request, reply))) return reply;
          if (!isContentTypeAllowed(request, contentTypes)) return reply.code(415).send();
          return undefined;
        },
        handler: async (request, reply) => {
          const { method, headers, body, url } = request;
          const answer = await module.handle({
            method,
            path,
            query: url.includes("?") ? url.slice(url.indexOf("?") + 1) : "",
            headers: headers as Readonly<Record<string, string | string[] | undefined>>,
            body: Buffer.isBuffer(body) ? body : Buffer.alloc(0),
            peer: peerOf(request.raw),
            listener: { kind: listener.kind, name: listener.name },
          });
          return reply
            .code(answer.status)
            .headers({ "cache-control": "no-store", ...answer.headers })
            .send(typeof answer.body === "string" ? Buffer.from(answer.body) : answer.body);
        },
      });
    },
  };
}

function isContentTypeAllowed(
  { headers }: FastifyRequest,
  allowed: readonly string[] | undefined,
): boolean {
  if (allowed === undefined) return true;
  const [type = ""] = (headers["content-type"] ?? "").split(";");
  return allowed.includes(type.trim().toLowerCase());
}
