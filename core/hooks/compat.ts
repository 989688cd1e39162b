import { type CheckedAnswer, checkVerdict } from "./modifiers.ts";
import type { ConditionalHook, HookArgs, HookName, RegisterModifiers } from "./types.ts";

/** How a plugin's 3.x hook stands in for the MQTT 5 hook that it does not have. */
export interface Compat {
  readonly hook: HookName;
  /** Arguments of the 3.x hook made of those of the MQTT 5 hook. */
  readonly args: (args: never) => unknown;
}

const same = (args: unknown): unknown => args;

/** MQTT 5 hook → 3.x hook. on_auth_m5 has none. */
const COMPAT: { readonly [H in HookName]?: Compat } = {
  auth_on_register_m5: { hook: "auth_on_register", args: registerArgs },
  on_register_m5: {
    hook: "on_register",
    args: (args: HookArgs["on_register_m5"]) => {
      const { peer, subscriber_id, username } = args;
      return keepContext(args, { peer, subscriber_id, username });
    },
  },
  // Arguments of publish and delivery have the 3.x ones as a part.
  auth_on_publish_m5: { hook: "auth_on_publish", args: same },
  on_publish_m5: { hook: "on_publish", args: same },
  on_deliver_m5: { hook: "on_deliver", args: same },
  auth_on_subscribe_m5: { hook: "auth_on_subscribe", args: subscribeArgs },
  on_subscribe_m5: { hook: "on_subscribe", args: subscribeArgs },
  on_unsubscribe_m5: {
    hook: "on_unsubscribe",
    args: (args: HookArgs["on_unsubscribe_m5"]) => {
      const { username, subscriber_id, topics } = args;
      return keepContext(args, { username, subscriber_id, topics });
    },
  },
};

/** The 3.x hook that may answer for an MQTT 5 hook. */
export function compatOf(hook: HookName): Compat | undefined {
  return COMPAT[hook];
}

function registerArgs(args: HookArgs["auth_on_register_m5"]): HookArgs["auth_on_register"] {
  const { clean_start, properties: _, ...rest } = args;
  return keepContext(args, { ...rest, clean_session: clean_start });
}

function subscribeArgs(args: HookArgs["auth_on_subscribe_m5"]): HookArgs["auth_on_subscribe"] {
  const { username, subscriber_id } = args;
  const topics = args.topics.map(({ topic, qos }) => ({ topic, qos }));
  return keepContext(args, { username, subscriber_id, topics });
}

/** The context of the session is no enumerable argument (session/hook-arguments.ts). */
function keepContext<A extends object>(from: object, to: A): A {
  if (!("context" in from)) return to;
  return Object.defineProperty(to, "context", { value: from.context });
}

/**
 * The answer of a 3.x hook, checked as such, for the MQTT 5 hook. Lists become `{ topics }` in the check
 * already; clean_session is understood by both; retry_interval has no meaning in MQTT 5 and is left
 * out. Errors stay errors (VerneMQ turns some into acceptances).
 */
export function checkCompat(hook: HookName, answer: unknown): CheckedAnswer<ConditionalHook> {
  const checked = checkVerdict(hook as ConditionalHook, answer);
  const { verdict } = checked;
  if (hook !== "auth_on_register" || typeof verdict !== "object" || !("ok" in verdict)) {
    return checked;
  }
  const { retry_interval: _, ...modifiers } = verdict.ok as RegisterModifiers;
  return { verdict: Object.keys(modifiers).length === 0 ? "ok" : { ok: modifiers } };
}
