import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { findPlugin, loadPlugin } from "../../../core/hooks/loader.ts";
import { tempDir } from "../../support/broker.ts";

/** Writes files into a new folder and gives the folder. */
function folder(files: Readonly<Record<string, string>>): string {
  const dir = tempDir();
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), text);
  }
  return dir;
}

async function load(dir: string, path = dir): Promise<Record<string, unknown>> {
  const found = findPlugin("mine", path, dir);
  return { ...(await loadPlugin("mine", found)) };
}

const HEAD = `import { definePlugin } from "nautilus-mq/plugin";\n`;
const PLAIN = `${HEAD}export default definePlugin({ name: "mine", hooks: { auth_on_publish: () => "ok" } });\n`;

describe("finding a plugin", () => {
  it("takes a file, a folder with index.ts, the main of package.json and an installed package", () => {
    const dir = folder({
      "one.ts": PLAIN,
      "two/index.ts": PLAIN,
      "three/package.json": `{ "exports": { ".": { "types": "./x.d.ts", "default": "./lib/main.js" } } }`,
      "three/lib/main.js": PLAIN,
      "node_modules/@me/four/package.json": `{ "main": "four.mjs" }`,
      "node_modules/@me/four/four.mjs": PLAIN,
    });
    const file = (path: string): string => findPlugin("mine", path, dir).file;
    expect(file("one.ts")).toBe(join(dir, "one.ts"));
    expect(file(join(dir, "two"))).toBe(join(dir, "two/index.ts"));
    expect(file("./three")).toBe(join(dir, "three/lib/main.js"));
    expect(file("@me/four")).toBe(join(dir, "node_modules/@me/four/four.mjs"));
  });

  it("says what is missing", () => {
    const dir = folder({ "empty/readme": "" });
    expect(() => findPlugin("mine", "./nowhere", dir)).toThrow(
      'plugin_not_found: mine: "./nowhere" is neither a file nor a folder nor an installed package',
    );
    expect(() => findPlugin("mine", "empty", dir)).toThrow('"empty" has no index.js');
    expect(() => findPlugin("mine", undefined, dir)).toThrow("plugins.mine.path is not set");
  });
});

describe("loading a plugin", () => {
  it("runs TypeScript with relative imports and without node_modules", async () => {
    const dir = folder({
      "index.ts": `${HEAD}import { topic } from "./parts/topic.js";
import { Level } from "./level";
export default definePlugin({
  name: "mine",
  hooks: { auth_on_publish: (args) => ({ ok: { topic: topic as string, qos: Level.high } }) },
});`,
      "parts/topic.ts": `export const topic: string = "from/parts";\n`,
      "level.ts": `export enum Level { low, high }\n`,
    });
    const { hooks } = await load(dir);
    expect((hooks as { auth_on_publish(): unknown }).auth_on_publish()).toEqual({
      ok: { topic: "from/parts", qos: 1 },
    });
  });

  it("reads all files of a plugin again at each load", async () => {
    const dir = folder({
      "index.js": `${HEAD}import { n } from "./n.js";
export default definePlugin({ name: "mine", hooks: { auth_on_publish: () => n } });`,
      "n.js": "export const n = 1;\n",
    });
    const answer = async (): Promise<unknown> =>
      ((await load(dir)).hooks as { auth_on_publish(): unknown }).auth_on_publish();
    expect(await answer()).toBe(1);
    writeFileSync(join(dir, "n.js"), "export const n = 2;\n");
    expect(await answer()).toBe(2);
  });

  it("follows a link to a folder", async () => {
    const dir = folder({ "real/index.ts": PLAIN });
    symlinkSync(join(dir, "real"), join(dir, "link"));
    expect((await load(dir, "link")).name).toBe("mine");
  });

  it.each([
    ["a syntax error", "export default {{;\n", /index\.ts:1: .*export default/],
    ["a missing import", `import "./gone.ts";\n${PLAIN}`, /Cannot find module .*gone\.ts/],
    ["an error at load", `${HEAD}\nthrow new Error("no luck");`, /no luck \(.*index\.ts:3\)/],
    [
      "no default export",
      "export const a = 1, b = 2;\n",
      /no default export made with definePlugin \(it exports a, b\)/,
    ],
    [
      "a default export of another kind",
      `export default { name: "mine", hooks: {} };\n`,
      /default export is not made with definePlugin/,
    ],
    [
      "another name",
      `${HEAD}export default definePlugin({ name: "other", hooks: {} });`,
      /has the name "other", not "mine"/,
    ],
    [
      "an unknown hook",
      `${HEAD}export default definePlugin({ name: "mine", hooks: { auth_on_pubish: () => "ok" } } as any);`,
      /default export: there is no hook "auth_on_pubish", did you mean auth_on_publish\?/,
    ],
    [
      "a hook that is no function",
      `${HEAD}export default definePlugin({ name: "mine", hooks: { on_publish: "x" } } as any);`,
      /hooks\.on_publish is no function/,
    ],
    [
      "a setting of an unknown type",
      `${HEAD}export default definePlugin({ name: "mine", hooks: {}, settings: { a: { type: "int", doc: "" } } } as any);`,
      /settings\.a: type "int" is none of flag, integer/,
    ],
  ])("H-13 names file, export and fault of %s", async (_, text, reason) => {
    const dir = folder({ "index.ts": text });
    const fault = await load(dir).catch((error: unknown) => error);
    expect(fault).toMatchObject({ code: "PLUGIN_LOAD_FAILED" });
    expect(String(fault)).toContain(join(dir, "index.ts"));
    expect(String(fault)).toMatch(reason);
    expect(String(fault)).not.toContain("?nautilus=");
  });
});
