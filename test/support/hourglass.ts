import { startBroker } from "./broker.ts";
import { connectClient, type Where } from "./raw-client.ts";

let turned = 0;

/**
 * Resolves when a will with a delay of `seconds`, set off now, has been published: what the broker had to
 * do or to forget within that time before it, has been done. Without a broker, one of its own tells the time.
 */
export async function hourglass(seconds = 1, at?: Where): Promise<void> {
  const where = at ?? (await startBroker());
  // Tests that run beside others have no end of their own.
  const options = { scope: "file" } as const;
  const topic = `hourglass/${process.pid}/${++turned}`;
  const watcher = await connectClient(where, 5, { clientId: `${topic} watcher` }, options);
  await watcher.subscribed(topic);
  const will = { topic, payload: "", properties: { willDelayInterval: seconds } };
  const properties = { sessionExpiryInterval: seconds + 60 };
  const clientId = `${topic} sand`;
  const dying = await connectClient(where, 5, { clientId, properties, will }, options);
  dying.cut();
  await watcher.expect("publish", { topic }, seconds * 1000 + 5000);
  // Nothing of it is left to be seen.
  const again = await connectClient(where, 5, { clientId }, options);
  await Promise.all([again.disconnected(), watcher.disconnected()]);
}
