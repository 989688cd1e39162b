/** vmq_bridge: messages flow between this broker and others by topic rules. */
import { randomUUID } from "node:crypto";
import {
  definePlugin,
  type HookArgs,
  type PluginContext,
  type PluginHookTable,
  type PublishM5Args,
} from "../../core/plugin-api.ts";
import { addCommands } from "./commands.ts";
import { Fleet } from "./fleet.ts";
import { LoopGuard } from "./loops.ts";
import { readBridges } from "./settings.ts";

/** Several brokers of one process may use the plugin. */
const fleets = new WeakMap<PluginContext, Fleet>();

function fleetOf(context: PluginContext): Fleet {
  const fleet = fleets.get(context);
  if (fleet === undefined) throw new Error("the plugin has not started");
  return fleet;
}

function hooksOf(fleet: Fleet): PluginHookTable {
  const always = {
    change_config({ settings }: HookArgs["change_config"]) {
      for (const { key } of settings) if (key.startsWith("vmq_bridge.")) fleet.configured(key);
    },
  };
  if (!fleet.isGuarding()) return always;
  return {
    ...always,
    // What bridges of other brokers push here may have been here before.
    auth_on_publish_m5(args: PublishM5Args) {
      const { properties, topic, subscriber_id } = args;
      if (properties.p_user_property === undefined) return "next";
      if (fleet.guard.pushed(subscriber_id.client_id, topic, args)) return "next";
      fleet.loopsPushed++;
      return { error: { reason_code: "implementation_specific_error", reason_string: "a loop" } };
    },
  };
}

export default definePlugin({
  name: "vmq_bridge",
  // Before plugins that accept: a message that was here already is not theirs to accept.
  priority: 0,

  check: (context) => void readBridges(context, new Map()),

  start(context) {
    const guard = new LoopGuard({ brokerId: randomUUID(), nowMs: () => performance.now() });
    const fleet = new Fleet(context, guard, () => context.setHooks(hooksOf(fleet)));
    fleets.set(context, fleet);
    addCommands(context, fleet);
    fleet.startAll();
    const removed = context.broker.removeOldSessions();
    if (removed.length > 0) {
      context.log.warn("queues of bridges that are no longer configured were removed", {
        sessions: removed.join(", "),
      });
    }
  },

  stop(context) {
    fleets.get(context)?.stopAll();
  },

  hooks: (context) => hooksOf(fleetOf(context)),
});
