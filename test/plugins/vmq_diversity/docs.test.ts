import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { freePort, tempDir } from "../../support/broker.ts";
import { built, ROOT } from "../../support/build.ts";
import {
  hasMariadb,
  hasMongo,
  hasPostgres,
  hasRedis,
  startMariadb,
  startMongo,
  startPostgres,
  startRedis,
} from "../../support/servers/databases.ts";
import { requireTool } from "../../support/tools.ts";
import { brokerShell, finished, shellBlocks } from "../../support/typed.ts";

/**
 * The pages of plugins/vmq_diversity/docs, typed as they stand. Only what is about the machine is
 * replaced: packages are there, servers run on ports of the test.
 */

const hasClients = requireTool("mosquitto_pub", "mosquitto-clients");

function blocksOf(page: string): [prepare: string, broker: string, clients: string] {
  const text = readFileSync(join(ROOT, "plugins/vmq_diversity/docs", `${page}.md`), "utf8");
  const blocks = shellBlocks(text);
  expect(blocks).toHaveLength(3);
  return blocks as [string, string, string];
}

/** Types a page: `change` adapts the first block to the test's server, `where` names its port. */
async function typePage(
  page: string,
  change: (block: string) => string,
  where: string,
): Promise<string> {
  await built();
  const [prepare, broker, clients] = blocksOf(page);
  const port = await freePort();
  await finished(change(prepare.replace(/^sudo apt-get.*\n/m, "")), ROOT);
  const start = broker
    .replace("npm start --", "node dist/core/main.js console")
    .trimEnd()
    .concat(` --set listener.tcp.default=127.0.0.1:${port} --data-dir ${tempDir()} ${where}`);
  await brokerShell(`exec ${start}`, ROOT);
  return finished(clients.replaceAll("mosquitto_pub", `mosquitto_pub -p ${port}`), ROOT);
}

describe.skipIf(!hasClients)("a page of the documentation works as typed", () => {
  it.skipIf(!hasPostgres())(
    "postgres.md",
    async () => {
      const server = await startPostgres("test");
      await server.query("DROP DATABASE IF EXISTS none");
      const psql = `psql -h 127.0.0.1 -p ${server.port} -U root -d postgres`;
      const output = await typePage(
        "postgres",
        (block) =>
          block
            .replace("sudo -u postgres psql", psql)
            // The test's server has that database already.
            .replace(
              "CREATE DATABASE vernemq_db OWNER vernemq;",
              "ALTER DATABASE vernemq_db OWNER TO vernemq;",
            ),
        `--set vmq_diversity.postgres.host=127.0.0.1 --set vmq_diversity.postgres.port=${server.port}`,
      );
      expect(output).toContain("accepted");
      expect(output).toContain("bad user name or password");
      expect(output).toContain("refused");
    },
    120_000,
  );

  it.skipIf(!hasMariadb())(
    "mysql.md",
    async () => {
      const server = await startMariadb("test");
      const output = await typePage(
        "mysql",
        (block) =>
          block
            .replace("sudo mariadb", `mariadb -h 127.0.0.1 -P ${server.port} -u root -ppassword`)
            .replace("CREATE DATABASE vernemq_db;", "")
            .replaceAll("'localhost'", "'127.0.0.1'"),
        `--set vmq_diversity.mysql2.host=127.0.0.1 --set vmq_diversity.mysql2.port=${server.port}`,
      );
      expect(output).toContain("accepted");
      expect(output).toContain("refused");
    },
    120_000,
  );

  it.skipIf(!hasRedis())(
    "redis.md",
    async () => {
      const server = await startRedis("test");
      const output = await typePage(
        "redis",
        (block) => block.replace("redis-cli", `redis-cli -p ${server.port}`),
        `--set vmq_diversity.redis.host=127.0.0.1 --set vmq_diversity.redis.port=${server.port}`,
      );
      expect(output).toContain("accepted");
      expect(output).toContain("refused");
    },
    120_000,
  );

  it.skipIf(!hasMongo())(
    "mongodb.md",
    async () => {
      const server = await startMongo("test");
      const output = await typePage(
        "mongodb",
        (block) => block.replace("127.0.0.1:27017", `127.0.0.1:${server.port}`),
        `--set vmq_diversity.mongodb.host=127.0.0.1 --set vmq_diversity.mongodb.port=${server.port}`,
      );
      expect(output).toContain("accepted");
      expect(output).toContain("refused");
    },
    300_000,
  );
});
