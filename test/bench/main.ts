// `npm run bench -- [SUITE] [options]`: picks a suite and runs it.
import { parseArgs } from "node:util";
import { PEER_NAMES } from "./peers.ts";
import { SUITES, type SuiteOptions } from "./suites.ts";

const RUNS = { normal: 3, quick: 1, max: 20 } as const;
/** Long enough for a just-in-time compiler to settle, short enough for ten minutes in all. */
const SECONDS = { normal: 3, quick: 1, max: 60 } as const;

const HELP = `usage: npm run bench -- [SUITE] [options]
suites:
${Object.entries(SUITES)
  .map(([name, { about }]) => `  ${name.padEnd(10)} ${about}`)
  .join("\n")}
options:
  --rows A,B      only these rows
  --only A,B      only these brokers (${PEER_NAMES.join(", ")})
  --runs N        runs per cell, the median counts (default ${RUNS.normal})
  --seconds N     seconds of load per run (default ${SECONDS.normal})
  --quick         ${RUNS.quick} run of ${SECONDS.quick} s: to see that all works, not how fast
  --json          the report as one line of JSON
environment:
  MQTTLOAD        path of the C load generator, used instead of test/bench/load`;

async function main(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      rows: { type: "string" },
      only: { type: "string" },
      runs: { type: "string" },
      seconds: { type: "string" },
      quick: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const name = positionals[0] ?? "broker";
  const suite = SUITES[name];
  if (suite === undefined) throw new Error(`no suite ${name}\n${HELP}`);
  const only = list(values.only);
  for (const broker of only ?? [])
    if (!PEER_NAMES.some((known) => known === broker)) throw new Error(`no broker ${broker}`);
  const options: SuiteOptions = {
    runs: count("--runs", values.runs, RUNS.max, values.quick ? RUNS.quick : RUNS.normal),
    seconds: count(
      "--seconds",
      values.seconds,
      SECONDS.max,
      values.quick ? SECONDS.quick : SECONDS.normal,
    ),
    rows: list(values.rows),
    only,
    isJson: values.json,
  };
  return suite.run(options);
}

function list(value: string | undefined): ReadonlySet<string> | undefined {
  return value === undefined ? undefined : new Set(value.split(",").filter(Boolean));
}

function count(name: string, value: string | undefined, max: number, fallback: number): number {
  if (value === undefined) return fallback;
  const n = Number(value);
  if (!Number.isInteger(n) || n < 1 || n > max) throw new Error(`${name} must be 1..${max}`);
  return n;
}

// an exit takes the brokers along, a bare signal would leave them behind
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130));

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 2;
}
