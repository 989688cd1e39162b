import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { addResource, anyMethod } from "./rest.ts";
import type { HttpModule } from "./types.ts";

/** What the page shows; all of it is read when it is asked for. */
export interface StatusSources {
  /** `/status.json`, as VerneMQ answers it. */
  status(): object;
  /** `/status/overview.json`: what else the page shows. */
  overview(): object;
}

interface Asset {
  readonly type: string;
  readonly body: Buffer;
}

const TYPES: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  svg: "image/svg+xml",
};

/** The page's own files, and those of the chart library, by the name behind `/status/`. */
const PAGE_FILES = [
  ...["index.html", "page.css", "icon.svg"],
  ...["page.js", "api.js", "charts.js", "elements.js", "model.js", "with-key.js"],
];
const CHART_FILES = ["uPlot.esm.js", "uPlot.min.css"];

/** Nothing from elsewhere, nothing inline, and no frame around a page that takes an API key. */
const SECURITY_HEADERS = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
};

/**
 * `vmq_status_http`: the page and its assets are open, what they show has the module's access control.
 */
export function statusModule(sources: StatusSources): HttpModule {
  const assets = readAssets();
  return {
    name: "vmq_status_http",
    scope: "status",
    register: (app, guard) => {
      const produces = "application/json";
      addResource(app, {
        path: "/status.json",
        produces,
        guard,
        hasOptions: false,
        answer: () => JSON.stringify(sources.status()),
      });
      addResource(app, {
        path: "/status/overview.json",
        produces,
        guard,
        answer: () => JSON.stringify(sources.overview()),
      });
      for (const [name, { type, body }] of assets) {
        app.route({
          method: anyMethod(app),
          url: name === "index.html" ? "/status" : `/status/${name}`,
          onRequest: async (request, reply) => {
            reply.header("allow", "HEAD, GET, OPTIONS");
            if (request.method === "OPTIONS") return reply.send();
            if (request.method !== "GET" && request.method !== "HEAD")
              return reply.code(405).send();
            reply.headers({
              "content-type": type,
              "cache-control": "no-cache",
              ...SECURITY_HEADERS,
            });
            return reply.send(body);
          },
          handler: () => undefined,
        });
      }
    },
  };
}

function readAssets(): Map<string, Asset> {
  const assets = new Map<string, Asset>();
  const charts = dirname(createRequire(import.meta.url).resolve("uplot/dist/uPlot.esm.js"));
  const read = (folder: string, name: string): void => {
    const type = TYPES[name.split(".").at(-1) ?? ""] ?? "application/octet-stream";
    assets.set(name, { type, body: readFileSync(join(folder, name)) });
  };
  for (const name of PAGE_FILES) read(pageFolder(), name);
  for (const name of CHART_FILES) read(charts, name);
  return assets;
}

/** Plain files beside this source: served as they are, in dist/ from where they lie in the package. */
function pageFolder(): string {
  const candidates = ["./status-page/", "../../../../core/admin/http/status-page/"].map((path) =>
    fileURLToPath(new URL(path, import.meta.url)),
  );
  return candidates.find((path) => existsSync(path)) ?? (candidates[0] as string);
}
