// Aedes as a process of its own: `node aedes-peer.js PORT`. Its defaults, in memory.
import { createServer } from "node:net";
import { Aedes } from "aedes";

const port = Number(process.argv[2]);
const broker = await Aedes.createBroker();
const server = createServer((socket) => {
  socket.setNoDelay(true); // as the other brokers do
  broker.handle(socket);
});
server.listen({ port, host: "127.0.0.1", backlog: 1024 });
