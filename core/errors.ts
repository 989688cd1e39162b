/**
 * Coded errors of the broker: one row per code, never reused. A message template names the thing at
 * fault (`{key}`, `{file}`, `{client}` ...); the hint tells the operator what to do.
 */
export interface ErrorRow {
  message: string;
  hint: string;
}

export const ERROR_TABLE = {
  // core/config: see config/load.ts
  CONFIG_UNKNOWN_KEY: {
    message: "{key}: {reason}",
    hint: "`vernemq config describe KEY` shows a key, `vernemq config show --effective` all of them.",
  },
  CONFIG_NOT_LIVE: {
    message: "The following config keys are not settable: [{key}]",
    hint: "Write the key into vernemq.conf and restart the broker.",
  },
  CONFIG_VALUE_REFUSED: {
    message: "{key}: {reason}",
    hint: "`vernemq config describe KEY` shows what a key accepts.",
  },
  // core/listeners
  LISTENER_BIND: {
    message: "listener.{kind}.{name}: cannot listen on {where}: {reason}",
    hint: "Check that the address belongs to this machine, the port is free and, below 1024, allowed.",
  },
  LISTENER_FILE: {
    message: "listener.{kind}.{name}: {file}: {reason}",
    hint: "Check that the file exists, is readable by the broker and holds valid PEM (or PSK lines).",
  },
  LISTENER_TLS: {
    message: "listener.{kind}.{name}: TLS settings refused: {reason}",
    hint: "Check ciphers, eccs and tls_version; `openssl ciphers -v LIST` shows what a list means.",
  },
  // core/admin
  API_KEYS_FILE: {
    message: "the API keys in {file} cannot be read or written: {reason}",
    hint: "Check that the file belongs to the broker's user and the disk is not full; moving it away ends all keys.",
  },
  // core/store
  STORE_LOCKED: {
    message: "the store in {folder} is in use by another process",
    hint: "Stop the other broker, or give this one its own folder with --data-dir.",
  },
  STORE_OPEN: {
    message: "cannot open the store in {folder}: {reason}",
    hint: "Check that the folder is readable and writable and its disk healthy and not full. Repair was tried if the database was damaged; restore a backup, or move the folder away to start empty.",
  },
  STORE_FORMAT: {
    message: "the store in {folder} has format {found}, this broker reads format {known}",
    hint: "Run the broker version that wrote it, or move the folder away to start empty.",
  },
  STORE_WRITE: {
    message: "cannot write to the store in {folder}: {reason}",
    hint: "Check free space and health of the disk. Nothing of it is acknowledged; the broker tries again.",
  },
  STORE_CLOSED: {
    message: "the store in {folder} is not open",
    hint: "This is a fault in the broker; report it with the log around this line.",
  },
  // core/hooks and plugins
  PLUGIN_ALREADY_ENABLED: {
    message: "plugin {plugin} is already enabled",
    hint: "Disable it first, or give the second one another name.",
  },
  PLUGIN_UNKNOWN_HOOK: {
    message: "plugin {plugin} has a function for an unknown hook {hook}",
    hint: "Use one of the hook names of the plugin reference, such as auth_on_publish_m5.",
  },
  HOOK_ANSWER_INVALID: {
    message: "plugin {plugin}, {hook}: {field} {reason}",
    hint: "The client was refused. plugins/MODIFIERS.md lists what each hook may answer.",
  },
  HOOK_TIMEOUT: {
    message: "plugin {plugin}, {hook}: no answer within {timeoutMs} ms",
    hint: "Find out what the plugin waits for, or set plugins.<name>.hook_timeout.",
  },
  HOOK_SUSPENDED: {
    message: "plugin {plugin}, {hook}: not asked for a while after repeated failures",
    hint: "Its clients are refused or, with plugins.<name>.on_error = next, left to the next plugin.",
  },
  PLUGIN_INVALID: {
    message: "plugin {plugin}: {reason}",
    hint: "plugins/README.md shows how a plugin is written.",
  },
  PLUGIN_NOT_FOUND: {
    message: "plugin_not_found: {plugin}: {reason}",
    hint: "Name a bundled plugin, or a file, a folder or an installed package with plugins.<name>.path.",
  },
  PLUGIN_LOAD_FAILED: {
    message: "plugin {plugin} cannot be loaded from {file}: {reason}",
    hint: "Correct the file. A broker that runs keeps the version it has.",
  },
  PLUGIN_START_FAILED: {
    message: "plugin {plugin} ({file}) did not start: {reason}",
    hint: "Correct its settings or its file. A broker that runs keeps the version it has.",
  },
  // core/main and core/broker
  DATA_DIR_IN_USE: {
    message: "data directory {dir} is in use by process {pid}",
    hint: "Stop that broker (`vernemq stop`), or choose another directory with --data-dir.",
  },
  DATA_DIR_UNUSABLE: {
    message: "data directory {dir} cannot be used: {reason}",
    hint: "The directory must exist or be creatable, and be writable for the broker's user.",
  },
  CONTROL_SOCKET_FAILED: {
    message: "control socket {path} cannot be opened: {reason}",
    hint: "vmq-admin and `vernemq ping` need it; check the owner and rights of its folder.",
  },
  NODE_NOT_RUNNING: {
    message: "Node is not running",
    hint: "Start it with `vernemq start`; --data-dir or NAUTILUS_DATA_DIR must name its directory.",
  },
  CONFIG_INVALID: {
    message: "the settings are not valid:\n{errors}",
    hint: "Correct the settings named above.",
  },
  NO_SUCH_LISTENER: {
    message: "there is no listener {listener}",
    hint: "Name one that is configured as listener.<kind>.<name>.",
  },
  INTERNAL: {
    message: "internal error in {where}: {reason}",
    hint: "This is a fault in the broker; report it with the log around this line.",
  },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERROR_TABLE;

/** An error an operator can act on. `code` is stable; `message` is the filled template. */
export class NautilusError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;

  constructor(code: ErrorCode, fields: Record<string, string | number> = {}, cause?: unknown) {
    const row: ErrorRow = ERROR_TABLE[code];
    super(
      row.message.replace(/\{(\w+)\}/g, (_, name: string) => String(fields[name] ?? `{${name}}`)),
      cause === undefined ? undefined : { cause },
    );
    this.name = "NautilusError";
    this.code = code;
    this.hint = row.hint;
  }
}

/** What was thrown, as text: its message if it is an Error. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
