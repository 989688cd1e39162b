import { nearest } from "./nearest.ts";
import { fillNames, keyWords, type Schema, STANDARD_SCHEMA } from "./schema.ts";

/** Names that VerneMQ's documentation shows but no release knew, with the right ones. */
const MISNAMED: Readonly<Record<string, string>> = {
  vmq_reg_view: "default_reg_view",
  message_size_limit: "max_message_size",
};

/** What is wrong with an unknown key, with the nearest known ones. */
export function unknownKey(key: string, schema: Schema = STANDARD_SCHEMA): string {
  const words = keyWords(key);
  const candidates = schema.rows.map((row) =>
    row.key.includes("$") && keyWords(row.key).length === words.length
      ? fillNames(row.key, words)
      : row.key,
  );
  const right = MISNAMED[key];
  const near = right === undefined ? nearest(key, candidates, 3) : [right];
  const meant = near.length === 0 ? "" : `, did you mean ${near.join(" or ")}?`;
  return `there is no setting with that name${meant}`;
}
