import { accessSync, constants, readFileSync, statSync } from "node:fs";
import { resolve } from "node:path";
import type { SchemaRow } from "./schema.ts";

/** Runs a row's checks beyond its type on a value's text; a text says what is wrong. */
export function checkValue(row: SchemaRow, text: string, cwd: string): string | undefined {
  for (const check of row.checks ?? []) {
    switch (check) {
      case "one character":
        if ([...text].length !== 1) return `"${text}" is not exactly one character`;
        break;
      case "readable": {
        const problem = text === "" ? undefined : fileProblem(text, cwd);
        if (problem !== undefined) return problem;
        break;
      }
      case "pem":
        if (
          text !== "" &&
          !/-----BEGIN [A-Z0-9 ]+-----/.test(readFileSync(resolve(cwd, text), "utf8"))
        )
          return `"${text}" is not a PEM file`;
        break;
      default:
        check satisfies never;
    }
  }
  return undefined;
}

/** Why a file cannot be used, or undefined. */
export function fileProblem(path: string, cwd: string): string | undefined {
  const full = resolve(cwd, path);
  try {
    if (statSync(full).isDirectory()) return `"${path}" is a directory, not a file`;
  } catch {
    return `there is no file "${path}"`;
  }
  try {
    accessSync(full, constants.R_OK);
    return undefined;
  } catch {
    return `"${path}" is not readable`;
  }
}
