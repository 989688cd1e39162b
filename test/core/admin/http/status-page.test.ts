import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Browser, Page } from "playwright-core";
import { beforeAll, describe, expect, it, onTestFinished } from "vitest";
import type { Broker } from "../../../../core/broker-types.ts";
import { startBroker, tempDir, waitFor } from "../../../support/broker.ts";
import { faultsOf, HAS_CHROMIUM, startBrowser } from "../../../support/chromium.ts";
import { call } from "../../../support/http.ts";
import {
  BACKGROUND,
  CONTRASTS,
  FOCUS_OUTLINE,
  FOCUSED,
  NAMELESS,
  WIDTHS,
} from "../../../support/in-page.ts";
import { pluginWith } from "../../../support/plugins.ts";
import { connectClient } from "../../../support/raw-client.ts";

interface Opened {
  readonly page: Page;
  readonly faults: string[];
}

describe.skipIf(!HAS_CHROMIUM)("the status page", () => {
  let browser: Browser;
  let broker: Broker;

  beforeAll(async () => {
    browser = await startBrowser();
    const plugin = pluginWith(
      { auth_on_publish: ({ topic }) => (topic === "no" ? { error: "no" } : "next") },
      "door_plugin",
    );
    broker = await startBroker({ "listener.http.default": "127.0.0.1:0" }, [plugin], {
      scope: "file",
    });
    const scope = { scope: "file" } as const;
    const client = await connectClient(broker, 4, { clientId: "c1" }, scope);
    await client.subscribed(["a", "b"]);
    await client.published({ topic: "kept", payload: "x", retain: true, qos: 1 });
    const refused = await connectClient(broker, 4, { clientId: "c2" }, scope);
    refused.publish({ topic: "no" });
    await refused.closed();
  });

  async function open(
    options: Parameters<Browser["newPage"]>[0] = {},
    of: Broker = broker,
  ): Promise<Opened> {
    const origin = `http://127.0.0.1:${of.port("http")}`;
    const page = await browser.newPage(options);
    onTestFinished(() => page.close());
    const faults = faultsOf(page, origin);
    await page.goto(`${origin}/status`);
    await page.waitForSelector("#figures dd");
    return { page, faults };
  }

  const figure = async (page: Page, name: string): Promise<number> =>
    Number((await page.textContent(`[data-figure="${name}"]`))?.replaceAll(",", ""));

  it("shows the figures of /status.json, without a console error or a request to elsewhere", async () => {
    const { page, faults } = await open();
    const answer = await call(broker.port("http"), "/status.json");
    const [nodes] = JSON.parse(answer.body) as [Record<string, Record<string, number>>];
    const node = nodes["VerneMQ@127.0.0.1"] as Record<string, number>;
    expect(node).toMatchObject({ num_online: 1, num_subscriptions: 2, num_retained: 1, msg_in: 2 });
    const names = ["num_online", "num_offline", "msg_in", "msg_out", "num_subscriptions"];
    for (const name of [...names, "num_retained", "queue_drop", "queue_unhandled"]) {
      expect(await figure(page, name), name).toBe(node[name]);
    }
    expect(await page.textContent("#node")).toBe("VerneMQ@127.0.0.1");
    expect(await page.getAttribute("#health", "data-state")).toBe("good");
    expect(faults).toEqual([]);
  });

  it("shows nodes, listeners and the hook chains with calls and refusals of each plugin", async () => {
    const { page } = await open();
    expect(await page.textContent("#nodes")).toContain("VerneMQ@127.0.0.1");
    const listeners = await page.textContent("#listeners");
    expect(listeners).toContain(`127.0.0.1:${broker.port("tcp")}`);
    expect(listeners).toContain(`127.0.0.1:${broker.port("http")}`);
    const row = page.locator("#hooks tr", { hasText: "door_plugin" }).first();
    const cells = await row.locator("td").allTextContents();
    expect(cells.slice(0, 6)).toEqual(["auth_on_publish", "1. door_plugin", "2", "0", "1", "1"]);
    expect(Number(cells[9])).toBeGreaterThan(0);
  });

  it("follows what happens, and draws it", async () => {
    const { page, faults } = await open();
    const before = await figure(page, "msg_in");
    const client = await connectClient(broker, 4, { clientId: "busy" });
    await client.published({ topic: "a", qos: 1 });
    await waitFor(
      "the page counts the message",
      async () => (await figure(page, "msg_in")) > before,
    );
    await waitFor("a chart", async () => (await page.locator("#charts canvas").count()) === 4);
    const caption = await page.textContent("#charts figure:nth-of-type(2) figcaption");
    expect(caption).toMatch(/^Messages a second: in [\d.,]+ out [\d.,]+/);
    expect(faults).toEqual([]);
  });

  it("names what needs attention", async () => {
    const settings = { "listener.http.default": "127.0.0.1:0", "listener.tcp.b": "127.0.0.1:0" };
    const other = await startBroker(settings);
    const port = other.port("tcp", "b");
    await other.stopListener("tcp", "b");
    const page = await browser.newPage();
    onTestFinished(() => page.close());
    await page.goto(`http://127.0.0.1:${other.port("http")}/status`);
    await page.waitForSelector("#issues:not([hidden])");
    expect(await page.textContent("#issue-list")).toBe(
      `listener mqtt 127.0.0.1:${port} of VerneMQ@127.0.0.1 is stopped`,
    );
    expect(await page.getAttribute("#health", "data-state")).toBe("bad");
    await other.close();
    await waitFor("the page tells", async () => {
      return (await page.textContent("#health")) === "the broker does not answer";
    });
  });

  it.each(["light", "dark"] as const)("has readable colours in %s", async (colorScheme) => {
    const { page } = await open({ colorScheme });
    const contrast = () => page.evaluate<number[]>(CONTRASTS);
    const isDark = async () => (await page.evaluate<string>(BACKGROUND)) === "rgb(16, 23, 28)";
    expect(await isDark()).toBe(colorScheme === "dark");
    // WCAG 2.1, 1.4.3
    for (const ratio of await contrast()) expect(ratio).toBeGreaterThan(4.5);
    await page.click("#theme");
    if (colorScheme === "light") await page.click("#theme");
    expect(await isDark()).toBe(colorScheme === "light");
    for (const ratio of await contrast()) expect(ratio).toBeGreaterThan(4.5);
  });

  it("fits a phone: nothing but wide tables scrolls sideways", async () => {
    const { page, faults } = await open({
      viewport: { width: 360, height: 740 },
      isMobile: true,
      hasTouch: true,
    });
    await waitFor("a chart", async () => (await page.locator("#charts canvas").count()) === 4);
    const widths = await page.evaluate<[number, number]>(WIDTHS);
    expect(widths[0]).toBe(widths[1]);
    expect(faults).toEqual([]);
  });

  it("can be used with the keyboard alone, and says where the focus is", async () => {
    const { page } = await open();
    const focused = () => page.evaluate<string>(FOCUSED);
    await page.keyboard.press("Tab");
    expect(await focused()).toBe("skip");
    await page.keyboard.press("Tab");
    expect(await focused()).toBe("pause");
    const outline = () => page.evaluate<string>(FOCUS_OUTLINE);
    expect(await outline()).toBe("solid");
    await page.keyboard.press("Space");
    expect(await page.getAttribute("#pause", "aria-pressed")).toBe("true");
    await page.keyboard.press("Enter");
    expect(await page.getAttribute("#pause", "aria-pressed")).toBe("false");
  });

  it("with an API key finds sessions, shows scripts and disconnects a client", async () => {
    const { page, faults } = await open();
    const client = await connectClient(broker, 5, { clientId: "plant.a" });
    await connectClient(broker, 5, { clientId: "plant-a" });
    const { stdout } = await broker.control("api-key", ["create"]);
    await page.fill("#key", "wrong");
    await page.press("#key", "Enter");
    await waitFor("the refusal", async () =>
      (await page.textContent("#sessions-state"))?.startsWith("the key is not accepted"),
    );
    // The browser itself notes a refused request.
    faults.length = 0;
    await page.fill("#key", stdout.trim());
    await page.press("#key", "Enter");
    await page.waitForSelector("#sessions td");
    await page.fill("#search", "plant.a");
    await page.press("#search", "Enter");
    await waitFor(
      "one session",
      async () => (await page.locator("#sessions tbody tr").count()) === 1,
    );
    expect(await page.locator("#sessions td").first().textContent()).toBe("plant.a");
    expect(await page.textContent("#sessions-state")).toBe("1 sessions found");
    await page.getByRole("button", { name: "Disconnect plant.a" }).press("Enter");
    expect(await page.textContent("#confirm-text")).toBe("Client plant.a");
    await page.getByRole("button", { name: "Disconnect", exact: true }).press("Enter");
    await client.expect("disconnect", { code: 0x98 });
    await waitFor(
      "it is said",
      async () => (await page.textContent("#sessions-state")) === "plant.a was disconnected",
    );
    const details = await page.textContent("#details");
    expect(details).toContain("Webhook endpointsvmq_webhooks is off");
    expect(faults).toEqual([]);
    await page.press("#forget", "Enter");
    expect(await page.isVisible("#sessions")).toBe(false);
  });

  it("shows Lua scripts with their hooks and calls", async () => {
    const scripts = tempDir();
    const source = "hooks = { auth_on_register = function(reg) return true end }";
    writeFileSync(join(scripts, "door.lua"), source);
    const other = await startBroker({
      "listener.http.default": "127.0.0.1:0",
      "plugins.vmq_diversity": "on",
      "vmq_diversity.script_dir": scripts,
      allow_anonymous: "off",
    });
    await connectClient(other, 4, { clientId: "c" });
    const { stdout } = await other.control("api-key", ["create"]);
    const { page, faults } = await open({}, other);
    await page.waitForSelector("#plugins details[data-plugin=vmq_diversity]");
    await page.fill("#key", stdout.trim());
    await page.press("#key", "Enter");
    await waitFor("the script", async () =>
      (await page.textContent("#details"))?.includes(join(scripts, "door.lua")),
    );
    expect(await page.textContent("#details")).toContain("auth_on_register");
    expect(await page.textContent("#hooks")).toContain("vmq_diversity");
    expect(faults).toEqual([]);
  });

  it("shows webhook endpoints with their state", async () => {
    const endpoint = "http://127.0.0.1:1/hook";
    const other = await startBroker({
      "listener.http.default": "127.0.0.1:0",
      "plugins.vmq_webhooks": "on",
      "vmq_webhooks.w.hook": "on_publish",
      "vmq_webhooks.w.endpoint": endpoint,
    });
    const { stdout } = await other.control("api-key", ["create"]);
    const shown = await other.control("webhooks", ["show", "--full", "--format=json"]);
    const columns = Object.keys(JSON.parse(shown.stdout).table[0]);
    const { page, faults } = await open({}, other);
    await page.waitForSelector("#plugins details[data-plugin=vmq_webhooks]");
    await page.fill("#key", stdout.trim());
    await page.press("#key", "Enter");
    await waitFor("the endpoint", async () =>
      (await page.textContent("#details"))?.includes(endpoint),
    );
    const text = await page.textContent("#details");
    for (const column of columns) expect(text).toContain(column);
    expect(columns.length).toBeGreaterThan(4);
    expect(faults).toEqual([]);
  });

  it("names every control and table", async () => {
    const { page } = await open();
    const nameless = await page.evaluate<string[]>(NAMELESS);
    expect(nameless).toEqual([]);
  });
});
