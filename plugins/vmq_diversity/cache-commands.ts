/** `vmq-admin script cache ...`: what `auth_cache` holds. */
import { type PluginCommand, table } from "../../core/plugin-api.ts";
import type { AuthCache } from "./auth-cache.ts";

/** Rows of a list without a client id. */
const ROWS_MAX = 100;

/** The commands `script cache show` and `script cache clear`. */
export function cacheCommands(cache: AuthCache): PluginCommand[] {
  return [
    {
      path: ["script", "cache", "show"],
      usage: "script cache show [client-id=CLIENT]",
      help: "clients whose ACLs the scripts have cached; with a client id its rules as well",
      run: (args) => {
        const clientId = clientIdOf(args);
        return clientId === undefined ? showAll(cache) : showOne(cache, clientId);
      },
    },
    {
      path: ["script", "cache", "clear"],
      usage: "script cache clear [client-id=CLIENT]",
      help: "forgets the cached ACLs of a client, or all; the scripts are asked from then on",
      run: (args) => `${cache.clear(clientIdOf(args))} entries cleared\n`,
    },
  ];
}

function clientIdOf(args: ReadonlyMap<string, string>): string | undefined {
  return args.get("client-id") ?? args.get("client_id");
}

function showAll(cache: AuthCache): string {
  const { entries, bytes, hits, misses, evictions } = cache.metrics;
  const more = entries > ROWS_MAX ? `... and ${entries - ROWS_MAX} more\n` : "";
  const kib = Math.ceil(bytes / 1024);
  const sum = `${entries} entries, ${kib} KiB, ${hits} hits, ${misses} misses, ${evictions} evictions\n`;
  return `${rowTable(cache.show(undefined, ROWS_MAX))}${more}${sum}`;
}

function showOne(cache: AuthCache, clientId: string): string {
  const rows = cache.show(clientId);
  if (rows.length === 0) return `no entry for ${clientId}: its checks go to the scripts\n`;
  return `${rowTable(rows)}\n${rowTable(cache.rules(clientId))}`;
}

/** Rows with their keys above; nothing for none. */
function rowTable(rows: readonly object[]): string {
  const [first] = rows;
  if (first === undefined) return "";
  return table(
    Object.keys(first),
    rows.map((row) => Object.values(row).map(String)),
  );
}
