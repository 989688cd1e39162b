// A minimal endpoint for the webhooks suite: accepts everything. Arguments: port, headers as NAME:VALUE
// or "", milliseconds before each answer.
import { createServer } from "node:http";

const [port = "0", header = "", sleepMs = "0"] = process.argv.slice(2);
const body = '{"result":"ok"}';
const headers: Record<string, string> = {
  "content-type": "application/json",
  "content-length": String(body.length),
};
const at = header.indexOf(":");
if (at > 0) headers[header.slice(0, at)] = header.slice(at + 1);

const server = createServer((request, response) => {
  const answer = (): void => {
    response.writeHead(200, headers);
    response.end(body);
  };
  request.resume();
  if (Number(sleepMs) > 0) setTimeout(answer, Number(sleepMs));
  else request.once("end", answer);
});
server.keepAliveTimeout = 60_000;
server.listen(Number(port), "127.0.0.1");
