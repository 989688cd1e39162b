import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it } from "vitest";
import { waitFor } from "../../support/broker.ts";
import { atEnd } from "../../support/cleanup.ts";
import { refusalOf, startLua } from "../../support/lua.ts";
import {
  hasPostgres,
  hasRedis,
  startPostgres,
  startRedis,
} from "../../support/servers/databases.ts";

/** What scripts that people wrote for VerneMQ have in common, in scripts of our own. */

const BOB = { username: "bob", password: "pw", clientId: "c" };

describe.skipIf(!hasPostgres())("a script around VerneMQ's shared files", () => {
  it("authenticates with auth_on_register_common, clients of both versions", async () => {
    const server = await startPostgres("test");
    await server.query("CREATE EXTENSION pgcrypto");
    await server.query(`CREATE TABLE vmq_auth_acl (mountpoint varchar(10), client_id varchar(128),
      username varchar(128), password varchar(128), publish_acl json, subscribe_acl json)`);
    await server.query(`INSERT INTO vmq_auth_acl VALUES
      ('', '*', 'bob', crypt('pw', gen_salt('bf', 4)), '[{"pattern":"bob/#"}]', NULL)`);
    const { connect, script } = await startLua({
      scripts: {
        "devices.lua": `
          package.path = package.path .. ";/vernemq/share/lua/?.lua"
          require "auth/auth_commons"
          require "auth/postgres_cockroach_commons"

          pool = "devices"
          postgres.ensure_pool({ pool_id = pool, ssl = false, port = ${server.port} })

          function auth_on_register(reg)
            type_assert(reg.client_id, {"string", "nil"}, "client_id")
            validate_acls({{pattern = "a", modifiers = {}, max_qos = 1}})
            validate_acls(nil)
            if pcall(validate_acls, {{pattern = 5}}) or pcall(type_assert, 1, "string", "x") then return false end
            return auth_on_register_common(postgres, reg)
          end

          hooks = {
            auth_on_register = auth_on_register,
            auth_on_publish = auth_on_publish,
            auth_on_subscribe = auth_on_subscribe,
            on_unsubscribe = on_unsubscribe,
            on_client_gone = on_client_gone,
            on_client_offline = on_client_offline,
            on_session_expired = on_session_expired,
            auth_on_register_m5 = auth_on_register_m5,
            auth_on_publish_m5 = auth_on_publish_m5,
            auth_on_subscribe_m5 = auth_on_subscribe_m5,
          }`,
      },
      settings: { "vmq_diversity.postgres.host": "127.0.0.1" },
    });
    const shown = JSON.parse((await script("show", "--format=json")).stdout).table;
    expect(shown[0]).toMatchObject({ states: 10, keep_state: false });
    for (const protocolVersion of [4, 5] as const) {
      const client = await connect({ ...BOB, protocolVersion });
      await client.publishAsync("bob/x", "", { qos: 1 });
      const refused = await refusalOf(connect({ ...BOB, protocolVersion, password: "no" }));
      expect(refused).toBe(protocolVersion === 4 ? 4 : 0x86);
    }
  }, 60_000);
});

describe("a script that asks a web service", () => {
  it("reads its address from the environment, keeps what it learnt in kv, and rewrites filters", async () => {
    const asked: string[] = [];
    const service = createServer((request, response) => {
      let body = "";
      request.on("data", (part) => {
        body += part;
      });
      request.on("end", () => {
        asked.push(
          `${request.method} ${request.url} ${request.headers["content-type"] ?? ""} ${body}`,
        );
        const filters = { "a/b": 1, forbidden: -1 };
        response.end(JSON.stringify({ auth: true, uid: "u7", subscriptions: filters }));
      });
    });
    await new Promise<void>((resolve) => service.listen(0, "127.0.0.1", resolve));
    atEnd(() => service.close(), "test");
    process.env.ADAPTER_PORT = String((service.address() as AddressInfo).port);
    process.env.ADAPTER_SECRET = "not for scripts";
    const { connect } = await startLua({
      scripts: {
        "adapter.lua": `
          host = os.getenv("ADAPTER_HOST") or "127.0.0.1"
          port = os.getenv("ADAPTER_PORT") or "80"
          has_secret = pcall(os.getenv, "ADAPTER_SECRET")
          environment = "develop"

          function url(path, id)
            return string.format("http://%s:%s/%s?c=%s", host, port, path, url_encode(id))
          end
          function url_encode(str)
            str = string.gsub(str, "([^%w %-%_%.%~])",
              function (c) return string.format("%%%02X", string.byte(c)) end)
            return str
          end
          function auth_on_register(reg)
            ret = http.get("adapter", url("auth", reg.client_id))
            if ret == false or ret.status ~= 200 or has_secret then return false end
            -- A global of the library's name: gone with the call.
            json = json.decode(http.body(ret.ref))
            if json == false or json.auth ~= true then return false end
            kv.insert("meta", {[reg.client_id] = {uid = json.uid}})
            return true
          end
          function auth_on_subscribe(sub)
            local meta = kv.lookup("meta", sub.client_id)[1]
            if meta == nil then return end
            local asked = {}
            for idx, topic in pairs(sub.topics) do asked[topic[1]] = topic[2] end
            local ret = http.post("adapter", url("sub", meta.uid),
              json.encode({subscriptions = asked}), {["Content-type"] = "application/json"})
            local answer = {}
            for pattern, qos in pairs(json.decode(http.body(ret.ref)).subscriptions) do
              if qos == 0 or qos == 1 or qos == 2 then table.insert(answer, {pattern, qos})
              else table.insert(answer, {pattern, 0x80}) end
            end
            table.sort(answer, function(a, b) return a[1] < b[1] end)
            return answer
          end
          function on_deliver(message)
            log.debug(environment .. message.topic)
            return message
          end
          function on_client_gone(client) kv.delete("meta", client.client_id) end
          http.ensure_pool({pool_id = "adapter"})
          kv.ensure_table({name = "meta"})
          hooks = {
            auth_on_register = auth_on_register,
            auth_on_subscribe = auth_on_subscribe,
            auth_on_publish = function() return true end,
            on_deliver = on_deliver,
            on_client_gone = on_client_gone,
          }`,
      },
      settings: { "vmq_diversity.environment": "ADAPTER_HOST, ADAPTER_PORT" },
    });
    await connect({ ...BOB, clientId: "first" });
    const client = await connect({ ...BOB, clientId: "c 1" });
    const answer = await client
      .subscribeAsync({ "a/b": { qos: 2 }, forbidden: { qos: 0 } })
      .catch((error: { packet: { granted: number[] } }) => error.packet.granted);
    expect(answer).toEqual([1, 0x80]);
    expect(asked.slice(1)).toEqual([
      "GET /auth?c=c%201  ",
      'POST /sub?c=u7 application/json {"subscriptions":{"a/b":2,"forbidden":0}}',
    ]);
    const received = new Promise((resolve) => client.once("message", resolve));
    await client.publishAsync("a/b", "x");
    expect(await received).toBe("a/b");
  });

  it("is told which setting names the variable it wants", async () => {
    const { script, write } = await startLua();
    const path = write("sub/a.lua", 'host = os.getenv("PATH") or "localhost"');
    expect((await script("check", `path=${path}`)).stderr).toContain(
      'a.lua:1: os.getenv is not available to scripts for "PATH": name it in vmq_diversity.environment',
    );
  });
});

