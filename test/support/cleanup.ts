import { afterAll, afterEach } from "vitest";

/**
 * What a test opened and must close again. Things are closed last first; a file that imports this
 * gets the two hooks by importing it.
 */
type Close = () => unknown | Promise<unknown>;

const ofTest: Close[] = [];
const ofFile: Close[] = [];

/** How long something lives: until the running test ends, or until the last test of the file. */
export type Scope = "test" | "file";

export function atEnd(close: Close, scope: Scope = "test"): void {
  (scope === "test" ? ofTest : ofFile).push(close);
}

async function closeAll(list: Close[]): Promise<void> {
  const faults: unknown[] = [];
  for (let close = list.pop(); close !== undefined; close = list.pop()) {
    try {
      await close();
    } catch (error) {
      faults.push(error);
    }
  }
  if (faults.length > 0) throw new AggregateError(faults, `clean-up failed: ${faults.join("; ")}`);
}

afterEach(() => closeAll(ofTest));
afterAll(() => closeAll(ofFile));
