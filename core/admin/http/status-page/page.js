import { ask, useKey } from "./api.js";
import { Charts } from "./charts.js";
import { byId, element, mark, table } from "./elements.js";
import {
  bytesText,
  durationText,
  failuresOf,
  History,
  issuesOf,
  numberText,
  POLL_MS,
  totalOf,
} from "./model.js";
import { pluginsAre, searchSessions, showWithKey } from "./with-key.js";

const history = new History();
const charts = new Charts(byId("charts"), history);
let isPaused = false;

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
  pluginsAre(new Set(plugins.map(({ plugin }) => plugin)));
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
  useKey(byId("key").value.trim());
  byId("key").value = "";
  await showWithKey();
});

byId("forget").addEventListener("click", async () => {
  useKey("");
  await showWithKey();
  byId("key").focus();
});

byId("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  void searchSessions();
});

void poll();
void showWithKey();
