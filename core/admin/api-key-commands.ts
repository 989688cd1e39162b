import { API_KEY_SCOPES, type KeyFault } from "./api-keys.ts";
import { type Command, table, UsageError } from "./command.ts";

/** `vmq-admin api-key ...` (admin-cli.md, section 9). */
export const API_KEY_COMMANDS: readonly Command[] = [
  {
    path: ["api-key", "create"],
    usage: "api-key create [scope=SCOPE] [expires=DATE]",
    help: `makes a key and prints it, once: only its hash is kept. Scopes: ${API_KEY_SCOPES.join(", ")}; dates like 2031-01-31T00:00:00 (UTC)`,
    run: async ({ apiKeys }, args) => {
      const made = await apiKeys.create(args.get("scope") ?? "mgmt", args.get("expires"));
      if ("fault" in made) throw new UsageError(faultText(made.fault));
      return `${made.key}\n`;
    },
  },
  {
    path: ["api-key", "add"],
    usage: "api-key add key=KEY [scope=SCOPE] [expires=DATE]",
    help: "adds a key of your own",
    run: async ({ apiKeys }, args) => {
      const scope = args.get("scope") ?? "mgmt";
      return answer(await apiKeys.add(keyOf(args), scope, args.get("expires")));
    },
  },
  {
    path: ["api-key", "delete"],
    usage: "api-key delete key=KEY [scope=SCOPE]",
    help: "deletes a key, named by itself or by what `api-key show` shows of it",
    run: async ({ apiKeys }, args) => answer(await apiKeys.delete(keyOf(args), args.get("scope"))),
  },
  {
    path: ["api-key", "show"],
    usage: "api-key show [scope=SCOPE]",
    help: "fingerprints of all keys, with scope and expiry",
    run: ({ apiKeys }, args) => {
      const scope = args.get("scope");
      return table(
        ["Key", "Scope", "Expires (UTC)", "has expired"],
        apiKeys
          .list(scope === "all" ? undefined : scope)
          .map(({ fingerprint, scope, expiresAtMs, isExpired }) => [
            fingerprint,
            scope,
            expiresAtMs === null ? "never" : dateText(expiresAtMs),
            isExpired,
          ]),
      );
    },
  },
];

function keyOf(args: ReadonlyMap<string, string>): string {
  const key = args.get("key");
  if (key === undefined || key === "") throw new UsageError("key is missing");
  return key;
}

function answer(fault: KeyFault | undefined): string {
  return fault === undefined ? "ok\n" : `${faultText(fault)}\n`;
}

function faultText(fault: KeyFault): string {
  return `{error,${fault}}`;
}

function dateText(ms: number): string {
  return new Date(ms).toISOString().slice(0, 19).replace("T", " ");
}
