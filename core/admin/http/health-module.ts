import type { FastifyReply } from "fastify";
import type { Cluster } from "../../cluster/types.ts";
import { anyMethod } from "./rest.ts";
import type { HttpModule, ListenerState } from "./types.ts";

/** What health is judged by. */
export interface HealthSources {
  readonly cluster: Cluster;
  listeners(): readonly ListenerState[];
}

/** `vmq_health_http`: `/health` and below, with any method. */
export function healthModule({ cluster, listeners }: HealthSources): HttpModule {
  const notRunning = (): string[] => {
    const types = listeners()
      .filter(({ isRunning }) => !isRunning)
      .map(({ type }) => type);
    return types.length === 0 ? [] : [`Listeners are not ready: [${types.join(",")}]`];
  };
  const ownNode = (): string[] => {
    const own = cluster.members().find(({ name }) => name === cluster.nodeName);
    if (own === undefined) return ["Node has not joined cluster"];
    return own.running ? [] : ["Unknown cluster status"];
  };
  const allNodes = (): string[] =>
    cluster.members().every(({ running }) => running) ? [] : ["At least one node is offline"];

  /** Bodies by path; `reason` of /health/listeners is text (VerneMQ: an array of character codes). */
  const checks: Readonly<Record<string, () => object | undefined>> = {
    "/health/ping": () => undefined,
    "/health": () => reasons([...ownNode(), ...notRunning()]),
    "/health/listeners": () => {
      const [reason] = notRunning();
      return reason === undefined ? undefined : { reason };
    },
    "/health/listeners_full_cluster": () => reasons([...allNodes(), ...notRunning()]),
  };
  return {
    name: "vmq_health_http",
    scope: "health",
    register: (app, guard) => {
      for (const [url, check] of Object.entries(checks)) {
        app.route({
          method: anyMethod(app),
          url,
          // Before the body: whatever comes with the request is not read.
          onRequest: async (request, reply) => {
            if (!(await guard(request, reply))) return reply;
            return answer(reply, check());
          },
          handler: () => undefined,
        });
      }
    },
  };
}

function reasons(all: readonly string[]): object | undefined {
  return all.length === 0 ? undefined : { reasons: all };
}

function answer(reply: FastifyReply, fault: object | undefined): FastifyReply {
  const body = fault === undefined ? { status: "OK" } : { status: "DOWN", ...fault };
  return reply
    .code(fault === undefined ? 200 : 503)
    .headers({ "content-type": "application/json", "cache-control": "no-store" })
    .send(Buffer.from(JSON.stringify(body)));
}
