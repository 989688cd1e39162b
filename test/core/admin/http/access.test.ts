import { describe, expect, it } from "vitest";
import { keyOf } from "../../../../core/admin/http/access.ts";
import { metricsModule } from "../../../../core/admin/http/metrics-module.ts";
import { RateLimiter } from "../../../../core/admin/http/rate-limiter.ts";
import type { HttpModule } from "../../../../core/admin/http/types.ts";
import { basic, call } from "../../../support/http.ts";
import { serve } from "./server.ts";

const METRICS = metricsModule(() => "# nothing\n");
const CHALLENGE = { "www-authenticate": 'Authorization realm="VerneMQ"' };

function protectedMetrics() {
  return serve([METRICS], {
    modes: { vmq_metrics_http: "apikey" },
    keys: { good: "metrics", other: "mgmt" },
  });
}

describe("access with an API key", () => {
  it("takes the key as Basic user name, whatever the password, or as x-api-key (checks 13, 27)", async () => {
    const { port } = await protectedMetrics();
    expect((await call(port, "/metrics", { headers: basic("good") })).status).toBe(200);
    expect((await call(port, "/metrics", { headers: basic("good", "any") })).status).toBe(200);
    expect((await call(port, "/metrics", { headers: { "X-API-KEY": "good" } })).status).toBe(200);
  });

  it("refuses no key, a wrong key and one of another scope alike (checks 12, 14)", async () => {
    const { port } = await protectedMetrics();
    const refused = { status: 401, body: "", headers: CHALLENGE };
    expect(await call(port, "/metrics")).toMatchObject(refused);
    for (const key of ["wrong", "other"]) {
      expect(await call(port, "/metrics", { headers: basic(key) })).toMatchObject(refused);
      expect(await call(port, "/metrics", { headers: { "x-api-key": key } })).toMatchObject(
        refused,
      );
    }
    expect(await call(port, "/metrics", { headers: basic("", "good") })).toMatchObject(refused);
    const bearer = { Authorization: "Bearer good" };
    expect(await call(port, "/metrics", { headers: bearer })).toMatchObject(refused);
  });

  it("looks at Authorization before x-api-key (check 15)", async () => {
    const { port } = await protectedMetrics();
    const wrongFirst = { ...basic("wrong"), "x-api-key": "good" };
    expect((await call(port, "/metrics", { headers: wrongFirst })).status).toBe(401);
    const goodFirst = { ...basic("good"), "x-api-key": "wrong" };
    expect((await call(port, "/metrics", { headers: goodFirst })).status).toBe(200);
  });

  it("answers Basic that is no base64 with 400", async () => {
    const { port } = await protectedMetrics();
    const headers = { Authorization: "Basic !!!" };
    expect(await call(port, "/metrics", { headers })).toMatchObject({ status: 400, body: "" });
    expect(keyOf({ authorization: `Basic ${Buffer.from("nocolon").toString("base64")}` })).toBe(
      "malformed",
    );
  });

  it("stops looking at keys of an address that tries too many wrong ones", async () => {
    const { port } = await protectedMetrics();
    const statuses: number[] = [];
    for (let i = 0; i < 60; i++) {
      statuses.push((await call(port, "/metrics", { headers: basic(`wrong${i}`) })).status);
      if (statuses.at(-1) === 429) break;
    }
    expect(statuses[0]).toBe(401);
    expect(statuses.at(-1)).toBe(429);
    expect((await call(port, "/metrics", { headers: basic("good") })).status).toBe(429);
  });

  it("is asked for where nothing says noauth", async () => {
    const { port } = await serve([METRICS]);
    expect((await call(port, "/metrics")).status).toBe(401);
  });
});

describe("requests", () => {
  it("above the rate of an address are answered with 429 until time has passed", async () => {
    let nowMs = 0;
    const requests = new RateLimiter(3, () => nowMs);
    const { port, lines } = await serve([METRICS], {
      modes: { vmq_metrics_http: "noauth" },
      requests,
    });
    const statuses = async (count: number): Promise<number[]> => {
      const all: number[] = [];
      for (let i = 0; i < count; i++) all.push((await call(port, "/metrics")).status);
      return all;
    };
    expect(await statuses(4)).toEqual([200, 200, 200, 429]);
    expect(lines).toContainEqual(
      expect.objectContaining({ msg: "too many HTTP requests of one address", peer: "127.0.0.1" }),
    );
    nowMs += 700;
    expect(await statuses(3)).toEqual([200, 200, 429]);
  });

  it("that make a module throw are answered with 500, and logged without the query", async () => {
    const broken = metricsModule(() => {
      throw new Error("no metrics today");
    });
    const { port, lines } = await serve([broken], { modes: { vmq_metrics_http: "noauth" } });
    expect(await call(port, "/metrics?secret=1")).toMatchObject({ status: 500, body: "" });
    const [line] = lines.filter(({ msg }) => msg === "HTTP request failed");
    expect(line).toMatchObject({ path: "/metrics", cause: expect.stringContaining("no metrics") });
  });

  it("with a body above the limit are answered with 413 before it is read", async () => {
    const echo: HttpModule = {
      name: "echo",
      scope: "echo",
      register: (app) => {
        app.post("/echo", async (_, reply) => reply.send("ok"));
      },
    };
    const { port } = await serve([echo]);
    const headers = { "Content-Type": "application/json" };
    const small = await call(port, "/echo", { method: "POST", headers, body: "{}" });
    expect(small).toMatchObject({ status: 200, body: "ok" });
    const body = JSON.stringify("x".repeat(70_000));
    expect(await call(port, "/echo", { method: "POST", headers, body })).toMatchObject({
      status: 413,
      body: "",
    });
  });

  it("of a path that cannot be decoded are answered with 400", async () => {
    const { port } = await serve([METRICS]);
    expect(await call(port, "/%zz")).toMatchObject({ status: 400, body: "" });
  });
});

describe("the rate limiter", () => {
  it("forgets the address that asked first when it knows too many", () => {
    const limiter = new RateLimiter(1, () => 0);
    expect(limiter.take("first")).toBe(true);
    expect(limiter.take("first")).toBe(false);
    for (let i = 0; i < 10_000; i++) limiter.take(`address ${i}`);
    expect(limiter.take("first")).toBe(true);
  });

  it("lets no more than a second's worth gather", () => {
    let nowMs = 0;
    const limiter = new RateLimiter(2, () => nowMs);
    nowMs = 60_000;
    expect([1, 2, 3].map(() => limiter.take("a"))).toEqual([true, true, false]);
    expect(limiter.has("a")).toBe(false);
  });
});
