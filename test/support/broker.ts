import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createBroker } from "../../core/broker.ts";
import type { Broker, BrokerOptions } from "../../core/broker-types.ts";
import type { Plugin } from "../../core/hooks/types.ts";
import { atEnd, type Scope } from "./cleanup.ts";

export interface StartOptions extends Omit<BrokerOptions, "settings" | "plugins"> {
  /** Default: closed when the running test ends. */
  scope?: Scope;
  /** Accepts every publish and subscribe. Default true: authorisation then is not the test's subject. */
  acceptAll?: boolean;
}

/** A plugin that accepts everything, asked after all others: the last by name of those without priority. */
export const acceptingPlugin: Plugin = {
  name: "zz_accept_all",
  hooks: {
    auth_on_register: () => "ok",
    auth_on_register_m5: () => "ok",
    auth_on_publish: () => "ok",
    auth_on_publish_m5: () => "ok",
    auth_on_subscribe: () => "ok",
    auth_on_subscribe_m5: () => "ok",
  },
};

/**
 * A broker inside the test's process with one TCP listener on a free port, open to all unless the
 * settings or plugins say otherwise; closed by itself.
 */
export async function startBroker(
  settings: Readonly<Record<string, string>> = {},
  plugins: readonly Plugin[] = [],
  options: StartOptions = {},
): Promise<Broker> {
  const { scope, acceptAll = true, ...rest } = options;
  const broker = await createBroker({
    logLevel: "silent",
    ...rest,
    settings: {
      "listener.tcp.default": "127.0.0.1:0",
      allow_anonymous: "on",
      systree_enabled: "off",
      ...settings,
    },
    plugins: acceptAll ? [...plugins, acceptingPlugin] : plugins,
  });
  let isClosed = false;
  const close = broker.close.bind(broker);
  // A test may close it, too: once is enough.
  broker.close = async () => {
    if (isClosed) return;
    isClosed = true;
    await close();
  };
  atEnd(() => broker.close(), scope);
  return broker;
}

/** A folder that is removed at the end. */
export function tempDir(scope: Scope = "test"): string {
  const dir = mkdtempSync(join(tmpdir(), "nautilus-test-"));
  atEnd(() => rmSync(dir, { recursive: true, force: true, maxRetries: 5 }), scope);
  return dir;
}

/** A TCP port on which nobody listens now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}

const POLL_MS = 5;

/** Polls until `probe` gives something other than false or undefined; fails naming what was awaited. */
export async function waitFor<T>(
  what: string,
  probe: () => T | Promise<T>,
  timeoutMs = 5000,
): Promise<Exclude<T, false | undefined>> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const found = await probe();
    if (found !== false && found !== undefined) return found as Exclude<T, false | undefined>;
    if (performance.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await delay(POLL_MS);
  }
}

/** Waits until a client has no connection any more (its session may stay). */
export async function waitOffline(
  broker: Broker,
  clientId: string,
  mountpoint = "",
): Promise<void> {
  await waitFor(
    `${clientId} is offline`,
    () =>
      !broker
        .sessions()
        .some((s) => s.client_id === clientId && s.mountpoint === mountpoint && s.is_online),
  );
}

/** Waits until nothing is left of a client. */
export async function waitGone(broker: Broker, clientId: string, timeoutMs = 5000): Promise<void> {
  await waitFor(
    `${clientId} is gone`,
    () => !broker.sessions().some((s) => s.client_id === clientId),
    timeoutMs,
  );
}
