import { Charts } from "./charts.js";
import {
  bytesText,
  durationText,
  failuresOf,
  History,
  issuesOf,
  literalPattern,
  numberText,
  POLL_MS,
  tableOf,
  totalOf,
} from "./model.js";

const KEY_NAME = "nautilus-api-key";
const ASK_TIMEOUT_MS = 10_000;
const SESSIONS_MAX = 100;

const byId = (id) => document.getElementById(id);
const history = new History();
const charts = new Charts(byId("charts"), history);
let isPaused = false;
/** Names of the plugins that run. */
let pluginNames = new Set();
let key = sessionStorage.getItem(KEY_NAME) ?? "";

/** Asks this broker; throws with the status for whatever is not 200. */
async function ask(path) {
  const response = await fetch(path, {
    headers: key === "" ? {} : { "x-api-key": key },
    signal: AbortSignal.timeout(ASK_TIMEOUT_MS),
    cache: "no-store",
  });
  if (!response.ok) {
    throw Object.assign(new Error(`${path.split("?")[0]}: ${response.status}`), {
      status: response.status,
    });
  }
  return response.json();
}

// ---- what needs no key

async function poll() {
  if (!isPaused && !document.hidden) {
    try {
      const [status, overview] = await Promise.all([
        ask("/status.json"),
        ask("/status/overview.json"),
      ]);
      show(status, overview);
    } catch (error) {
      say(error.status === 401 ? "needs an API key of scope status" : "the broker does not answer");
    }
  }
  setTimeout(poll, POLL_MS);
}

function say(fault) {
  const health = byId("health");
  health.dataset.state = "bad";
  health.textContent = fault;
}

function show(status, overview) {
  const { metrics, hooks, plugins, listeners } = overview;
  history.add(metrics, failuresOf(hooks), Date.now() / 1000);
  const issues = issuesOf(status, overview, history);
  const health = byId("health");
  health.dataset.state = issues.length === 0 ? "good" : "bad";
  health.textContent = issues.length === 0 ? "running well" : `${issues.length} to look at`;
  byId("node").textContent = overview.node;
  document.title = `${overview.node} – broker status`;
  byId("issues").hidden = issues.length === 0;
  byId("issue-list").replaceChildren(...issues.map((issue) => element("li", issue)));
  showFigures(totalOf(status), metrics, overview.version);
  charts.update();
  showNodes(status, overview.members);
  showListeners(listeners);
  showHooks(hooks);
  showPlugins(plugins);
  const names = new Set(plugins.map(({ plugin }) => plugin));
  const hasChanged = String([...names]) !== String([...pluginNames]);
  pluginNames = names;
  if (hasChanged && key !== "") void showDetails();
}

function showFigures(totals, metrics, version) {
  const figures = [
    ["num_online", "connected", numberText(totals.num_online)],
    ["num_offline", "offline sessions", numberText(totals.num_offline)],
    ["rate_in", "messages in / s", numberText(history.latest("in"))],
    ["rate_out", "messages out / s", numberText(history.latest("out"))],
    ["msg_in", "messages in", numberText(totals.msg_in)],
    ["msg_out", "messages out", numberText(totals.msg_out)],
    ["num_subscriptions", "subscriptions", numberText(totals.num_subscriptions)],
    ["num_retained", "retained messages", numberText(totals.num_retained)],
    ["queue_drop", "dropped by queues", numberText(totals.queue_drop)],
    ["queue_unhandled", "not delivered", numberText(totals.queue_unhandled)],
    ["load", "event loop busy", `${metrics.system_utilization} %`],
    ["memory", "memory", bytesText(metrics.vm_memory_total)],
    ["uptime", "up for", durationText(metrics.system_wallclock)],
    ["version", "version", version],
  ];
  byId("figures").replaceChildren(
    ...figures.map(([name, label, value]) => {
      const group = document.createElement("div");
      const shown = element("dd", value);
      shown.dataset.figure = name;
      group.append(element("dt", label), shown);
      return group;
    }),
  );
}

function showNodes(status, members) {
  const rows = members.map(({ name, running }) => {
    const figures = status[0]?.[name];
    return [
      name,
      mark(running ? "running" : "not running", !running),
      figures?.num_online,
      figures?.num_offline,
      figures?.num_subscriptions,
      figures?.version,
    ];
  });
  const head = ["Node", "State", "Connected", "Offline", "Subscriptions", "Version"];
  byId("nodes").replaceChildren(table("Nodes", head, rows));
}

function showListeners(listeners) {
  const rows = listeners.map(
    ({ type, name, isRunning, address, port, connections, maxConnections }) => [
      type,
      name,
      mark(isRunning ? "running" : "stopped", !isRunning),
      port === 0 ? address : `${address}:${port}`,
      connections,
      maxConnections ?? "unlimited",
    ],
  );
  const head = ["Type", "Name", "State", "Address", "Connections", "At most"];
  byId("listeners").replaceChildren(table("Listeners", head, rows));
}

