import { openSync, writeSync } from "node:fs";
import { EmbeddedStore } from "../../../../core/store/embedded/embedded-store.ts";
import { Driver, readState, seededRandom } from "../model.ts";

/**
 * Changes a store at random until it is killed: `kill-child.ts FOLDER JOURNAL SEED FIRST_MESSAGE`.
 * Each change goes to the journal as it is made, each commit as it is told; what is in the journal
 * survives the kill. Commits go to stdout too, for whoever chooses the moment.
 */
const [folder = "", journal = "", seed = "", firstMessage = ""] = process.argv.slice(-4);
const file = openSync(journal, "a");
const note = (line: unknown) => writeSync(file, `${JSON.stringify(line)}\n`);

const store = new EmbeddedStore({ folder });
store.onCommit = (batch) => {
  note({ committed: batch });
  process.stdout.write(`${batch}\n`);
};
store.onError = (error) => note({ error: error.message });
await store.open();

const random = seededRandom(Number(seed));
const driver = new Driver(store, random, await readState(store), Number(firstMessage));
await driver.load();
for (;;) {
  for (let i = random(30); i >= 0; i--) {
    const { change, batch } = driver.step();
    note({ change, batch, lastMessage: driver.lastMessage });
  }
  if (random(10) === 0) await driver.read();
  else await new Promise((resolve) => setImmediate(resolve));
}
