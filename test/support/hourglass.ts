import { startBroker } from "./broker.ts";
import { connectClient, type Where } from "./raw-client.ts";

let turned = 0;

/**
 * Resolves when a will with a delay of `seconds`, set off now, has been published: what the broker had to
 * do or to forget within that time before it, has been done. Without a broker, one of its own tells the time.
 */
export async function hourglass(seconds = 1, at?: Where): Promise<void> {
  const where = at ?? (await startBroker());
  const topic = `hourglass/${process.pid}/${++turned}`;
  const watcher = await connectClient(where, 5, { clientId: `${topic} watcher` });
  await watcher.subscribed(topic);
  const dying = await connectClient(where, 5, {
    clientId: `${topic} sand`,
    properties: { sessionExpiryInterval: seconds + 60 },
    will: { topic, payload: "", properties: { willDelayInterval: seconds } },
  });
  dying.cut();
  await watcher.expect("publish", { topic }, seconds * 1000 + 5000);
  // Nothing of it is left to be seen.
  const again = await connectClient(where, 5, { clientId: `${topic} sand` });
  await Promise.all([again.disconnected(), watcher.disconnected()]);
}
