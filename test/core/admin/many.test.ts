import { expect, it } from "vitest";
import type { Element } from "../../../core/admin/elements.ts";
import { inSlices } from "../../../core/admin/fields.ts";
import { render, renderLong } from "../../../core/admin/render.ts";

/** What goes through all sessions of a large broker must not hold up its clients. */

/** Counts the turns of the event loop that others get while `work` runs. */
async function turnsDuring(work: () => Promise<unknown>): Promise<number> {
  let turns = 0;
  let isOver = false;
  const count = (): void => {
    turns++;
    if (!isOver) setImmediate(count);
  };
  setImmediate(count);
  await work();
  isOver = true;
  return turns;
}

it("100 000 items are gone through in slices, with turns for others in between", async () => {
  let seen = 0;
  const turns = await turnsDuring(async () => {
    for await (const item of inSlices(Array(100_000).keys())) {
      // About as much as a row of `session show`.
      const until = performance.now() + 0.002;
      while (performance.now() < until) seen += item % 2;
    }
  });
  expect(seen).toBeGreaterThan(0);
  expect(turns).toBeGreaterThan(10);
});

it("a table of 20 000 rows is written in pieces, the same as in one go", async () => {
  const rows = Array.from({ length: 20_000 }, (_, at) => [`client-${at}`, at % 3 === 0, at, null]);
  const elements: Element[] = [{ type: "table", columns: ["client_id", "b", "n", "x"], rows }];
  for (const format of ["human", "json", "csv"]) {
    let found = "";
    const turns = await turnsDuring(async () => {
      found = (await renderLong(elements, format)).stdout;
    });
    expect(turns).toBeGreaterThanOrEqual(40);
    expect(found).toBe(render(elements, format).stdout);
  }
  const parsed = JSON.parse(render(elements, "json").stdout) as { table: object[] };
  expect(parsed.table).toHaveLength(20_000);
  expect(parsed.table.at(-1)).toEqual({ client_id: "client-19999", b: false, n: 19_999, x: null });
});
