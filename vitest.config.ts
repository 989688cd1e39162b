import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

/** As the package's exports, but the sources instead of dist/. */
const door = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

export default defineConfig({
  resolve: {
    alias: {
      "nautilus-mq/plugin": door("./core/plugin-api.ts"),
      "nautilus-mq/testing": door("./core/testing.ts"),
    },
  },
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    pool: "forks",
    maxWorkers: 2,
    minWorkers: 1,
  },
});
