import { addResource } from "./rest.ts";
import type { HttpModule } from "./types.ts";

/** `vmq_metrics_http`: `/metrics` in Prometheus' text format. */
export function metricsModule(text: () => string): HttpModule {
  return {
    name: "vmq_metrics_http",
    scope: "metrics",
    register: (app, guard) =>
      addResource(app, { path: "/metrics", produces: "text/plain", guard, answer: () => text() }),
  };
}
