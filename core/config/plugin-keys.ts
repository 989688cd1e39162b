import { resolve } from "node:path";
import { errorLine, type LoadOptions, readSources } from "./load.ts";
import { keyWords, rowOf, SCHEMA } from "./schema.ts";
import { createSubstitution } from "./substitute.ts";
import { supportOf as supportNow } from "./support.ts";
import type { Origin } from "./types.ts";

/** What the configuration says of one plugin, before anything is known of its settings. */
export interface RequestedPlugin {
  readonly name: string;
  readonly isOn: boolean;
  readonly path: string | undefined;
  /** The line of a fault of this plugin, ending with `reason`. */
  faultLine(reason: string): string;
}

/**
 * All plugins of the configuration, the bundled ones that are on by default included. Embedded brokers
 * have no defaults: for them only what is written counts.
 */
export function requestedPlugins(options: LoadOptions): RequestedPlugin[] {
  const cwd = resolve(options.cwd ?? process.cwd());
  const env = options.env ?? {};
  const supportOf = options.supportOf ?? supportNow;
  const { raws } = readSources(options, cwd, env);
  const textOf = createSubstitution((key) => raws.get(key)?.text ?? rowOf(key)?.default, env);
  const names = new Set<string>();
  for (const key of raws.keys()) {
    const [first, name = "", ...rest] = keyWords(key);
    if (first === "plugins" && rest.length === 0) names.add(name);
  }
  if (options.isEmbedded !== true) {
    for (const { key } of SCHEMA) {
      const name = /^plugins\.(\w+)$/.exec(key)?.[1];
      if (name !== undefined) names.add(name);
    }
  }
  /** As written; a text that is no text is reported by the check of the whole configuration. */
  function written(key: string): string | undefined {
    if (!raws.has(key)) return undefined;
    const text = textOf(key);
    return text.ok ? text.text : undefined;
  }
  return [...names].flatMap((name) => {
    const key = `plugins.${name}`;
    const row = rowOf(key);
    if (row === undefined || supportOf(row).kind === "later") return [];
    const origin: Origin = raws.get(key)?.origin ?? { kind: "default" };
    return {
      name,
      isOn: (written(key) ?? row.default) === "on",
      path: written(`${key}.path`),
      faultLine: (reason: string) => errorLine({ key, origin }, reason),
    };
  });
}
