import { API_KEY_SCOPES, type KeyFault } from "../api-keys.ts";
import { BadCommand, type Command, type Parameter } from "../command.ts";
import { table, text } from "../elements.ts";
import type { AdminTarget } from "../target.ts";

const SCOPE: Parameter = {
  name: "scope",
  value: API_KEY_SCOPES.join("|"),
  help: "what it opens, by default mgmt",
};
const EXPIRES: Parameter = {
  name: "expires",
  value: "yyyy-mm-ddThh:mm:ss",
  help: "when it ends (UTC), by default never",
};

/** `vmq-admin api-key ...` */
export function apiKeyCommands({ apiKeys }: AdminTarget): Command[] {
  return [
    {
      path: ["api-key", "create"],
      help: "makes a key and prints it, once: only its hash is kept",
      args: [SCOPE, EXPIRES],
      check: ({ args }) => {
        const fault = apiKeys.faultOf(args.get("scope") ?? "mgmt", args.get("expires"));
        if (fault !== undefined) throw new BadCommand(faultText(fault));
      },
      run: async ({ args }) => {
        const made = await apiKeys.create(args.get("scope") ?? "mgmt", args.get("expires"));
        if ("fault" in made) throw new Error(faultText(made.fault));
        return [text(made.key)];
      },
    },
    {
      path: ["api-key", "add"],
      help: "adds a key of your own",
      args: [{ name: "key", value: "Key", isRequired: true, help: "the key" }, SCOPE, EXPIRES],
      run: async ({ args }) => {
        const scope = args.get("scope") ?? "mgmt";
        const fault = await apiKeys.add(args.get("key") ?? "", scope, args.get("expires"));
        return [text(answerOf(fault))];
      },
    },
    {
      path: ["api-key", "delete"],
      help: "deletes a key",
      args: [
        {
          name: "key",
          value: "Key",
          isRequired: true,
          help: "the key, or what `api-key show` shows of it",
        },
        { ...SCOPE, help: "only for this scope, by default for all" },
      ],
      run: async ({ args }) => [
        text(answerOf(await apiKeys.delete(args.get("key") ?? "", args.get("scope")))),
      ],
    },
    {
      path: ["api-key", "show"],
      help: "shows fingerprints of all keys, with scope and expiry",
      args: [{ ...SCOPE, value: `all|${SCOPE.value}`, help: "only of this scope" }],
      run: ({ args }) => {
        const scope = args.get("scope");
        return [
          table(
            ["Key", "Scope", "Expires (UTC)", "has expired"],
            apiKeys
              .list(scope === "all" ? undefined : scope)
              .map(({ fingerprint, scope, expiresAtMs, isExpired }) => [
                fingerprint,
                scope,
                expiresAtMs === null ? "never" : dateText(expiresAtMs),
                isExpired,
              ]),
          ),
        ];
      },
    },
  ];
}

function answerOf(fault: KeyFault | undefined): string {
  return fault === undefined ? "ok" : faultText(fault);
}

function faultText(fault: KeyFault): string {
  return `{error,${fault}}`;
}

function dateText(ms: number): string {
  return new Date(ms).toISOString().slice(0, 19).replace("T", " ");
}
