import { NautilusError } from "../errors.ts";
import type { AnyListenerSettings, Listener } from "../listeners/types.ts";

/** How listeners are made and what is behind them. */
export interface ListenerParts {
  build(settings: AnyListenerSettings): Listener;
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
      await listener.start();
      return listener;
    } catch (error) {
      this.forget(listener);
      throw error;
    }
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
