/** `vmq_api`: what a script may ask of the broker. */
import type { LibraryHost, LuaLibrary, LuaResult } from "../worker/library.ts";
import { optionsOf, stringOf, subscriberIdOf } from "./arguments.ts";

/** Makes `vmq_api.disconnect_by_subscriber_id` and `vmq_api.reauthorize_subscriptions`. */
export function vmqApiLibrary(host: LibraryHost): LuaLibrary {
  return {
    disconnect_by_subscriber_id: (call, id, options) => {
      const where = "vmq_api.disconnect_by_subscriber_id";
      const subscriber = subscriberIdOf(id, `${where}: the subscriber id`);
      const cleanup = optionsOf(options, `${where}: the options`).get("do_cleanup") === true;
      const asked = host.ask("vmq_api.disconnect", { ...subscriber, cleanup }, call);
      return asked as Promise<LuaResult>;
    },
    reauthorize_subscriptions: (call, username, id) => {
      const where = "vmq_api.reauthorize_subscriptions";
      const subscriber = subscriberIdOf(id, `${where}: the subscriber id`);
      // nil as well: a client without a user name keeps none.
      const name =
        username === undefined ? undefined : stringOf(username, `${where}: the user name`);
      host.tell("vmq_api.reauthorize", { ...subscriber, username: name }, call);
      return "ok";
    },
  };
}
