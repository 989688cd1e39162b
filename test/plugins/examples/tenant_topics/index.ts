import { definePlugin } from "nautilus-mq/plugin";

/** Each user works below a prefix of its own and never sees it: `state` is `tenants/ada/state`. */
export default definePlugin({
  name: "tenant_topics",
  settings: {
    prefix: { type: "string", default: "tenants", live: true, doc: "First level of all topics." },
  },
  hooks: ({ settings, metrics }) => {
    const rewritten = metrics.counter("tenant_topics_rewritten");
    const below = (username = "nobody") => `${settings.prefix}/${username}/`;
    return {
      auth_on_publish({ username, topic }) {
        rewritten.increment();
        return { ok: { topic: below(username) + topic } };
      },
      auth_on_subscribe({ username, topics }) {
        return { ok: topics.map(({ topic, qos }) => ({ topic: below(username) + topic, qos })) };
      },
      on_deliver({ username, topic }) {
        const prefix = below(username);
        return topic.startsWith(prefix) ? { ok: { topic: topic.slice(prefix.length) } } : "next";
      },
    };
  },
});
