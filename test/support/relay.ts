import { connect, createServer, type Socket } from "node:net";
import { atEnd } from "./cleanup.ts";

/**
 * A TCP proxy in front of a broker's listener: sends `head` (a PROXY protocol header) first on each
 * connection and then passes bytes both ways. Returns its port.
 */
export async function startRelay(brokerPort: number, head: Buffer): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const broker = connect({ port: brokerPort, host: "127.0.0.1" });
    broker.write(head);
    client.pipe(broker).pipe(client);
    for (const socket of [client, broker]) {
      sockets.add(socket);
      // One end is gone: so is the other.
      socket.on("error", () => {});
      socket.once("close", () => {
        client.destroy();
        broker.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  atEnd(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the relay has no port");
  return address.port;
}

const V2_SIGNATURE = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");

/** PROXY protocol v1 line for an IPv4 or IPv6 source. */
export function proxyV1(source: string, port: number): Buffer {
  const family = source.includes(":") ? "TCP6" : "TCP4";
  const target = source.includes(":") ? "::1" : "10.0.0.1";
  return Buffer.from(`PROXY ${family} ${source} ${target} ${port} 1883\r\n`);
}

/** PROXY protocol v2 header, TCP over IPv4; `commonName` adds the fields of a verified certificate. */
export function proxyV2(source: string, port: number, commonName?: string): Buffer {
  const addresses = [...source.split(".").map(Number), 10, 0, 0, 1];
  const ports = [port >> 8, port & 0xff, 1883 >> 8, 1883 & 0xff];
  const ssl = commonName === undefined ? Buffer.alloc(0) : sslField(commonName);
  return proxyV2Frame(0x21, 0x11, Buffer.concat([Buffer.from([...addresses, ...ports]), ssl]));
}

/** Command LOCAL: the proxy speaks for itself, as in health checks. */
export function proxyV2Local(): Buffer {
  return proxyV2Frame(0x20, 0x00, Buffer.alloc(0));
}

function proxyV2Frame(versionAndCommand: number, family: number, body: Buffer): Buffer {
  const head = Buffer.from([versionAndCommand, family, body.length >> 8, body.length & 0xff]);
  return Buffer.concat([V2_SIGNATURE, head, body]);
}

/** PP2_TYPE_SSL: flags 1 byte, verify result 4 bytes (0 = verified), then the common name. */
function sslField(commonName: string): Buffer {
  const name = typed(0x22, Buffer.from(commonName));
  return typed(0x20, Buffer.concat([Buffer.from([0x07, 0, 0, 0, 0]), name]));
}

function typed(type: number, value: Buffer): Buffer {
  return Buffer.concat([Buffer.from([type, value.length >> 8, value.length & 0xff]), value]);
}
