import type { HttpListenerSettings } from "../listeners/types.ts";
import type { Setting } from "./config.ts";
import {
  type Complaint,
  type ListenerContext,
  optionReader,
  readSocket,
  readTls,
  tlsComplaints,
} from "./listener-settings.ts";
import { keyWords, rowOf } from "./schema.ts";
import { readValue } from "./values.ts";

type Kind = HttpListenerSettings["kind"];
type Mode = "noauth" | "apikey";

/**
 * HTTP listeners. A name that only its options mention listens at the kind's default address, as in
 * VerneMQ.
 */
export function httpListenerSettings(context: ListenerContext): {
  listeners: HttpListenerSettings[];
  complaints: Complaint[];
} {
  const complaints: Complaint[] = [];
  const listeners: HttpListenerSettings[] = [];
  for (const [place, setting] of mentioned(context)) {
    const [kind, name] = place.split(" ") as [Kind, string];
    const address =
      context.settings.get(`listener.${kind}.${name}`)?.text ??
      rowOf(`listener.${kind}.${name}`)?.default ??
      "";
    const options = optionReader(context, kind, name);
    const own = options.texts("http_modules");
    const modules = own.length > 0 ? own : globalModules(context);
    const listener = Object.freeze({
      ...readSocket(address, name, options, context),
      kind,
      modules,
      authModes: new Map(
        modules.map((module) => [module, authMode(context, kind, name, module)] as const),
      ),
      tls: kind === "https" ? readTls(options, context) : undefined,
    });
    complaints.push(...tlsComplaints(setting, listener, options, context));
    listeners.push(listener);
  }
  return { listeners, complaints };
}

/** Names of both kinds in the order of their first mention, with the setting that mentions them. */
function mentioned({ settings }: ListenerContext): Map<string, Setting> {
  const found = new Map<string, Setting>();
  for (const setting of settings.values()) {
    const [first, kind, name = ""] = keyWords(setting.key);
    if (first !== "listener" || (kind !== "http" && kind !== "https")) continue;
    const isNamed = keyWords(setting.row.key)[2] === "$name";
    if (isNamed && !found.has(`${kind} ${name}`)) found.set(`${kind} ${name}`, setting);
  }
  return found;
}

function globalModules({ settings }: ListenerContext): readonly string[] {
  const written = settings.get("http_modules")?.value;
  return Array.isArray(written) ? written.map(String) : bundledModules();
}

/** The modules of the broker itself, which listeners have when nobody wrote otherwise. */
export function bundledModules(): readonly string[] {
  const row = rowOf("http_modules");
  const reading = row?.default === undefined ? undefined : readValue(row, row.default);
  return reading?.ok === true && Array.isArray(reading.value) ? reading.value.map(String) : [];
}

/** Open where nobody wrote otherwise, as in VerneMQ; a module of a plugin is not. */
const OPEN_MODULES = ["vmq_metrics_http", "vmq_status_http", "vmq_health_http"];

/** The listener's own mode, then the module's, then the module's default. */
function authMode(context: ListenerContext, kind: Kind, name: string, module: string): Mode {
  const global = `http_module.${module}.auth.mode`;
  const mode =
    context.settings.get(`listener.${kind}.${name}.${global}`)?.text ??
    context.settings.get(global)?.text ??
    (OPEN_MODULES.includes(module) ? "noauth" : "apikey");
  return mode === "noauth" ? "noauth" : "apikey";
}
