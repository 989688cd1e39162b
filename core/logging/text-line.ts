/** Lines for people: `text` and `simple` are VerneMQ's two templates, `tty` is short and coloured. */
export type TextFormat = "text" | "simple" | "tty";

type Fields = Readonly<Record<string, unknown>>;

/** Lines of the same millisecond have the same time. */
let shownMs = Number.NaN;
let shownTime = "";

/** A line; of a field that is in both, the own one counts. */
export function textLine(
  format: TextFormat,
  level: string,
  nowMs: number,
  message: string,
  [common, own]: readonly [common: Fields, own: Fields],
): string {
  if (nowMs !== shownMs) {
    shownMs = nowMs;
    shownTime = new Date(nowMs).toISOString();
  }
  let facts = "";
  for (const key in common) if (!(key in own)) facts += ` ${key}=${fieldText(common[key])}`;
  for (const key in own) facts += ` ${key}=${fieldText(own[key])}`;
  if (format === "tty") {
    return `${shownTime.slice(11, 23)} ${coloured(level)} ${message}\u001b[2m${facts}\u001b[0m\n`;
  }
  const at = shownTime.replace("Z", "000+00:00");
  return format === "simple"
    ? `${at} ${level}: ${message}${facts}\n`
    : `${at} [${level}] <${process.pid}> ${message}${facts}\n`;
}

function fieldText(value: unknown): string {
  if (typeof value === "number" && Number.isFinite(value)) return String(value);
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "null");
  if (/^[\w.:/@+-]+$/.test(text)) return text;
  return /[\s"=\p{Cc}]|^$/u.test(text) ? JSON.stringify(text) : text;
}

function coloured(level: string): string {
  const colour = level === "error" || level === "critical" ? 31 : level === "warning" ? 33 : 32;
  return `\u001b[${colour}m${level.padEnd(7)}\u001b[0m`;
}
