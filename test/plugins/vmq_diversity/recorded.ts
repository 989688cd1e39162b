import { readFileSync } from "node:fs";
import { join } from "node:path";

/** Recordings of VerneMQ 2.2.0: what a hook's answer did to clients. A is who caused the call. */
export interface Recorded {
  readonly hook: string;
  /** Lua; `@` is the client's id. */
  readonly lua_returned: string;
  readonly scenario: string;
  readonly client: readonly string[];
}

export function recordedText(name: string): string {
  return readFileSync(join(import.meta.dirname, "golden", name), "utf8");
}

/** The recorded answers of one hook. */
export function recordedAnswers(hook: string): Recorded[] {
  return recordedText("returns.jsonl")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Recorded)
    .filter((recorded) => recorded.hook === hook);
}

/** A script whose `hook` answers the client `g<i>` as recorded in case i, and everybody else with true. */
export function answeringScript(hook: string, cases: readonly Recorded[]): string {
  const entries = cases.map(({ lua_returned }, i) => {
    const answer = lua_returned.replaceAll("@", '" .. id .. "');
    return `["g${i}"] = function(id) return ${answer} end`;
  });
  return `local cases = { ${entries.join(",\n")} }
    local function yes() return true end
    hooks = { auth_on_register = yes, auth_on_register_m5 = yes, auth_on_publish = yes, auth_on_publish_m5 = yes,
      auth_on_subscribe = yes, auth_on_subscribe_m5 = yes }
    hooks["${hook}"] = function(a)
      local f = cases[a.client_id]
      if f then return f(a.client_id) end
      return true
    end`;
}
