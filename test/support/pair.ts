import type { Broker } from "../../core/broker-types.ts";
import { startBroker, waitOffline } from "./broker.ts";
import { connectClient, type RawClient } from "./raw-client.ts";
import { persistent } from "./sessions.ts";
import type { Version } from "./wire.ts";

/** A subscriber and a publisher on a broker of their own. */
export async function pair(
  version: Version,
  settings: Record<string, string> = {},
): Promise<{ broker: Broker; s: RawClient; p: RawClient }> {
  const broker = await startBroker(settings);
  const s = await connectClient(broker, version, { clientId: "s" });
  const p = await connectClient(broker, version, { clientId: "p" });
  return { broker, s, p };
}

/** The same with sessions that stay; with `again` the subscriber loses its connection and comes back. */
export async function persistentPair(
  version: Version,
  settings: Record<string, string> = {},
): Promise<{ s: RawClient; p: RawClient; again: () => Promise<RawClient> }> {
  const broker = await startBroker(settings);
  const s = await connectClient(broker, version, persistent(version, "s"));
  const p = await connectClient(broker, version, persistent(version, "p"));
  const again = async () => {
    s.cut();
    await waitOffline(broker, "s");
    return connectClient(broker, version, persistent(version, "s"));
  };
  return { s, p, again };
}

/** A v4 client subscribed to everything with QoS 2. */
export async function watch(broker: Broker, filter = "#"): Promise<RawClient> {
  const watcher = await connectClient(broker, 4, { clientId: "watcher" });
  await watcher.subscribed(filter, { qos: 2 });
  return watcher;
}
