import { parseValue } from "./parse.ts";
import { DOCKER_RULES, type Support } from "./support.ts";

const PREFIX = "DOCKER_VERNEMQ_";

/** A setting that came in by an environment variable. */
export interface EnvironmentEntry {
  readonly variable: string;
  readonly key: string;
  readonly text: string;
}

/**
 * Settings of the environment as VerneMQ's Docker image maps them: prefix cut, the leading part of
 * capitals, digits and `_` lower-cased, `__` to a dot.
 * Differs from VerneMQ: `__` inside a value stays, since its start script breaks such values.
 */
export function readEnvironment(env: NodeJS.ProcessEnv): {
  entries: EnvironmentEntry[];
  problems: string[];
  /** Variables that are no settings, with what becomes of them. */
  others: { variable: string; support: Support }[];
} {
  const entries: EnvironmentEntry[] = [];
  const problems: string[] = [];
  const others: { variable: string; support: Support }[] = [];
  for (const [variable, source] of Object.entries(env)) {
    if (!variable.startsWith(PREFIX) || source === undefined) continue;
    const rule = DOCKER_RULES.find(([part]) => variable.includes(part));
    if (rule !== undefined) {
      others.push({ variable, support: rule[1] });
      continue;
    }
    const key = keyOfVariable(variable);
    const value = parseValue(source);
    if ("problem" in value) problems.push(`environment ${variable}: ${key}: ${value.problem}`);
    else entries.push({ variable, key, text: settingText(key, value.text) });
  }
  return { entries, problems, others };
}

function keyOfVariable(variable: string): string {
  return variable
    .slice(PREFIX.length)
    .replace(/^[A-Z0-9_]*/, (leading) => leading.toLowerCase())
    .replaceAll("__", ".");
}

/** The image takes the host part of the node name only. */
function settingText(key: string, text: string): string {
  return key === "nodename" && !text.includes("@") ? `VerneMQ@${text}` : text;
}