function showHooks(hooks) {
  const rows = hooks.flatMap(({ hook, links }) =>
    links.map((link, place) => [
      place === 0 ? hook : "",
      `${place + 1}. ${link.plugin}`,
      link.calls,
      link.accepted,
      link.passedOn,
      link.refused,
      mark(link.failed, link.failed > 0),
      mark(link.timeouts, link.timeouts > 0),
      mark(link.skipped, link.skipped > 0),
      link.meanMicros,
      link.p99Micros,
    ]),
  );
  const head = [
    ...["Hook", "Plugin", "Calls", "Accepted", "Next", "Refused"],
    ...["Failed", "Late", "Spared", "Mean µs", "99 % below µs"],
  ];
  byId("hooks").replaceChildren(
    rows.length === 0
      ? element("p", "No plugin has a hook: nobody is asked.", "hint")
      : table("Hook chains", head, rows),
  );
}

/** Details stay open over an update: each plugin keeps its element. */
function showPlugins(plugins) {
  const place = byId("plugins");
  const names = new Set(plugins.map(({ plugin }) => plugin));
  for (const old of [...place.children]) if (!names.has(old.dataset.plugin)) old.remove();
  for (const { plugin, metrics } of plugins) {
    let entry = [...place.children].find((each) => each.dataset.plugin === plugin);
    if (entry === undefined) {
      entry = document.createElement("details");
      entry.dataset.plugin = plugin;
      const body = document.createElement("div");
      body.className = "scroll";
      entry.append(element("summary", ""), body);
      place.append(entry);
    }
    const [summary, body] = entry.children;
    summary.textContent = `${plugin} – ${metrics.length} metrics`;
    const rows = metrics.map(({ name, type, value }) => [name, type, value]);
    body.replaceChildren(table(`Metrics of ${plugin}`, ["Metric", "Type", "Value"], rows));
  }
}

// ---- what needs a key

async function showWithKey() {
  byId("with-key").hidden = key === "";
  byId("forget").hidden = key === "";
  if (key === "") return;
  await Promise.all([searchSessions(), showDetails()]);
}

async function searchSessions() {
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
    ["vmq_webhooks", "Webhook endpoints", "webhooks/show"],
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

// ---- elements

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className !== undefined) made.className = className;
  return made;
}

/** A cell that stands out when something is wrong. */
function mark(value, isBad) {
  return { value, isBad };
}

function table(label, head, rows) {
  const made = document.createElement("table");
  made.setAttribute("aria-label", label);
  const isNumber = head.map((_, i) => rows.some((row) => typeof plain(row[i]) === "number"));
  const headRow = document.createElement("tr");
  headRow.append(
    ...head.map((text, i) => {
      const cell = element("th", text, isNumber[i] ? "number" : "");
      cell.scope = "col";
      return cell;
    }),
  );
  made.createTHead().append(headRow);
  const body = made.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    row.forEach((cell, i) => {
      const place = line.insertCell();
      if (cell instanceof Node) place.append(cell);
      else place.textContent = cell === undefined ? "–" : numberText(plain(cell));
      if (isNumber[i]) place.classList.add("number");
      if (cell?.isBad === true) place.classList.add("bad");
    });
  }
  return made;
}

function plain(cell) {
  return typeof cell === "object" && cell !== null && "isBad" in cell ? cell.value : cell;
}

function tell(id, text, isBad = false) {
  const place = byId(id);
  place.textContent = text;
  place.classList.toggle("bad", isBad);
}

// ---- buttons and forms

// What scrolls sideways must do so with the arrow keys, too.
for (const id of ["nodes", "listeners", "hooks", "sessions"]) {
  const place = byId(id);
  place.tabIndex = 0;
  place.setAttribute("role", "region");
  place.setAttribute("aria-labelledby", `${id}-title`);
}

const THEMES = ["auto", "light", "dark"];

byId("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "auto") + 1) % THEMES.length];
  if (next === "auto") delete root.dataset.theme;
  else root.dataset.theme = next;
  byId("theme").textContent = `Theme: ${next}`;
  charts.restyle();
});

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.restyle());

byId("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  byId("pause").setAttribute("aria-pressed", String(isPaused));
  byId("pause").textContent = isPaused ? "Go on" : "Pause";
});

byId("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  key = byId("key").value.trim();
  byId("key").value = "";
  sessionStorage.setItem(KEY_NAME, key);
  await showWithKey();
});

byId("forget").addEventListener("click", async () => {
  key = "";
  sessionStorage.removeItem(KEY_NAME);
  await showWithKey();
  byId("key").focus();
});

byId("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  void searchSessions();
});

void poll();
void showWithKey();
