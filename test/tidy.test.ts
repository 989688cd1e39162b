import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { describe, expect, it } from "vitest";

/** Who may import whom. */

const root = resolve(import.meta.dirname, "..");

interface Import {
  /** Path from the repository's root. */
  file: string;
  /** The same for the imported file, or the name of a package. */
  target: string;
  isTypeOnly: boolean;
}

function sourcesBelow(folder: string): string[] {
  const path = join(root, folder);
  if (!existsSync(path)) return [];
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep).join("/"));
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), "utf8");
  const found: Import[] = [];
  const pattern =
    /^(?:import|export)\s+(type\s)?[^;"']*?\bfrom\s+"([^"]+)"|^import\s+()"([^"]+)"|\bimport\(\s*"([^"]+)"/gm;
  for (const [, type, from, , bare, dynamic] of text.matchAll(pattern)) {
    const name = from ?? bare ?? dynamic ?? "";
    const target = name.startsWith(".")
      ? relative(root, resolve(root, dirname(file), name))
          .split(sep)
          .join("/")
      : name;
    found.push({ file, target, isTypeOnly: type !== undefined });
  }
  return found;
}

/** A file without the prose of its comments; `@ts-` marks stay. */
function codeOf(file: string): string {
  return readFileSync(join(root, file), "utf8").replace(/(^|\s)(\/\/|\/?\*)(?!.*@ts-).*$/gm, "");
}

const CORE = sourcesBelow("core").flatMap(importsOf);
const PLUGINS = sourcesBelow("plugins").flatMap(importsOf);

const isOwn = (target: string): boolean => /^(core|plugins|test)\//.test(target);
const isSocket = (target: string): boolean =>
  /^(node:)?(net|tls|http|https|http2|dgram|dns)$/.test(target) || target === "ws";

/** `core/session/handlers/publish.ts` -> `session`; files of the core itself -> their name. */
function partOf(path: string): string {
  const [, part = ""] = path.split("/");
  return part.replace(/\.ts$/, "");
}

function describeImports(imports: readonly Import[]): string[] {
  return imports.map(({ file, target }) => `${file} -> ${target}`).sort();
}

/** Imports of files below `from` that `allowed` does not name. */
function outside(from: string, allowed: (one: Import) => boolean): string[] {
  return describeImports(CORE.filter((one) => one.file.startsWith(from) && !allowed(one)));
}

/** Parts that anybody in the core may use: they know nothing of the broker. */
const COMMON = ["errors", "logger", "counters", "timers", "folder"];

function partsAllowed(...parts: string[]): (one: Import) => boolean {
  return ({ file, target }) =>
    !isOwn(target) || [partOf(file), ...COMMON, ...parts].includes(partOf(target));
}

describe("imports", () => {
  it("are found at all", () => {
    expect(CORE.length).toBeGreaterThan(200);
    expect(CORE).toContainEqual({
      file: "core/session/run.ts",
      target: "core/mqtt/message.ts",
      isTypeOnly: false,
    });
  });

  it("of the core never name a plugin or a test", () => {
    const wrong = CORE.filter(({ target }) => /^(plugins|test)\//.test(target));
    expect(describeImports(wrong)).toEqual([]);
  });

  it("of plugins name the core's plugin-api.ts and their own folder only", () => {
    const wrong = PLUGINS.filter(({ file, target }) => {
      const folder = file.split("/").slice(0, 2).join("/");
      return isOwn(target) && target !== "core/plugin-api.ts" && !target.startsWith(`${folder}/`);
    });
    expect(describeImports(wrong)).toEqual([]);
  });

  it("of core/mqtt name nothing but errors and itself", () => {
    const wrong = outside(
      "core/mqtt/",
      ({ target }) =>
        target === "core/errors.ts" || target.startsWith("core/mqtt/") || target === "node:buffer",
    );
    expect(wrong).toEqual([]);
  });

  it("of core/listeners name no packets: listeners know streams", () => {
    expect(outside("core/listeners/", partsAllowed())).toEqual([]);
  });

  it("of core/session name no sockets", () => {
    expect(outside("core/session/", ({ target }) => !isSocket(target))).toEqual([]);
    // The transport is an interface: nothing of a listener runs in a session.
    const wrong = outside(
      "core/session/",
      ({ target, isTypeOnly }) =>
        partOf(target) !== "listeners" || (isTypeOnly && target === "core/listeners/types.ts"),
    );
    expect(wrong).toEqual([]);
  });

  it("of core/session name routing, hooks, mqtt, and the seams of store, cluster, listeners", () => {
    const allowed = partsAllowed("routing", "hooks", "mqtt", "config");
    const seams = ["core/store/types.ts", "core/cluster/types.ts", "core/listeners/types.ts"];
    expect(outside("core/session/", (one) => allowed(one) || seams.includes(one.target))).toEqual(
      [],
    );
  });

  it("of core/routing name mqtt and store/types only", () => {
    const wrong = outside(
      "core/routing/",
      (one) => partsAllowed("mqtt")(one) || one.target === "core/store/types.ts",
    );
    expect(wrong).toEqual([]);
  });

  it("of core/hooks name no part that calls hooks", () => {
    const wrong = outside(
      "core/hooks/",
      (one) =>
        partsAllowed("mqtt", "config")(one) ||
        one.target === "core/routing/shared.ts" ||
        (one.isTypeOnly && one.target === "core/listeners/types.ts"),
    );
    expect(wrong).toEqual([]);
  });

  it("of core/store and core/cluster name their seams, messages and nothing else", () => {
    for (const part of ["store", "cluster"]) {
      const wrong = outside(
        `core/${part}/`,
        (one) =>
          partsAllowed()(one) ||
          ["core/mqtt/message.ts", "core/hooks/types.ts", "core/store/types.ts"].includes(
            one.target,
          ),
      );
      expect(wrong).toEqual([]);
    }
  });

  it("of core/config name listeners/types only", () => {
    const wrong = outside(
      "core/config/",
      (one) => partsAllowed()(one) || one.target === "core/listeners/types.ts",
    );
    expect(wrong).toEqual([]);
  });

  it("name broker.ts from the doors and the process entry only", () => {
    const wrong = CORE.filter(
      ({ file, target }) =>
        target === "core/broker.ts" && !["core/index.ts", "core/main.ts"].includes(file),
    );
    expect(describeImports(wrong)).toEqual([]);
  });

  it("choose a store or cluster implementation in broker.ts only", () => {
    const wrong = CORE.filter(
      ({ file, target }) =>
        /^core\/(store|cluster)\/(?!types\.ts)/.test(target) &&
        file !== "core/broker.ts" &&
        partOf(file) !== partOf(target),
    );
    expect(describeImports(wrong)).toEqual([]);
  });

  it("form no circle between parts", () => {
    const uses = new Map<string, Set<string>>();
    for (const { file, target, isTypeOnly } of CORE) {
      if (isTypeOnly || !target.startsWith("core/") || partOf(file) === partOf(target)) continue;
      const set = uses.get(partOf(file)) ?? new Set();
      uses.set(partOf(file), set.add(partOf(target)));
    }
    const circles: string[] = [];
    const visit = (part: string, path: readonly string[]): void => {
      if (path.includes(part)) {
        circles.push([...path.slice(path.indexOf(part)), part].join(" -> "));
        return;
      }
      for (const next of uses.get(part) ?? []) visit(next, [...path, part]);
    };
    for (const part of uses.keys()) visit(part, []);
    expect([...new Set(circles)]).toEqual([]);
  });
});

describe("insides of a folder", () => {
  /** `types.ts`, the file named like the folder, or the file that holds its class. */
  const DOORS: Readonly<Record<string, readonly string[]>> = {
    hooks: [
      "types.ts",
      "chain.ts",
      "registry.ts",
      "define-plugin.ts",
      "explain.ts",
      "configured.ts",
      "plugin-manager.ts",
    ],
    routing: ["router.ts", "routes.ts", "shared.ts", "subscription.ts"],
    session: ["session.ts", "manager.ts"],
    store: ["types.ts", "store.ts"],
    cluster: ["types.ts", "cluster.ts"],
    listeners: ["types.ts", "listener.ts"],
    config: ["types.ts", "config.ts", "load.ts", "schema.ts", "plugin-keys.ts", "nearest.ts"],
  };

  // broker.ts knows all parts; a table of protocol numbers (core/mqtt) has no inside.
  it.each(Object.entries(DOORS))("of core/%s are its own: neighbours see %j", (part, doors) => {
    const wrong = CORE.filter(
      ({ file, target }) =>
        target.startsWith(`core/${part}/`) &&
        partOf(file) !== part &&
        !["core/broker.ts", "core/main.ts", "core/index.ts", "core/plugin-api.ts"].includes(file) &&
        !doors.includes(target.slice(`core/${part}/`.length)),
    );
    expect(describeImports(wrong)).toEqual([]);
  });
});

describe("sources", () => {
  const all = ["core", "plugins"].flatMap(sourcesBelow);

  it("have kebab-case names; plugin folders have VerneMQ's", () => {
    const name = /^(core|plugins)\/([a-z0-9_]+\/)*[a-z0-9-]+(\.[a-z]+)?\.ts$/;
    expect(all.filter((file) => !name.test(file))).toEqual([]);
  });

  it("have no `any` and no suppressed type checks", () => {
    const wrong = all.filter((file) =>
      /:\s*any\b|\bas any\b|<any>|@ts-(ignore|expect-error|nocheck)/.test(codeOf(file)),
    );
    expect(wrong).toEqual([]);
  });

  it("below core/session and core/routing take time and randomness from the core", () => {
    const wrong = ["core/session", "core/routing"]
      .flatMap(sourcesBelow)
      .filter((file) =>
        /\bDate\.now\(|\bMath\.random\(|\bperformance\.now\(/.test(
          readFileSync(join(root, file), "utf8"),
        ),
      );
    expect(wrong).toEqual([]);
  });
});
