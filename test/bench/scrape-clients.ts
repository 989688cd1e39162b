// A process of clients that are connected and subscribed, until it is ended: PORT, COUNT.
import { connect, type Socket } from "node:net";
import { encodeConnect, encodeSubscribe } from "../../core/mqtt/client-codec.ts";

const AT_ONCE = 100;

/** A client that is connected and subscribed to a topic of its own. */
function client(port: number, number: number): Promise<Socket> {
  return new Promise((done, fail) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", fail);
    socket.write(
      encodeConnect({
        type: "connect",
        version: 4,
        level: 4,
        bridge: false,
        clean: true,
        keepAliveS: 0,
        clientId: `client-${number}`,
        username: undefined,
        password: undefined,
        will: undefined,
        properties: undefined,
      }),
    );
    const subscription = { qos: 1, noLocal: false, retainAsPublished: false, retainHandling: 0 };
    socket.write(
      encodeSubscribe(4, {
        packetId: 1,
        subscriptions: [{ filter: `client/${number}`, ...subscription }],
        properties: undefined,
      }),
    );
    let received = 0;
    socket.on("data", (bytes) => {
      received += bytes.length;
      // CONNACK and SUBACK
      if (received >= 9) done(socket);
    });
  });
}

const [port = 0, count = 0] = process.argv.slice(2).map(Number);
for (let at = 0; at < count; at += AT_ONCE) {
  await Promise.all(Array.from({ length: AT_ONCE }, (_, n) => client(port, at + n)));
}
process.send?.("connected");
