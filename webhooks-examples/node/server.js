// An endpoint for vmq_webhooks with fastify; what it answers: ../README.md
import { createHmac, timingSafeEqual } from "node:crypto";
import fastify from "fastify";

const secret = process.env.WEBHOOK_SECRET ?? "";

const ok = { result: "ok" };
const refused = (error) => ({ result: { error } });
const isPrivate = (topic) => topic.split("/")[0] === "private";

function register({ username, password }, reply) {
  if (username !== "alice" || password !== "secret") return refused("invalid_credentials");
  reply.header("cache-control", "max-age=60");
  return ok;
}

function publish({ topic }) {
  if (isPrivate(topic)) return refused("not_authorized");
  if (!topic.startsWith("old/")) return ok;
  return { result: "ok", modifiers: { topic: `new/${topic.slice(4)}` } };
}

// Answered in the order of the request. Refusals: 128 for MQTT 3.1.1, a reason code for MQTT 5.
const filters = (topics, refusal) =>
  topics.map((one) => (isPrivate(one.topic) ? { topic: one.topic, qos: refusal } : one));

const hooks = {
  auth_on_register: register,
  auth_on_register_m5: register,
  auth_on_publish: publish,
  auth_on_publish_m5: publish,
  auth_on_subscribe: ({ topics }) => ({ result: "ok", topics: filters(topics, 128) }),
  auth_on_subscribe_m5: ({ topics }) => ({
    result: "ok",
    modifiers: { topics: filters(topics, 135) },
  }),
};

function isSigned(header, hook, body) {
  const [, time = "", given = ""] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(header ?? "") ?? [];
  if (Math.abs(Date.now() / 1000 - Number(time)) > 300) return false;
  const wanted = createHmac("sha256", secret).update(`${time}.${hook}.`).update(body).digest("hex");
  return given.length === wanted.length && timingSafeEqual(Buffer.from(given), Buffer.from(wanted));
}

// The signature is about the bytes: they come before the JSON.
const server = fastify({ keepAliveTimeout: 120_000, bodyLimit: 512 * 1024 * 1024 });
server.removeAllContentTypeParsers();
server.addContentTypeParser("application/json", { parseAs: "buffer" }, (_, body, done) =>
  done(null, body),
);

server.post("/", (request, reply) => {
  const { "vernemq-hook": hook = "", "nautilus-signature": signature } = request.headers;
  if (secret !== "" && !isSigned(signature, hook, request.body)) return reply.code(401).send({});
  const answer = Object.hasOwn(hooks, hook) ? hooks[hook] : undefined;
  if (answer !== undefined) return reply.send(answer(JSON.parse(request.body), reply));
  console.log(hook, request.body.toString());
  return reply.send({});
});

await server.listen({ host: "127.0.0.1", port: Number(process.env.PORT ?? 8080) });
