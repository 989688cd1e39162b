// The suites of the bench, by the name that `npm run bench -- NAME` gives.
import { runBridgeSuite } from "./bridge-suite.ts";
import { runBrokerSuite } from "./broker-suite.ts";
import { runHooksSuite } from "./hooks-suite.ts";
import { runLuaCacheSuite } from "./lua-cache-suite.ts";
import { runLuaSuite } from "./lua-suite.ts";
import { runScrapeSuite } from "./scrape-suite.ts";
import { runWebhooksSuite } from "./webhooks-suite.ts";

/** Options that every suite gets; a suite ignores what it has no use for. */
export interface SuiteOptions {
  /** Runs per cell; the median counts. */
  readonly runs: number;
  /** Seconds that one run sends for. */
  readonly seconds: number;
  /** Rows to run; undefined: all. */
  readonly rows: ReadonlySet<string> | undefined;
  /** Brokers to run; undefined: all that are there. */
  readonly only: ReadonlySet<string> | undefined;
  readonly isJson: boolean;
}

/** A suite: what it is about, and how it runs. It gives the exit status. */
export interface Suite {
  readonly about: string;
  run(options: SuiteOptions): Promise<number>;
}

/** All suites. A new one is a line here and a file beside this one. */
export const SUITES: Readonly<Record<string, Suite>> = {
  broker: { about: "throughput, CPU and memory against Mosquitto and Aedes", run: runBrokerSuite },
  lua: {
    about: "publish and register decisions in Lua, beside the same without Lua",
    run: runLuaSuite,
  },
  webhooks: { about: "what decisions of an HTTP endpoint cost", run: runWebhooksSuite },
  bridge: { about: "a one-way bridge against Mosquitto's", run: runBridgeSuite },
  hooks: { about: "what a chain of synchronous plugins adds to a publish", run: runHooksSuite },
  scrape: { about: "a scrape of /metrics with 10 000 clients", run: runScrapeSuite },
  "lua-cache": {
    about: "a publish that auth_cache of vmq_diversity answers",
    run: runLuaCacheSuite,
  },
};
