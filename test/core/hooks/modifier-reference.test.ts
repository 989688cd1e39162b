import { expect, test } from "vitest";
import { modifierReference } from "../../../core/hooks/modifier-reference.ts";

test("plugins/MODIFIERS.md is what the table of modifiers says", async () => {
  await expect(modifierReference()).toMatchFileSnapshot("../../../plugins/MODIFIERS.md");
});
