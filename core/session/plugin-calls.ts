import { errorMessage } from "../errors.ts";
import type { PluginBroker, PluginMessage, PluginSession } from "../hooks/define-plugin.ts";
import { fromHookProperties } from "../mqtt/hook-properties.ts";
import { Message } from "../mqtt/message.ts";
import { PUBLISH } from "../mqtt/packets.ts";
import { encodePublishProperties } from "../mqtt/publish-properties.ts";
import { validateFilter, validateTopic } from "../mqtt/topics.ts";
import { type Receiver, type Subscription, subscriptionOf } from "../routing/subscription.ts";
import type { Core } from "./core.ts";
import { HeldSession, ownerName } from "./held-session.ts";
import { hookPropertiesOf } from "./hook-arguments.ts";
import { publishAs } from "./publish-as.ts";
import { reauthorize } from "./reauthorize.ts";

type Receive = Parameters<PluginBroker["subscribe"]>[1];

/** What a plugin may ask of the broker; `end` takes back its subscriptions. */
export function pluginCalls(core: Core, plugin: string): PluginBroker & { end(): void } {
  const subscriptions = new Set<Subscription>();
  const sessions = new Set<PluginSession>();
  function unsubscribe(subscription: Subscription): void {
    if (subscriptions.delete(subscription)) core.router.unsubscribe(subscription);
  }
  return {
    publish: async (message) => route(core, messageOf(core, message)),
    publishAs: (client, message) =>
      publishAs(
        core,
        client,
        message,
        (given) => messageOf(core, given),
        (allowed) => route(core, allowed),
      ),
    subscribe: (filter, receive, { mountpoint = "" } = {}) => {
      const fault = validateFilter(filter, core.settings.topicMaxDepth);
      if (fault !== undefined) throw new TypeError(`subscribe: "${filter}" is no topic filter`);
      const subscription = pluginSubscription(core, plugin, filter, mountpoint, receive);
      subscriptions.add(subscription);
      core.router.subscribe(subscription);
      return () => unsubscribe(subscription);
    },
    session: (options) => {
      const session = new HeldSession(core, plugin, options);
      sessions.add(session);
      return session;
    },
    removeOldSessions: () => {
      const old = [...core.manager.leftBy(ownerName(plugin))];
      for (const { mountpoint, clientId } of old) {
        core.manager.disconnect(mountpoint, clientId, true);
      }
      return old.map(({ clientId }) => clientId);
    },
    disconnect: (clientId, { mountpoint = "", cleanup = false } = {}) =>
      core.manager.disconnect(mountpoint, clientId, cleanup),
    reauthorise: (clientId, options = {}) => reauthorize(core, clientId, options),
    end: () => {
      for (const subscription of [...subscriptions]) unsubscribe(subscription);
      for (const session of sessions) session.end();
    },
  };
}

/** The message a plugin describes. @throws TypeError naming what is wrong with it. */
function messageOf(core: Core, given: PluginMessage): Message {
  const { topic, payload, qos = 0, retain = false, mountpoint = "", properties = {} } = given;
  if (validateTopic(topic, core.settings.topicMaxDepth) !== undefined) {
    throw new TypeError(`publish: "${topic}" is no topic name`);
  }
  const checked = fromHookProperties(properties, PUBLISH);
  if ("error" in checked) {
    throw new TypeError(`publish: properties.${checked.error.field} ${checked.error.message}`);
  }
  const { forward, messageExpiryInterval } = encodePublishProperties(checked.properties);
  return new Message(
    mountpoint,
    topic,
    Buffer.from(payload),
    qos,
    retain,
    forward,
    messageExpiryInterval < 0 ? 0 : core.wallMs() + messageExpiryInterval * 1000,
  );
}

/** Routes a message to all subscribers; resolves when it is stored for the persistent ones. */
async function route(core: Core, message: Message): Promise<void> {
  const to = core.router.mount(message.mountpoint).lookupText(message.topic);
  const batch = message.retain
    ? core.router.publishRetained(to, message, undefined, core.wallMs())
    : core.router.publish(to, message, undefined);
  if (!core.commits.isDurable(batch)) {
    await new Promise<void>((done) => core.commits.when(batch, done));
  }
}

/** The plugin as the receiving end of one subscription. It gets each message at once, whatever its QoS. */
function pluginSubscription(
  core: Core,
  plugin: string,
  filter: string,
  mountpoint: string,
  receive: Receive,
): Subscription {
  const receiver: Receiver = {
    mountpoint,
    clientId: `plugin ${plugin}`,
    isOnline: true,
    deliver: (message) => {
      // The bytes belong to the reader of some socket; a plugin may keep what it is given.
      const copy = {
        topic: message.topic,
        payload: Buffer.from(message.payload),
        qos: message.qos as 0 | 1 | 2,
        retain: message.retain,
        mountpoint: message.mountpoint,
        properties: hookPropertiesOf(message, core.wallMs()),
      };
      try {
        receive(copy);
      } catch (failure) {
        const cause = errorMessage(failure);
        core.log
          .limited(`plugin subscription ${plugin}`, 1)
          .error("plugin failed to take a message", { plugin, filter, cause });
      }
      return 0;
    },
    deliverRun: () => false,
  };
  return subscriptionOf(receiver, filter);
}
