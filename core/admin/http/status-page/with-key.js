import { ask, hasKey } from "./api.js";
import { byId, element, table, tell } from "./elements.js";
import { literalPattern, tableOf } from "./model.js";

const SESSIONS_MAX = 100;

/** Names of the plugins that run. */
let pluginNames = new Set();

/** Plugins came or went: so do their tables. */
export function pluginsAre(names) {
  const hasChanged = String([...names]) !== String([...pluginNames]);
  pluginNames = names;
  if (hasChanged && hasKey()) void showDetails();
}

/** Shows or hides all that needs a key. */
export async function showWithKey() {
  byId("with-key").hidden = !hasKey();
  byId("forget").hidden = !hasKey();
  if (!hasKey()) return;
  await Promise.all([searchSessions(), showDetails()]);
}

/** Sessions that fit what was typed. */
export async function searchSessions() {
  const text = byId("search").value.trim();
  const flags = ["client_id", "user", "is_online", "peer_host", "mountpoint", "queue_size"];
  const parts = [...flags.map((flag) => `--${flag}`), `--limit=${SESSIONS_MAX}`];
  if (text !== "") parts.push(`--client_id=${encodeURIComponent(`~${literalPattern(text)}`)}`);
  if (byId("online").checked) parts.push("--is_online=true");
  try {
    const rows = tableOf(await ask(`/api/v1/session/show?${parts.join("&")}`));
    showSessions(rows);
    const more = rows.length >= SESSIONS_MAX ? ` (the first ${SESSIONS_MAX})` : "";
    tell("sessions-state", `${rows.length} sessions found${more}`);
  } catch (error) {
    byId("sessions").replaceChildren();
    tell("sessions-state", faultText(error), true);
  }
}

function showSessions(sessions) {
  const rows = sessions.map((session) => {
    const button = element("button", "Disconnect");
    button.type = "button";
    button.setAttribute("aria-label", `Disconnect ${session.client_id}`);
    button.addEventListener("click", () => disconnect(session));
    return [
      session.client_id,
      session.user ?? "",
      session.is_online ? "connected" : "offline",
      session.peer_host ?? "",
      session.mountpoint,
      session.queue_size,
      button,
    ];
  });
  const head = ["Client id", "User", "State", "From", "Mountpoint", "Waiting", ""];
  byId("sessions").replaceChildren(table("Sessions", head, rows));
}

async function disconnect({ client_id: clientId, mountpoint }) {
  if (!(await confirmed(clientId))) return;
  const parts = [`client-id=${encodeURIComponent(clientId)}`];
  if (mountpoint !== "") parts.push(`--mountpoint=${encodeURIComponent(mountpoint)}`);
  if (byId("cleanup").checked) parts.push("--cleanup");
  try {
    await ask(`/api/v1/session/disconnect?${parts.join("&")}`);
    await searchSessions();
    tell("sessions-state", `${clientId} was disconnected`);
  } catch (error) {
    tell("sessions-state", faultText(error), true);
  }
  byId("search").focus();
}

function confirmed(clientId) {
  const dialog = byId("confirm");
  byId("confirm-text").textContent = `Client ${clientId}`;
  byId("cleanup").checked = false;
  dialog.returnValue = "cancel";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true });
  });
}

/** Tables of commands that plugins bring, where the plugin runs. */
async function showDetails() {
  const commands = [
    ["vmq_diversity", "Lua scripts", "script/show"],
    ["vmq_webhooks", "Webhook endpoints", "webhooks/show?--full"],
    ["vmq_bridge", "Bridges", "bridge/show"],
  ];
  const parts = await Promise.all(
    commands.map(async ([plugin, title, command]) => {
      const heading = element("h3", title);
      if (!pluginNames.has(plugin)) return [heading, element("p", `${plugin} is off`, "hint")];
      try {
        const answer = await ask(`/api/v1/${command}`);
        if (answer.type === "text") return [heading, element("pre", answer.text)];
        const rows = tableOf(answer);
        if (rows.length === 0) return [heading, element("p", "none", "hint")];
        const head = Object.keys(rows[0]);
        const body = document.createElement("div");
        body.className = "scroll";
        const cells = rows.map((row) => head.map((name) => row[name] ?? ""));
        body.append(table(title, head, cells));
        return [heading, body];
      } catch (error) {
        return [heading, element("p", faultText(error), "hint bad")];
      }
    }),
  );
  byId("details").replaceChildren(...parts.flat());
}

function faultText(error) {
  if (error.status === 401)
    return "the key is not accepted: it is wrong, expired or of another scope";
  if (error.status === 404) return "this listener does not serve vmq_http_mgmt_api";
  if (error.status === 429) return "too many wrong keys or requests: wait a moment";
  return error.message;
}
