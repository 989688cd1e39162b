import type { SchemaRow } from "../schema.ts";

/** Kinds of listeners: second word of `listener.<kind>.<name>`. */
export type ListenerKind = "tcp" | "ssl" | "ws" | "wss" | "vmq" | "vmqs" | "http" | "https";

/** Where an option may be written: `listener.<kind>.x`, `listener.<kind>.<name>.x`. */
type Level = "protocol" | "named";

/** An option that listeners of some kinds have; `expand` makes its rows. */
export interface ListenerOption extends Omit<SchemaRow, "key"> {
  readonly option: string;
  readonly kinds: readonly ListenerKind[];
  readonly levels: readonly Level[];
  /** Default of the named level; `default` is that of the protocol level, the built-in one. */
  readonly namedDefault?: string;
  /** `kind:level` pairs that VerneMQ's generated file shows; all others are hidden. */
  readonly shown?: readonly string[];
  /** Levels that VerneMQ does not have and we added. */
  readonly added?: readonly Level[];
}

export const MQTT: readonly ListenerKind[] = ["tcp", "ssl", "ws", "wss"];
export const CLUSTER: readonly ListenerKind[] = ["vmq", "vmqs"];
export const HTTP: readonly ListenerKind[] = ["http", "https"];
export const TLS: readonly ListenerKind[] = ["ssl", "wss", "vmqs", "https"];
export const WEBSOCKET: readonly ListenerKind[] = ["ws", "wss"];
export const BOTH: readonly Level[] = ["protocol", "named"];
export const NAMED: readonly Level[] = ["named"];
export const PROTOCOL: readonly Level[] = ["protocol"];

/** How docs name a kind. */
export const KIND_WORDS: Record<ListenerKind, string> = {
  tcp: "plain MQTT",
  ssl: "MQTT over TLS",
  ws: "MQTT over WebSocket",
  wss: "MQTT over secure WebSocket",
  vmq: "inter-node",
  vmqs: "inter-node TLS",
  http: "HTTP",
  https: "HTTPS",
};

/** One row for each kind and level of an option. */
export function expand(entry: ListenerOption): SchemaRow[] {
  const { option, kinds, levels, namedDefault, shown, added, ...common } = entry;
  return kinds.flatMap((kind) =>
    levels.map((level): SchemaRow => {
      const { default: builtIn, ...rest } = common;
      const fallback = level === "named" ? namedDefault : builtIn;
      const isShown = shown?.includes(`${kind}:${level}`) === true;
      return {
        ...rest,
        key: `listener.${kind}.${level === "named" ? "$name." : ""}${option}`,
        ...(fallback === undefined ? {} : { default: fallback }),
        ...(isShown ? {} : { hidden: true as const }),
        ...(added?.includes(level) === true ? { since: "nautilus" } : {}),
        doc:
          level === "named"
            ? `${rest.doc} (One ${KIND_WORDS[kind]} listener.)`
            : `${rest.doc} (All ${KIND_WORDS[kind]} listeners.)`,
      };
    }),
  );
}
