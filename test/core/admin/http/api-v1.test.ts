import { describe, expect, it } from "vitest";
import { apiV1Module, type CommandSource, wordsOf } from "../../../../core/admin/http/api-v1.ts";
import { basic, call } from "../../../support/http.ts";
import { serve } from "./server.ts";

/** Knows `session show` and answers with what was typed. */
const COMMANDS: CommandSource = {
  prepare: (words) =>
    words[0] === "session" && words[1] === "show"
      ? async () => JSON.stringify({ type: "text", text: words.join(" ") })
      : undefined,
};

function start() {
  return serve([apiV1Module(COMMANDS)], { keys: { key: "mgmt" } });
}

describe("words of a URL", () => {
  it.each([
    ["/api/v1/cluster/show", ["cluster", "show"]],
    [
      "/api/v1/session/show?--client_id&--is_online=true",
      ["session", "show", "--client_id", "--is_online=true"],
    ],
    [
      "/api/v1/session/disconnect?client-id=c&--cleanup",
      ["session", "disconnect", "client-id=c", "--cleanup"],
    ],
    ["/api/v1/session/show?--client_id=%7Ea%26b+c", ["session", "show", "--client_id=~a&b c"]],
    ["/api/v1/show/retry_interval", ["show", "retry_interval"]],
    ["/api/v1/sessions", ["session", "show"]],
    ["/api/v1/sessions/disconnect?client-id=c", ["session", "disconnect", "client-id=c"]],
    ["/api/v1/listeners", ["listener", "show"]],
    ["/api/v1/plugins", ["plugin", "show"]],
    ["/api/v1/", []],
  ])("%s are what would be typed", (url, words) => {
    expect(wordsOf(url)).toEqual(words);
  });

  it.each(["/api/v1/%zz", "/api/v1/session/show?a=%zz", "/api/v1/--help", "/api/v1/a=b"])(
    "%s are none",
    (url) => {
      expect(wordsOf(url)).toBeUndefined();
    },
  );
});

describe("/api/v1", () => {
  it("answers a command in JSON", async () => {
    const { port } = await start();
    const answer = await call(port, "/api/v1/session/show?--limit=3", { headers: basic("key") });
    expect(answer).toMatchObject({
      status: 200,
      headers: { "content-type": "application/json" },
      body: '{"type":"text","text":"session show --limit=3"}',
    });
    expect(answer.headers["access-control-allow-origin"]).toBeUndefined();
  });

  it("answers 400 to what is no command before it looks at the key (check 16)", async () => {
    const { port } = await start();
    for (const headers of [{}, basic("key"), basic("wrong")]) {
      for (const path of ["/api/v1/nosuch", "/api/v1", "/api/v1/", "/api/v1/--help"]) {
        expect(await call(port, path, { headers }), path).toMatchObject({ status: 400, body: "" });
      }
    }
    expect((await call(port, "/api/v1/session/show")).status).toBe(401);
  });

  it("knows GET, HEAD and OPTIONS only (check 17)", async () => {
    const { port } = await start();
    for (const method of ["POST", "PUT", "DELETE", "PATCH"]) {
      const answer = await call(port, "/api/v1/session/show", { method, headers: basic("key") });
      expect(answer, method).toMatchObject({
        status: 405,
        headers: { allow: "HEAD, GET, OPTIONS" },
      });
    }
    const head = await call(port, "/api/v1/session/show", {
      method: "HEAD",
      headers: basic("key"),
    });
    expect(head).toMatchObject({ status: 200, body: "", headers: { "content-length": "37" } });
  });

  it("answers OPTIONS with the key with the headers browsers ask for (check 22)", async () => {
    const { port } = await start();
    const options = { method: "OPTIONS", headers: basic("key") };
    expect(await call(port, "/api/v1/session/show", options)).toMatchObject({
      status: 200,
      body: "",
      headers: {
        "access-control-max-age": "1728000",
        "access-control-allow-methods": "HEAD, GET",
        "access-control-allow-headers": "content-type, authorization",
        "access-control-allow-origin": "*",
      },
    });
    expect((await call(port, "/api/v1/session/show", { method: "OPTIONS" })).status).toBe(401);
    expect((await call(port, "/api/v1/nosuch", options)).status).toBe(400);
  });

  it("gives JSON to those who accept it", async () => {
    const { port } = await start();
    const accept = (value: string) =>
      call(port, "/api/v1/session/show", { headers: { ...basic("key"), Accept: value } });
    for (const good of ["application/json", "*/*", "application/*", "text/plain, */*;q=0.1"]) {
      expect((await accept(good)).status, good).toBe(200);
    }
    for (const bad of ["text/plain", "application/json;q=0", "text/*"]) {
      expect(await accept(bad), bad).toMatchObject({ status: 406, body: "" });
    }
  });
});
