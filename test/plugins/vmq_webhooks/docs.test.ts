import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { SCHEMA } from "../../../core/config/schema.ts";
import { freePort, tempDir, waitFor } from "../../support/broker.ts";
import { built, ROOT } from "../../support/build.ts";
import { requireTool } from "../../support/tools.ts";
import { brokerShell, finished, shellBlocks } from "../../support/typed.ts";

/** plugins/vmq_webhooks/README.md: its page typed as it stands, and that it names everything there is. */

const README = readFileSync(join(ROOT, "plugins/vmq_webhooks/README.md"), "utf8");
const hasClients =
  requireTool("mosquitto_pub", "mosquitto-clients") &&
  requireTool("mosquitto_sub", "mosquitto-clients");

describe.skipIf(!hasClients)("a webhook in ten minutes", () => {
  test("works as typed", async () => {
    await built();
    const blocks = shellBlocks(README);
    expect(blocks).toHaveLength(3);
    const [prepare = "", start = "", clients = ""] = blocks;
    const [port, endpointPort] = [await freePort(), await freePort()];
    const [folder, data] = [tempDir(), tempDir()];
    const moved = (block: string): string => block.replaceAll("8090", String(endpointPort));
    await finished(moved(prepare.replace(/^sudo apt-get.*\n/m, "")), folder);
    const where = `--set listener.tcp.default=127.0.0.1:${port} --data-dir ${data}`;
    const command = `node ${join(ROOT, "dist/core/main.js")} console`;
    const typed = start.trimEnd().replace("npm start --", command);
    expect(typed).not.toBe(start.trimEnd());
    const running = await brokerShell(`${typed} ${where}`, folder);
    const admin = `node ${join(ROOT, "dist/core/admin/main.js")} --data-dir ${data}`;
    const output = await finished(
      clients
        .replaceAll(/mosquitto_(pub|sub)/g, `mosquitto_$1 -p ${port}`)
        .replaceAll("npx vmq-admin", admin),
      folder,
    );
    expect(output).toContain("accepted");
    expect(output).toContain("refused");
    expect(output).toContain("heard nothing");
    expect(output).toMatch(/Publish \d+ failed: Not authorized/);
    const row = `http://127.0.0.1:${endpointPort}/ +\\| auth_on_publish +\\|`;
    expect(output).toMatch(new RegExp(`hits +\\| ${row} 1 +\\|`));
    for (const line of ["bob/door open", "bob/door closed"]) {
      await waitFor(`the endpoint has printed ${line}, not ${running.output}`, () =>
        running.output.split("\n").includes(line),
      );
    }
    expect(running.output).not.toContain("alice/door open");
  }, 120_000);
});

test("the page has every setting", () => {
  const names = SCHEMA.filter(
    ({ key, erlangOnly }) => key.startsWith("vmq_webhooks.") && erlangOnly !== true,
  )
    .map(({ key }) => key)
    .map((key) =>
      key.replace("vmq_webhooks.", "").replace("$name.", "").replace("$header", "<Name>"),
    );
  expect(names.length).toBeGreaterThan(20);
  expect(names.filter((name) => !README.includes(`\`${name}`))).toEqual([]);
});
