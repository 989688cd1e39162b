/** One `name=value` of a query string; a name without `=` has no value. */
export interface Parameter {
  readonly name: string;
  readonly value: string | undefined;
}

/** Parameters in their order, decoded; undefined = not decodable. */
export function queryOf(url: string): Parameter[] | undefined {
  const at = url.indexOf("?");
  if (at < 0) return [];
  try {
    return url
      .slice(at + 1)
      .split("&")
      .filter((text) => text !== "")
      .map((text) => {
        const end = text.indexOf("=");
        if (end < 0) return { name: decode(text), value: undefined };
        return { name: decode(text.slice(0, end)), value: decode(text.slice(end + 1)) };
      });
  } catch {
    // decodeURIComponent throws for what is no UTF-8 behind %.
    return undefined;
  }
}

/** The value of a name, `undefined` without one. */
export function textOf(query: readonly Parameter[], name: string): string | undefined {
  return query.find((parameter) => parameter.name === name)?.value;
}

/** True for a name that stands there without a value. */
export function hasFlag(query: readonly Parameter[], name: string): boolean {
  return query.some((parameter) => parameter.name === name && parameter.value === undefined);
}

function decode(text: string): string {
  return decodeURIComponent(text.replaceAll("+", " "));
}
