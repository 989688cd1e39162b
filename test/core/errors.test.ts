import { expect, it } from "vitest";
import { ERROR_TABLE, NautilusError } from "../../core/errors.ts";

it.each(Object.entries(ERROR_TABLE))("%s tells what to do about it", (code, { hint }) => {
  expect(hint).toMatch(/^\S.{15,}\.$/s);
  expect(new NautilusError(code as keyof typeof ERROR_TABLE).hint).toBe(hint);
});
