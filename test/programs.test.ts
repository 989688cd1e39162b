import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, it } from "vitest";
import { built, ROOT } from "./support/build.ts";

const { bin } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
  bin: Record<string, string>;
};

beforeAll(async () => {
  await built();
}, 150_000);

it.each(Object.entries(bin))("the build makes %s a program that can be run", (_, file) => {
  const { error, stdout, stderr } = spawnSync(join(ROOT, file), ["--help"], { encoding: "utf8" });
  expect(error).toBeUndefined();
  // Without a broker vmq-admin says where it looked for one.
  expect(stdout + stderr).toMatch(/usage|Node is not running/i);
});
