import type { Setting } from "./config.ts";
import type { Complaint } from "./listener-settings.ts";
import { keyWords } from "./schema.ts";

/** Faults between several keys, outside of listeners. A key that is wrong by itself is written too. */
export function relationFaults(
  settings: ReadonlyMap<string, Setting>,
  isWritten: (key: string) => boolean,
): Complaint[] {
  return [...webhookFaults(settings, isWritten), ...syslogFaults(settings)];
}

/** An address that the plugin can call; unix sockets as nginx writes them. */
const ENDPOINT = /^https?:\/\/(unix:\/[^:]+(:\/[^\s#]*)?|[^\s/?#]+([/?][^\s#]*)?)$/;

/** A configured webhook needs both its hook and its endpoint. */
function webhookFaults(
  settings: ReadonlyMap<string, Setting>,
  isWritten: (key: string) => boolean,
): Complaint[] {
  const faults: Complaint[] = [];
  for (const setting of settings.values()) {
    const [, name = "", option = ""] = keyWords(setting.key);
    if (setting.row.key !== `vmq_webhooks.$name.${option}`) continue;
    if (option !== "hook" && option !== "endpoint") continue;
    const other = `vmq_webhooks.${name}.${option === "hook" ? "endpoint" : "hook"}`;
    if (!isWritten(other)) faults.push({ setting, wrong: `${other} is not defined` });
    else if (option === "endpoint" && !ENDPOINT.test(setting.text)) {
      const wrong = `"${setting.text}" is no endpoint, allowed: http://host/path, https://host/path, http://unix:/socket:/path`;
      faults.push({ setting, wrong });
    }
  }
  return faults;
}

/** Syslog over TLS exists only in the newer format, and needs to know whom to trust. */
function syslogFaults(settings: ReadonlyMap<string, Setting>): Complaint[] {
  const protocol = settings.get("log.syslog.remote.protocol");
  if (protocol?.text !== "tls") return [];
  const faults: Complaint[] = [];
  if (settings.get("log.syslog.format")?.text !== "rfc5424") {
    faults.push({ setting: protocol, wrong: "tls needs log.syslog.format = rfc5424" });
  }
  if ((settings.get("log.syslog.remote.tls.cafile")?.text ?? "") === "") {
    faults.push({ setting: protocol, wrong: "tls needs log.syslog.remote.tls.cafile" });
  }
  return faults;
}
