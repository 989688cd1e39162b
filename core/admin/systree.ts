import { Message } from "../mqtt/message.ts";
import type { Router } from "../routing/router.ts";
import { aggregate, collectSeries, type MetricSources } from "./metrics.ts";

export interface SystreeOptions {
  nodeName: string;
  /** `systree_mountpoint`. */
  mountpoint: string;
  /** `systree_qos`. */
  qos: number;
  /** `systree_retain`. */
  retain: boolean;
}

/** Publishes every metric below `$SYS/<node>/` (mqtt.md, section 13). Clients cannot publish there. */
export function publishSystree(
  router: Router,
  sources: MetricSources,
  options: SystreeOptions,
): void {
  const mount = router.mount(options.mountpoint);
  if (mount.trie.size === 0 && !options.retain) return;
  for (const [name, value] of aggregate(collectSeries(sources))) {
    const topic = `$SYS/${options.nodeName}/${name.replaceAll("_", "/")}`;
    const payload = Buffer.from(String(value));
    const { mountpoint, qos, retain } = options;
    const message = new Message(mountpoint, topic, payload, qos, retain, undefined, 0);
    const route = mount.lookupText(topic, true);
    if (retain) router.publishRetained(route, message, undefined, Date.now());
    else router.publish(route, message, undefined);
  }
}
