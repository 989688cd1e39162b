import { CONNACK, DISCONNECT, PUBACK, SUBACK } from "../mqtt/packets.ts";
import { REASON_CODES } from "../mqtt/reason-codes.ts";
import { MODIFIERS, type ModifierRow, type Shape } from "./modifier-table.ts";

const INTRO = `# Modifiers

<!-- Made from core/hooks/modifier-table.ts: npx vitest run test/core/hooks/modifier-reference.test.ts -u -->

What a plugin of any kind (TypeScript, Lua, webhook) may answer:

| Answer | Meaning |
|---|---|
| \`"ok"\` | accepted; no further plugin is asked |
| \`{ ok: { ...modifiers } }\` | accepted with changes; without any it is \`"ok"\` |
| \`"next"\` | the next plugin decides; after the last one it is a refusal |
| \`"unavailable"\` | likewise, of somebody who cannot decide now: clients are refused even with \`allow_anonymous = hooks\`, and told 0x88 and not 0x86 |
| \`{ error: reason }\` | refused; \`reason\` is a name, a number or \`{ reason_code, reason_string, properties }\` |

The modifiers below are all there are. One that is not in the list of its hook, or whose value is out of
range, makes the answer a refusal; the log names plugin, hook, modifier and what is allowed. Numbers are
rounded. Fields that are undefined or null count as absent.

- auth_on_publish, on_deliver and their \`_m5\` forms also take a payload alone: \`{ ok: "text" }\`.
- auth_on_subscribe, on_unsubscribe and their \`_m5\` forms take the list of topics alone: \`{ ok: [...] }\`.
- on_unsubscribe and on_deliver cannot refuse: an error leaves the packet as it is.
- A refusal of auth_on_register(_m5) with a bare name is 0x86 in MQTT 5 (\`invalid_credentials\`: 4 in 3.x), as in
  VerneMQ; for another code write a number or \`{ reason_code: "quota_exceeded" }\`.
- An entry of the list of auth_on_subscribe_m5 may also have \`rap\`, \`no_local\`, \`retain_handling\` (\`send_retain\`,
  \`send_if_new_sub\`, \`dont_send\`) and \`sub_id\`; what it leaves out stays as requested.
`;

const GROUPS: readonly [title: string, v3: string | undefined, v5: string][] = [
  ["auth_on_register, auth_on_register_m5", "auth_on_register", "auth_on_register_m5"],
  ["on_auth_m5", undefined, "on_auth_m5"],
  ["auth_on_publish, auth_on_publish_m5 (wills too)", "auth_on_publish", "auth_on_publish_m5"],
  ["auth_on_subscribe, auth_on_subscribe_m5", "auth_on_subscribe", "auth_on_subscribe_m5"],
  ["on_unsubscribe, on_unsubscribe_m5", "on_unsubscribe", "on_unsubscribe_m5"],
  ["on_deliver, on_deliver_m5", "on_deliver", "on_deliver_m5"],
];

/** The reference page of all modifiers, plugins/MODIFIERS.md. */
export function modifierReference(): string {
  const parts = GROUPS.map(([title, v3, v5]) => {
    const rows = MODIFIERS.filter(({ hooks }) => hooks.some((hook) => hook === v3 || hook === v5));
    const used = rows.filter((row) => row.shape.kind !== "refused");
    const refused = rows.filter((row) => row.shape.kind === "refused");
    const lines = used.map(
      (row) => `| ${row.name} | ${versions(row)} | ${values(row.shape)} | ${row.effect} |`,
    );
    const notes = refused.map((row) => `- \`${row.name}\` (${versions(row)}): ${row.effect}`);
    return [
      `## ${title}\n`,
      "| Modifier | MQTT | Value | Effect |",
      "|---|---|---|---|",
      ...lines,
      ...(notes.length === 0 ? [] : ["\nRefused, though VerneMQ has the names:\n", ...notes]),
    ].join("\n");
  });
  return `${[INTRO, ...parts, reasonCodes()].join("\n")}\n`
    .replace(/\n(## )/g, "\n\n$1")
    .replace(/\n{3,}/g, "\n\n");
}

function versions({ hooks }: ModifierRow): string {
  const isV5 = hooks.some((hook) => hook.endsWith("_m5"));
  const isV3 = hooks.some((hook) => !hook.endsWith("_m5"));
  return isV3 && isV5 ? "3.x, 5" : isV5 ? "5" : "3.x";
}

function values(shape: Shape): string {
  switch (shape.kind) {
    case "integer": {
      const unit = shape.unit === undefined ? "" : ` ${shape.unit}`;
      return `${shape.min} to ${shape.max}${unit}`;
    }
    case "flag":
      return "true, false";
    case "text":
      return "string";
    case "choice":
      return shape.values.join(", ");
    case "subscriber":
      return "{ mountpoint, client_id }";
    case "topic":
      return "topic";
    case "payload":
      return "string or Buffer";
    case "reason":
      return "success (0), continue_authentication (24)";
    case "properties":
      return shape.names.join(" ");
    case "topics":
      return "list of { topic, qos }";
    case "filters":
      return "list of topic filters";
    case "refused":
      return "";
    default:
      return shape satisfies never;
  }
}

const PLACES = [
  [CONNACK, "CONNACK"],
  [PUBACK, "PUBACK, PUBREC"],
  [SUBACK, "SUBACK"],
  [DISCONNECT, "DISCONNECT"],
] as const;

function reasonCodes(): string {
  const rows = REASON_CODES.filter(({ code }) => code >= 0x80).map(({ code, names, server }) => {
    const where = PLACES.filter(([type]) => server.includes(type)).map(([, name]) => name);
    return `| ${names.join(", ")} | ${code} | 0x${code.toString(16).toUpperCase()} | ${where.join(", ")} |`;
  });
  return [
    "## Reason codes\n",
    "By name or number. A packet that may not carry a code gets 0x87, CONNACK 0x86.\n",
    "| Name | Number | | Packets to a client |",
    "|---|---|---|---|",
    ...rows,
  ].join("\n");
}
