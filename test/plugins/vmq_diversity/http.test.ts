import { readFileSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { beforeAll, describe, expect, it } from "vitest";
import { waitFor } from "../../support/broker.ts";
import { createCa, tempFolder } from "../../support/certs.ts";
import { atEnd } from "../../support/cleanup.ts";
import { startHost, type TestHost } from "../../support/lua-host.ts";

/** HTTP requests of scripts: limits, TLS, headers. */

let lua: TestHost;
beforeAll(async () => {
  lua = await startHost({ callTimeoutMs: 20_000 });
});

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  atEnd(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** A server of the test's own; gives how a script asks it. */
async function serve(answer: RequestListener): Promise<(code: string) => Promise<unknown>> {
  const port = await listen(createServer(answer));
  return (code) =>
    lua.run(`http.ensure_pool { pool_id = "h" } local url = "http://127.0.0.1:${port}/" ${code}`);
}

describe("http", () => {
  it("lets a script name the type of a form, whatever the case of the header", async () => {
    const run = await serve((request, response) => {
      response.end(`${request.headers["content-type"]} ${request.headers["content-length"]}`);
    });
    const own = '{ ["Content-Type"] = "application/x-mine" }';
    expect(await run(`return http.post("h", url, { a = 1, }, ${own}).ref`)).toBe(
      "application/x-mine 3",
    );
    expect(await run('return http.post("h", url, { on = true }).ref')).toBe(
      "application/x-www-form-urlencoded 7",
    );
  });

  it("sends headers without a body when the body is empty", async () => {
    const run = await serve((request, response) => {
      response.end(`${request.headers["x-key"]} ${request.headers["content-length"] ?? "none"}`);
    });
    expect(await run('return http.get("h", url, "", { ["X-Key"] = "k" }).ref')).toBe("k none");
  });

  it("takes user and password from the URL", async () => {
    const run = await serve((request, response) => {
      response.end(request.headers.authorization);
    });
    const code = 'return http.get("h", (url:gsub("//", "//ada:l%%C3%%B6v@"))).ref';
    const expected = `Basic ${Buffer.from("ada:löv").toString("base64")}`;
    expect(await run(code)).toBe(expected);
  });

  it("ends a request by its timeout, in the middle of a body as well", async () => {
    const run = await serve((_, response) => {
      response.writeHead(200).write("begun");
    });
    expect(await run('return http.get("h", url, nil, nil, { timeout = 200 })')).toBe(false);
    await expect(run('return http.get("h", url, nil, nil, { timeout = "soon" })')).rejects.toThrow(
      "http: timeout must be a number of milliseconds",
    );
  });

  it("waits 5 s for a server's bytes, or as long as its timeout says", async () => {
    const run = await serve((_, response) => {
      setTimeout(() => response.end("at last"), 6_500);
    });
    const [usual, patient] = await Promise.all([
      run('return http.get("h", url)'),
      run('return http.get("h", url, nil, nil, { timeout = 15000 }).ref'),
    ]);
    expect(usual).toBe(false);
    expect(patient).toBe("at last");
  });

  it("reads no body without end", async () => {
    let isClosed = false;
    const run = await serve((_, response) => {
      const part = Buffer.alloc(1024 * 1024);
      const more = (): void => {
        while (!response.destroyed && response.write(part));
      };
      response.on("drain", more);
      response.on("close", () => {
        isClosed = true;
      });
      more();
    });
    expect(await run('return http.get("h", url)')).toBe(false);
    await waitFor("the connection is closed", () => isClosed);
  });

  it("reads 16 MiB, and not a byte more", async () => {
    const most = 16 * 1024 * 1024;
    const run = await serve((request, response) => {
      response.end(Buffer.alloc(most + Number(request.url?.slice(1))));
    });
    expect(await run('return #http.get("h", url .. "0").ref')).toBe(most);
    expect(await run('return http.get("h", url .. "1")')).toBe(false);
  });

  it("gives headers in lower case, and those that came several times in one text", async () => {
    const run = await serve((_, response) => {
      response.setHeader("Set-Cookie", ["a=1", "b=2"]).setHeader("X-Mine", "yes").end();
    });
    const code = 'local h = http.get("h", url).headers return h["set-cookie"], h["x-mine"]';
    expect(await run(code)).toEqual(["a=1, b=2", "yes"]);
  });

  it("follows no redirect", async () => {
    const run = await serve((_, response) => {
      response.writeHead(302, { location: "/elsewhere" }).end("moved");
    });
    const code = 'local r = http.get("h", url) return r.status, r.headers.location, r.ref';
    expect(await run(code)).toEqual([302, "/elsewhere", "moved"]);
  });

  it("uses as many connections to a server as its pool may have", async () => {
    let busy = 0;
    let most = 0;
    const port = await listen(
      createServer((_, response) => {
        most = Math.max(most, ++busy);
        setTimeout(() => {
          busy--;
          response.end();
        }, 100);
      }),
    );
    const version = await lua.load(
      `http.ensure_pool { pool_id = "two", size = 2, max_overflow = 0 }
       hooks = { auth_on_publish = function() return { http.get("two", "http://127.0.0.1:${port}/").status } end }`,
      { states: 6 },
    );
    const answers = await Promise.all(Array.from({ length: 6 }, () => lua.call(version)));
    expect(answers).toEqual([200, 200, 200, 200, 200, 200]);
    expect(most).toBe(2);
  });

  it("verifies https by the CA of the pool, and not without it", async () => {
    const { folder, remove } = tempFolder();
    atEnd(remove);
    const ca = createCa(folder, "web CA");
    const pair = ca.issue("localhost");
    const tls = { cert: readFileSync(pair.cert), key: readFileSync(pair.key) };
    const port = await listen(createTlsServer(tls, (_, response) => response.end("safe")));
    const get = (id: string, fields: string): Promise<unknown> =>
      lua.run(
        `http.ensure_pool { pool_id = "${id}", ${fields} }
         local r = http.get("${id}", "https://localhost:${port}/") return r and r.ref`,
      );
    expect(await get("s1", `cacertfile = "${ca.cert}"`)).toBe("safe");
    expect(await get("s2", "size = 1")).toBe(false);
    expect(await get("s3", 'verify = "verify_none"')).toBe("safe");
    expect(await get("s4", `cacertfile = "${ca.cert}", sni = "web.example"`)).toBe(false);
  });
});
