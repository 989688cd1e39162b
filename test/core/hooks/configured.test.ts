import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { loadConfigured, pluginFaults } from "../../../core/hooks/configured.ts";
import { tempDir } from "../../support/broker.ts";

async function faults(text: string): Promise<string[]> {
  const folder = tempDir();
  const file = join(folder, "v.conf");
  writeFileSync(file, `listener.tcp.a = 127.0.0.1:1\n${text}`);
  const loaded = await loadConfigured({ file, cwd: folder });
  expect(loaded.errors).toEqual([]);
  return pluginFaults(loaded);
}

it("what would stop a plugin's start is found without starting it", async () => {
  const bridge = "plugins.vmq_bridge = on\nvmq_bridge.tcp.b = 127.0.0.1:1\n";
  expect(await faults(`${bridge}vmq_bridge.tcp.b.topic.1 = a/* out 1\n`)).toEqual([]);
  expect(await faults(`${bridge}vmq_bridge.tcp.b.topic.1 = a/* out 1 x y z\n`)).toEqual([
    expect.stringMatching(/v\.conf:4: vmq_bridge\.tcp\.b\.topic\.1: "x y z" is left/),
  ]);
});

it("so are Lua scripts that cannot be read or compiled, all of them", async () => {
  const scripts = tempDir();
  const lua = (name: string, text: string): string => {
    writeFileSync(join(scripts, name), text);
    return join(scripts, name);
  };
  lua("fine.lua", "require 'nosuch' hooks = {}");
  lua("notes.txt", "no Lua");
  const on = `plugins.vmq_diversity = on\nvmq_diversity.script_dir = ${scripts}\n`;
  expect(await faults(on)).toEqual([]);
  const broken = lua("broken.lua", "local x = 1\nfunction (");
  const gone = join(scripts, "sub", "gone.lua");
  expect(await faults(`${on}vmq_diversity.mine.file = ${gone}\n`)).toEqual([
    expect.stringMatching(`v\\.conf:3: vmq_diversity\\.script_dir: ${broken}:2: <name> expected`),
    expect.stringContaining("v.conf:4: vmq_diversity.mine.file: ENOENT"),
  ]);
});

it("so are faults of a plugin from elsewhere", async () => {
  const folder = tempDir();
  const path = join(folder, "house.mjs");
  writeFileSync(
    path,
    `export default { [Symbol.for("nautilus-mq.plugin")]: true, name: "house", hooks: {}, start() { throw new Error("started"); },
      check({ config }) { throw new Error("no house at " + config("plugins.house.path")); } };`,
  );
  expect(await faults(`plugins.house = on\nplugins.house.path = ${path}\n`)).toEqual([
    `no house at ${path}`,
  ]);
});
