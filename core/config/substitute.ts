/** The outcome of one substitution: the text, or what is wrong. */
export type Substituted = { ok: true; text: string } | { ok: false; wrong: string };

/** Longest text a substitution may give: keys that double each other would fill the memory. */
const TEXT_MAX = 65_536;

/**
 * Makes the function that replaces each `$(name)` in a key's text by the value of that key, or by
 * the environment variable of exactly that name. `textOf` gives the raw text of a key, its default
 * included. Each key is resolved once.
 */
export function createSubstitution(
  textOf: (key: string) => string | undefined,
  env: NodeJS.ProcessEnv,
): (key: string) => Substituted {
  const done = new Map<string, Substituted>();

  function resolveName(name: string, path: readonly string[]): Substituted {
    if (path.includes(name)) {
      return { ok: false, wrong: `substitution goes in a circle: ${[...path, name].join(" -> ")}` };
    }
    const known = done.get(name);
    if (known !== undefined) return known;
    const text = textOf(name);
    const value = text === undefined ? fromEnvironment(name) : resolveText(text, [...path, name]);
    // A fault is not kept: the text of a circle depends on where it was entered.
    if (value.ok) done.set(name, value);
    return value;
  }

  function resolveText(text: string, path: readonly string[]): Substituted {
    let result = "";
    let at = 0;
    for (const found of text.matchAll(/\$\(([^()]*)\)/g)) {
      const value = resolveName(found[1]?.trim() ?? "", path);
      if (!value.ok) return value;
      result += text.slice(at, found.index) + value.text;
      at = found.index + found[0].length;
      if (result.length > TEXT_MAX)
        return { ok: false, wrong: "substitution gives too long a text" };
    }
    return { ok: true, text: result + text.slice(at) };
  }

  function fromEnvironment(name: string): Substituted {
    const text = env[name];
    if (text !== undefined) return { ok: true, text };
    const wrong = `$(${name}) is not set, allowed: a key or an environment variable that is set`;
    return { ok: false, wrong };
  }

  return (key) => resolveName(key, []);
}
