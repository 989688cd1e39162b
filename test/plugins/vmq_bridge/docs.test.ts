import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { SCHEMA } from "../../../core/config/schema.ts";
import { freePort, tempDir, waitFor } from "../../support/broker.ts";
import { built, ROOT } from "../../support/build.ts";
import { requireTool } from "../../support/tools.ts";
import { brokerShell, finished, shellBlocks } from "../../support/typed.ts";

const hasClients = requireTool("mosquitto_pub", "mosquitto-clients");

/** The README's section, typed as it stands; only ports and the way to the programs are the test's. */
function section(): string[] {
  const text = readFileSync(join(ROOT, "README.md"), "utf8");
  const [, part = ""] = text.split("## Bridge two brokers\n");
  const [own = ""] = part.split("\n## ");
  return shellBlocks(own);
}

describe.skipIf(!hasClients)("the README's section about bridges", () => {
  it("works as typed", async () => {
    await built();
    const [near, far] = [String(await freePort()), String(await freePort())];
    const folder = tempDir();
    mkdirSync(join(folder, "data"));
    const [prepare = "", farBroker = "", nearBroker = "", clients = ""] = section().map((block) =>
      block
        .replaceAll("1883", near)
        .replaceAll("1884", far)
        .replace("npm start --", `exec node ${ROOT}/dist/core/main.js console`)
        .replace("npx vmq-admin", `node ${ROOT}/dist/core/admin/main.js`),
    );
    await finished(prepare, folder);
    for (const start of [farBroker, nearBroker]) {
      const running = await brokerShell(start, folder);
      if (start === nearBroker) {
        await waitFor("bridged", () => running.output.includes("bridge connected"), 30_000);
      }
    }
    const output = await finished(clients, folder);
    expect(output).toMatch(/far .*\| connected/);
    expect(output).toContain("sensors/hall 21.5");
  }, 120_000);
});

describe("the README of the plugin", () => {
  it("has every setting of a bridge", () => {
    const text = readFileSync(join(ROOT, "plugins/vmq_bridge/README.md"), "utf8");
    const names = SCHEMA.flatMap(
      ({ key }) => /^vmq_bridge\.ssl\.\$name\.(\w+)/.exec(key)?.[1] ?? [],
    );
    expect(names.length).toBeGreaterThan(25);
    expect(names.filter((name) => !text.includes(`\`${name}`))).toEqual([]);
  });
});
