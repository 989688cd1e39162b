import { NautilusError } from "../errors.ts";
import type { AnyListenerSettings, Listener, ListenerSettings } from "../listeners/types.ts";

/** VerneMQ's words for kinds of listeners. */
export const LISTENER_TYPES = {
  tcp: "mqtt",
  ssl: "mqtts",
  ws: "mqttws",
  wss: "mqttwss",
  http: "http",
  https: "https",
} as const;

export function isMqtt(settings: AnyListenerSettings): settings is ListenerSettings {
  return "mountpoint" in settings;
}

/** How listeners are made and what is behind them. */
export interface ListenerParts {
  build(settings: AnyListenerSettings): Listener;
  /** What must be there before it starts. */
  prepare(listener: Listener): Promise<void>;
  /** Ends the connections that came in on a listener. */
  endConnections(settings: AnyListenerSettings): void;
}

/** Every listener there is, running or suspended; they come and go while the broker runs. */
export class ListenerControl {
  private readonly parts: ListenerParts;
  private listeners: Listener[] = [];

  constructor(parts: ListenerParts) {
    this.parts = parts;
  }

  all(): readonly Listener[] {
    return this.listeners;
  }

  /** Makes a listener, without starting it. */
  add(settings: AnyListenerSettings): Listener {
    const listener = this.parts.build(settings);
    this.listeners.push(listener);
    return listener;
  }

  forget(listener: Listener): void {
    this.listeners = this.listeners.filter((other) => other !== listener);
  }

  /** The one on an address and port, as `listener show` gives them. */
  at(address: string, port: number): Listener | undefined {
    return this.listeners.find(
      ({ settings, boundPort }) =>
        settings.address === address &&
        (settings.unixSocket || (boundPort || settings.port) === port),
    );
  }

  /** `listener start`: makes and starts one; rejects and leaves nothing when that fails. */
  async start(settings: AnyListenerSettings): Promise<Listener> {
    const listener = this.add(settings);
    try {
      await this.run(listener);
      return listener;
    } catch (error) {
      this.forget(listener);
      throw error;
    }
  }

  /** Starts one that was made. */
  async run(listener: Listener): Promise<void> {
    await this.parts.prepare(listener);
    await listener.start();
  }

  /** No new connections; with `killSessions` the open ones end and the listener is gone. */
  async stop(listener: Listener, killSessions: boolean): Promise<void> {
    const stopped = listener.stop();
    if (killSessions) {
      this.parts.endConnections(listener.settings);
      this.forget(listener);
    }
    await stopped;
  }

  /** Accepts again after `stop`. */
  async restart(listener: Listener): Promise<void> {
    if (listener.isRunning) return;
    await listener.start();
  }

  /** Open connections stay. */
  async remove(listener: Listener): Promise<void> {
    this.forget(listener);
    await listener.stop();
  }

  /** By name; throws NO_SUCH_LISTENER. */
  named(kind: AnyListenerSettings["kind"], name: string | undefined): Listener {
    const found = this.listeners.find(
      ({ settings }) => settings.kind === kind && (name === undefined || settings.name === name),
    );
    if (found !== undefined) return found;
    throw new NautilusError("NO_SUCH_LISTENER", { listener: `${kind}.${name ?? "*"}` });
  }
}
