import { once } from "node:events";
import type { Socket } from "node:net";
import { type ConnectionOptions, connect, type TLSSocket } from "node:tls";
import type { Client, ClientOptions, ServerOptions } from "memjs";

export interface MemcachedAddress {
  readonly host: string;
  readonly port: number;
}

/** Opens a TLS connection: refused when the certificate does not stand the checks of `tls`. */
async function openTls(
  { host, port }: MemcachedAddress,
  tls: ConnectionOptions,
  timeoutMs: number,
): Promise<TLSSocket> {
  const socket = connect({ ...tls, host, port });
  try {
    // With a timeout of the socket's own, silence between two requests would count too.
    await once(socket, "secureConnect", { signal: AbortSignal.timeout(timeoutMs) });
  } catch (error) {
    socket.destroy();
    const isLate = error instanceof Error && error.name === "AbortError";
    throw isLate ? new Error("no TLS connection in time") : error;
  }
  return socket;
}

/**
 * A client of the driver on a TLS connection of ours, since the driver opens none itself. It has that
 * one connection: after its end every request fails, and the pool opens another one.
 */
export async function tlsClient(
  address: MemcachedAddress,
  tls: ConnectionOptions,
  options: ClientOptions & ServerOptions & { readonly conntimeout: number },
  lost: () => void,
): Promise<Client> {
  const { Client, Server } = await import("memjs");
  const socket = await openTls(address, tls, options.conntimeout * 1000);

  class TlsServer extends Server {
    /** Where the driver would open a connection. */
    override sock(_sasl: boolean, go: (socket: Socket) => void): void {
      if (socket.destroyed) this.error(new Error("the connection has ended"));
      else go(socket);
    }

    override close(): void {
      socket.destroy();
    }
  }
  const server = new TlsServer(address.host, address.port, undefined, undefined, options);
  socket.on("data", (bytes) => server.responseHandler(bytes));
  socket.on("error", (error) => server.error(error));
  socket.on("close", () => {
    server.error(new Error("the connection has ended"));
    lost();
  });
  return new Client([server], options);
}