describe.skipIf(!hasRedis())("a script that counts in Redis", () => {
  it("works while it is loaded, and its on_publish may return what it likes", async () => {
    const server = await startRedis("test");
    const { connect } = await startLua({
      scripts: {
        "count.lua": `
          pool = "auth_redis"
          config = { pool_id = pool, size = 100, max_overflow = 0, password = "", database = 0 }
          redis.ensure_pool(config)
          redis.cmd(pool, "RPUSH events loaded")
          function on_publish(pub)
            redis.cmd(pool, "RPUSH events", pub.topic .. " " .. pub.payload)
            return true
          end
          function do_gone(...)
            local args = {...}
            redis.cmd(pool, "set gone:" .. args[1].client_id .. " " .. tostring(os.time()) .. " EX " .. tostring(30))
          end
          function auth_on_publish(pub)
            if pub.topic ~= "report" then return true end
            local all = redis.cmd(pool, "LRANGE events 0 -1")
            return { payload = table.concat(all, ", ") .. ", " .. type(redis.cmd(pool, "GET gone:first")) }
          end
          function yes() return true end
          hooks = {
            auth_on_register = yes, auth_on_subscribe = yes, auth_on_publish = auth_on_publish,
            on_publish = on_publish, on_publish_m5 = on_publish, on_client_gone = do_gone,
          }`,
      },
      settings: {
        "vmq_diversity.nr_lua_states": "1",
        "vmq_diversity.redis.host": "127.0.0.1",
        "vmq_diversity.redis.port": String(server.port),
      },
    });
    const first = await connect({ ...BOB, clientId: "first" });
    await first.publishAsync("t", "hello world", { qos: 1 });
    await first.endAsync();
    const client = await connect(BOB);
    await client.subscribeAsync("report");
    let report = "";
    client.on("message", (_, payload) => {
      report = payload.toString();
    });
    await waitFor("all is counted", async () => {
      await client.publishAsync("report", "", { qos: 1 });
      return report.startsWith("loaded, t hello world") && report.endsWith("string");
    });
  });
});

describe("a script for clients of MQTT 5", () => {
  it("may return a property that VerneMQ's own tests return: the indicator as undefined", async () => {
    const { connect } = await startLua({
      scripts: {
        "a.lua": `
          local function yes() return true end
          hooks = { auth_on_register_m5 = yes, auth_on_subscribe_m5 = yes,
            auth_on_publish_m5 = function(pub)
              return { properties = { p_payload_format_indicator = "undefined", p_content_type = "new",
                p_user_property = {{k1 = "v1"}, {k3 = "v3"}} } }
            end }`,
      },
    });
    const client = await connect({ ...BOB, protocolVersion: 5 });
    await client.subscribeAsync("t");
    const received = new Promise<object | undefined>((resolve) =>
      client.once("message", (_topic, _payload, { properties }) => resolve(properties)),
    );
    const properties = { payloadFormatIndicator: true, userProperties: { k1: "old", k2: "v2" } };
    await client.publishAsync("t", "x", { qos: 1, properties });
    expect(await received).toMatchObject({
      contentType: "new",
      userProperties: { k1: "v1", k2: "v2", k3: "v3" },
    });
    expect(await received).not.toHaveProperty("payloadFormatIndicator", true);
  });
});
