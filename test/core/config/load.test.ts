import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { LoadedConfig } from "../../../core/config/config.ts";
import { type LoadOptions, loadConfig } from "../../../core/config/load.ts";
import type { Support } from "../../../core/config/support.ts";

const WORKS: Support = { kind: "works" };
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "nautilus-load-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Writes v.conf and loads it. */
function load(source: string, options: LoadOptions = {}) {
  writeFileSync(join(folder, "v.conf"), source);
  return loadConfig({ file: "v.conf", cwd: folder, ...options });
}
/** As `load`, for rules of features that come later. */
function loadAll(source: string, options: LoadOptions = {}) {
  return load(source, { supportOf: () => WORKS, ...options });
}
function ok(loaded: ReturnType<typeof load>): LoadedConfig {
  expect(loaded.errors).toEqual([]);
  if (loaded.config === undefined) throw new Error("no config");
  return loaded.config;
}

describe("values from the file", () => {
  test("C-01 the last occurrence of a key wins", () => {
    expect(ok(load("allow_anonymous = on\nallow_anonymous = off")).flag("allow_anonymous")).toBe(
      false,
    );
    expect(ok(load("allow_anonymous = off\nallow_anonymous = on")).flag("allow_anonymous")).toBe(
      true,
    );
  });

  test.each([
    ["ON", "on"],
    ["true", "on"],
    ["1", "on"],
    ["No", "off"],
  ])("C-02 allow_anonymous = %s is refused", (text, meant) => {
    expect(load(`\nallow_anonymous = ${text}`).errors).toEqual([
      `v.conf:2: allow_anonymous: "${text}" is not a valid value, allowed: on, off, hooks, ` +
        `did you mean ${meant}?`,
    ]);
  });

  test("C-03 an unknown key is refused with the nearest known one", () => {
    const { config, errors } = load("allow_anonymus = on");
    expect(config).toBeUndefined();
    expect(errors).toEqual([
      "v.conf:1: allow_anonymus: there is no setting with that name, did you mean allow_anonymous?",
    ]);
  });

  test("unknown keys with free names are compared with those names in place", () => {
    expect(load("listener.tcp.mine.max_conections = 1").errors[0]).toContain(
      "did you mean listener.tcp.mine.max_connections?",
    );
    expect(load("mqtt.connect.timeout = 1").errors[0]).toContain("mqtt_connect_timeout");
    expect(load("vmq_reg_view = x").errors[0]).toContain("default_reg_view");
    expect(load("completely.different.thing.of.others = 1").errors[0]).toMatch(/that name$/);
  });

  test("C-04 C-06 comments, quotes and double quotes reach the value as documented", () => {
    expect(ok(loadAll("graphite_host = a # b")).text("graphite_host")).toBe("a");
    expect(ok(loadAll("graphite_host = 'a # b'")).text("graphite_host")).toBe("a # b");
    expect(ok(loadAll('graphite_prefix = "abc"')).text("graphite_prefix")).toBe('"abc"');
  });

  test("C-05 an unquoted empty value is a syntax error with its line", () => {
    expect(loadAll("\ngraphite_prefix =").errors[0]).toMatch(/^v\.conf:2: syntax error at column/);
    expect(ok(loadAll("graphite_prefix = ''")).text("graphite_prefix")).toBe("");
  });

  test("C-09 a file of conf.d wins over the main file that ends with its include", () => {
    mkdirSync(join(folder, "conf.d"));
    writeFileSync(join(folder, "conf.d/a.conf"), "retry_interval = 1");
    writeFileSync(join(folder, "conf.d/b.conf"), "retry_interval = 2");
    const config = ok(load("retry_interval = 3\ninclude conf.d/*.conf\n"));
    expect(config.int("retry_interval")).toBe(2);
    const entry = [...config.entries()].find(({ key }) => key === "retry_interval");
    expect(entry?.origin).toEqual({ kind: "file", file: "conf.d/b.conf", line: 1 });
  });

  test("C-12 $(<file) is the content of the file", () => {
    writeFileSync(join(folder, "secret.txt"), "geheim\n");
    expect(ok(loadAll("graphite_api_key = $(<secret.txt)")).text("graphite_api_key")).toBe(
      "geheim",
    );
  });

  test("C-13 integers have no units", () => {
    expect(load("retry_interval = 20s").errors).toEqual([
      'v.conf:1: retry_interval: "20s" is not an integer (seconds, without a unit), ' +
        "allowed: an integer, at least 0",
    ]);
    expect(ok(load("retry_interval = 20")).int("retry_interval")).toBe(20);
  });

  test.each([
    ["persistent_client_expiration", "1w", 604_800],
    ["persistent_client_expiration", "1m", 2_419_200],
    ["persistent_client_expiration", "never", 0],
    ["persistent_client_expiration", "2y", 58_060_800],
    ["max_last_will_delay", "10s", 10],
    ["max_last_will_delay", "client", 4_294_967_296],
  ])("C-14 C-15 %s = %s is %d seconds", (key, text, seconds) => {
    expect(ok(load(`${key} = ${text}`)).int(key)).toBe(seconds);
  });

  test("C-14 a duration needs one unit", () => {
    expect(load("persistent_client_expiration = 10").errors[0]).toBe(
      'v.conf:1: persistent_client_expiration: "10" is not a duration, allowed: ' +
        "a number with s, h, d, w, m (4 weeks) or y or never, did you mean 10s?",
    );
    expect(load("persistent_client_expiration = 1w2d").errors).toHaveLength(1);
    expect(load("max_last_will_delay = never").errors).toHaveLength(1);
  });

  test("C-26 byte sizes have units of one case", () => {
    const key = "log.console.rotation.size";
    expect(ok(loadAll(`${key} = 10MB`)).int(key)).toBe(10_485_760);
    expect(ok(loadAll(`${key} = 1.5kb`)).int(key)).toBe(1536);
    expect(ok(loadAll(`${key} = infinity`)).int(key)).toBe(Number.POSITIVE_INFINITY);
    expect(loadAll(`${key} = 10Mb`).errors[0]).toMatch(
      /is not a size in bytes, .*did you mean 10MB\?$/,
    );
    expect(loadAll(`${key} = 1.5`).errors).toHaveLength(1);
  });

  test("C-27 percentages are read with and without their sign", () => {
    const key = "vmq_bridge.tcp.b.pubrel_queue_ratio";
    expect(ok(loadAll(`${key} = 10%`)).int(key)).toBe(10);
    expect(ok(loadAll(`${key} = 10`)).int(key)).toBe(10);
    expect(loadAll(`${key} = 101%`).errors).toHaveLength(1);
  });

  test("C-28 a webhook needs hook and endpoint", () => {
    expect(loadAll("vmq_webhooks.w.hook = on_publish").errors).toEqual([
      "v.conf:1: vmq_webhooks.w.hook: vmq_webhooks.w.endpoint is not defined",
    ]);
    expect(loadAll("vmq_webhooks.w.endpoint = http://h").errors[0]).toContain(
      "vmq_webhooks.w.hook",
    );
    ok(loadAll("vmq_webhooks.w.hook = on_publish\nvmq_webhooks.w.endpoint = http://h"));
  });

  test("C-29 syslog over TLS needs the newer format and a CA file", () => {
    const tls = "log.syslog.remote.protocol = tls\n";
    expect(loadAll(tls).errors).toHaveLength(2);
    expect(loadAll(`${tls}log.syslog.remote.tls.cafile = x`).errors[0]).toContain("rfc5424");
    ok(loadAll(`${tls}log.syslog.remote.tls.cafile = x\nlog.syslog.format = rfc5424`));
  });

  test("C-30 ranges are checked", () => {
    expect(load("crl_refresh_interval = -5").errors[0]).toContain('"-5" is too small');
    expect(load("listener.tcp.active_n = 0").errors[0]).toContain("from 1 to 32767");
    expect(load("topic_max_depth = 99999999999999999").errors[0]).toContain("too large");
  });

  test('C-33 prometheus_namespace = "" means no prefix', () => {
    expect(ok(loadAll('prometheus_namespace = ""')).text("prometheus_namespace")).toBe("");
    expect(ok(loadAll("")).text("prometheus_namespace")).toBe("vernemq_");
  });

  test("allow_anonymous has a third value of ours", () => {
    const config = ok(load("allow_anonymous = hooks"));
    expect(config.text("allow_anonymous")).toBe("hooks");
    expect(config.flag("allow_anonymous")).toBe(false);
  });

  test("lists of Erlang need brackets, others do not care", () => {
    expect(loadAll("http_modules = a,b").errors[0]).toContain("did you mean [a,b]?");
    expect(ok(loadAll("http_modules = [a, b]")).list("http_modules")).toEqual(["a", "b"]);
    expect(
      ok(loadAll("listener.http.x.http_modules = a,b")).list("listener.http.x.http_modules"),
    ).toEqual(["a", "b"]);
  });
});

describe("substitution", () => {
  test("C-11 takes other keys, their defaults, then the environment", () => {
    const env = { FOO: "bar", retry_interval: "no" };
    const config = ok(
      loadAll(
        "graphite_host = x.$(FOO).$(retry_interval).$(graphite_prefix)\ngraphite_prefix = $(FOO)",
        { env },
      ),
    );
    expect(config.text("graphite_host")).toBe("x.bar.20.bar");
  });

  test("C-11 an unknown name is an error", () => {
    expect(loadAll("graphite_host = $(nope)").errors).toEqual([
      "v.conf:1: graphite_host: $(nope) is not set, allowed: a key or an environment variable that is set",
    ]);
  });

  test("a circle is an error for each key in it", () => {
    expect(
      loadAll("graphite_host = $(graphite_prefix)\ngraphite_prefix = $(graphite_host)").errors,
    ).toEqual([
      "v.conf:1: graphite_host: substitution goes in a circle: graphite_host -> graphite_prefix -> graphite_host",
      "v.conf:2: graphite_prefix: substitution goes in a circle: graphite_prefix -> graphite_host -> graphite_prefix",
    ]);
  });

  test("keys that double each other end in an error, in short time", () => {
    const lines = Array.from(
      { length: 60 },
      (_, n) => `plugins.p${n} = $(plugins.p${n + 1})$(plugins.p${n + 1})`,
    );
    const { errors } = loadAll([...lines, "plugins.p60 = xx"].join("\n"));
    expect(errors.some((line) => line.includes("too long a text"))).toBe(true);
    const empty = loadAll([...lines, "plugins.p60 = ''"].join("\n"));
    expect(empty.errors).toHaveLength(61);
  });
});

describe("environment and --set", () => {
  test("variables of the Docker image are settings that win over the file", () => {
    const env = {
      DOCKER_VERNEMQ_RETRY_INTERVAL: "7",
      DOCKER_VERNEMQ_STORE__SYNC: "on",
      OTHER: "x",
    };
    const config = ok(load("retry_interval = 5\nmax_client_id_size = 9", { env }));
    expect(config.int("retry_interval")).toBe(7);
    expect(config.flag("store.sync")).toBe(true);
    expect(config.int("max_client_id_size")).toBe(9);
  });

  test("--set wins over the environment, the last one over others", () => {
    const env = { DOCKER_VERNEMQ_RETRY_INTERVAL: "7" };
    const sets = ["retry_interval=8", "retry_interval = 9"];
    expect(ok(load("retry_interval = 5", { env, sets })).int("retry_interval")).toBe(9);
  });

  test("each error says where its value came from", () => {
    const env = { DOCKER_VERNEMQ_RETRY_INTERVAL: "x", DOCKER_VERNEMQ_MAX_MESSAGE_RATE: "" };
    const { errors } = load("max_client_id_size = x", { env, sets: ["topic_max_depth=x", "junk"] });
    expect(errors).toEqual([
      "environment DOCKER_VERNEMQ_MAX_MESSAGE_RATE: max_message_rate: no value, did you mean ''?",
      "--set junk: not a setting, allowed: key=value",
      'v.conf:1: max_client_id_size: "x" is not an integer (bytes, without a unit), allowed: an integer from 0 to 65535',
      'environment DOCKER_VERNEMQ_RETRY_INTERVAL: retry_interval: "x" is not an integer (seconds, without a unit), allowed: an integer, at least 0',
      '--set topic_max_depth: "x" is not an integer, allowed: an integer, at least 1',
    ]);
  });

  test("only the capitals at the front of a variable are lower-cased", () => {
    const env = {
      DOCKER_VERNEMQ_LISTENER__TCP__MyName: "127.0.0.1:1",
      DOCKER_VERNEMQ_STORE__SYNC: "on",
    };
    const config = ok(load("", { env }));
    expect(config.listeners.map(({ name }) => name)).toEqual(["myName"]);
  });

  test("values of the environment have the file's syntax but keep their underscores", () => {
    const env = { DOCKER_VERNEMQ_LISTENER__MOUNTPOINT: "'a__b # c'" };
    expect(ok(load("", { env })).text("listener.mountpoint")).toBe("a__b # c");
  });

  test("--set takes the text as it is, and $(<file) from beside the main file", () => {
    expect(
      ok(load("", { sets: ["listener.mountpoint=a # 'b'"] })).text("listener.mountpoint"),
    ).toBe("a # 'b'");
    writeFileSync(join(folder, "mp"), "x\n");
    expect(ok(load("", { sets: ["listener.mountpoint=$(<mp)"] })).text("listener.mountpoint")).toBe(
      "x",
    );
    expect(load("", { sets: ["listener.mountpoint=$(<none)"] }).errors).toEqual([
      "--set listener.mountpoint: none: there is no such file",
    ]);
  });

  test("the node name of the image gets VerneMQ@ in front", () => {
    const named = (DOCKER_VERNEMQ_NODENAME: string) =>
      ok(load("", { env: { DOCKER_VERNEMQ_NODENAME } })).text("nodename");
    expect(named("host")).toBe("VerneMQ@host");
    expect(named("a@b")).toBe("a@b");
  });

  test("variables that are no settings are named, users are refused until they work", () => {
    const loaded = load("", {
      env: { DOCKER_VERNEMQ_DISCOVERY_NODE: "x", DOCKER_VERNEMQ_ACCEPT_EULA: "yes" },
    });
    expect(loaded.errors).toEqual([]);
    expect(loaded.notices.join("\n")).toContain("DOCKER_VERNEMQ_DISCOVERY_NODE");
    expect(loaded.notices.join("\n")).toContain("accept_eula");
    expect(load("", { env: { DOCKER_VERNEMQ_USER_BOB: "s" } }).errors).toEqual([
      "environment DOCKER_VERNEMQ_USER_BOB: not supported yet (plugin vmq_passwd)",
    ]);
  });

  test("C-35 a listener of the environment is the only one", () => {
    const env = { DOCKER_VERNEMQ_LISTENER__TCP__DEFAULT: "0.0.0.0:1884" };
    const config = ok(loadConfig({ cwd: folder, env }));
    expect(config.listeners.map(({ kind, port }) => `${kind}:${port}`)).toEqual(["tcp:1884"]);
  });

  test("values given by a program count as --set", () => {
    const config = ok(load("retry_interval = 1", { values: { retry_interval: "2" } }));
    expect(config.int("retry_interval")).toBe(2);
    expect(load("", { values: { retry_interval: "x" } }).errors[0]).toMatch(
      /^--set retry_interval: /,
    );
  });
});

describe("the file", () => {
  const places = (config: LoadedConfig) =>
    config.listeners.map((l) => `${l.kind} ${l.address}:${l.port}`);

  test("is the given one, then NAUTILUS_CONFIG, then etc/vernemq.conf", () => {
    writeFileSync(join(folder, "a.conf"), "retry_interval = 1");
    writeFileSync(join(folder, "b.conf"), "retry_interval = 2");
    mkdirSync(join(folder, "etc"));
    writeFileSync(join(folder, "etc/vernemq.conf"), "retry_interval = 3");
    const env = { NAUTILUS_CONFIG: "b.conf" };
    const value = (options: LoadOptions) =>
      ok(loadConfig({ cwd: folder, ...options })).int("retry_interval");
    expect(value({ file: "a.conf", env })).toBe(1);
    expect(value({ env })).toBe(2);
    expect(value({})).toBe(3);
    expect(value({ env, isEmbedded: true })).toBe(20);
  });

  test("must be there when it was named", () => {
    const { config, errors } = loadConfig({ cwd: folder, file: "none.conf" });
    expect(config).toBeUndefined();
    expect(errors).toEqual(["none.conf: there is no such file"]);
  });

  test("C-19 may be empty: then there is no listener", () => {
    const loaded = load("");
    expect(ok(loaded).listeners).toEqual([]);
    expect(ok(loaded).isFirstRun).toBe(false);
    expect(ok(loaded).flag("allow_anonymous")).toBe(false);
    expect(loaded.notices).toEqual([
      "no MQTT listener is configured, so that no client can connect",
    ]);
  });

  test("may be missing: then loopback listeners are open to everybody on this machine", () => {
    const config = ok(loadConfig({ cwd: folder }));
    expect(places(config)).toEqual(["tcp 127.0.0.1:1883", "ws 127.0.0.1:8080"]);
    expect(config.flag("allow_anonymous")).toBe(true);
    expect(config.isFirstRun).toBe(true);
    expect(config.dataDir).toBe(join(folder, "data"));
  });

  test("may be missing while --set refuses anonymous clients or brings listeners", () => {
    expect(
      ok(loadConfig({ cwd: folder, sets: ["allow_anonymous=off"] })).flag("allow_anonymous"),
    ).toBe(false);
    const own = ok(loadConfig({ cwd: folder, sets: ["listener.tcp.x=127.0.0.1:5"] }));
    expect(places(own)).toEqual(["tcp 127.0.0.1:5"]);
    expect(own.flag("allow_anonymous")).toBe(true);
    const options = ok(loadConfig({ cwd: folder, sets: ["listener.tcp.default.mountpoint=m"] }));
    expect(options.listeners.map(({ mountpoint }) => mountpoint)).toEqual(["m", ""]);
  });

  test("may be missing, but then no address that others reach is open to anybody", () => {
    const config = ok(loadConfig({ cwd: folder, sets: ["listener.tcp.x=0.0.0.0:1883"] }));
    expect(config.flag("allow_anonymous")).toBe(false);
  });

  test("is not looked for by an embedded broker, which has no defaults for a first run either", () => {
    const config = ok(loadConfig({ cwd: folder, isEmbedded: true }));
    expect(config.listeners).toEqual([]);
    expect(config.isFirstRun).toBe(false);
  });

  test("reports all its errors at once", () => {
    const { errors } = load(
      "x\nretry_interval = a\nunknown_thing = 1\nlistener.tcp.a = b\nplugins.vmq_bridge = maybe",
    );
    expect(errors.map((line) => line.replace(/^(v\.conf:\d+: \S+) .*/, "$1")).sort()).toEqual([
      "v.conf:1: syntax",
      "v.conf:2: retry_interval:",
      "v.conf:3: unknown_thing:",
      "v.conf:4: listener.tcp.a:",
      "v.conf:5: plugins.vmq_bridge:",
    ]);
  });

  test("dataDir is the option, then NAUTILUS_DATA_DIR, then ./data", () => {
    const env = { NAUTILUS_DATA_DIR: "from-env" };
    expect(ok(load("", { dataDir: "given", env })).dataDir).toBe(join(folder, "given"));
    expect(ok(load("", { env })).dataDir).toBe(join(folder, "from-env"));
  });
});

describe("features that come later", () => {
  test("are accepted when off or at their default, and refused otherwise", () => {
    expect(
      load(
        "message_store_plugin = vmq_generic_msg_store\nsystree_enabled = on\nplugins.vmq_acl = off\nlog.console.rotation.size = infinity",
      ).errors,
    ).toEqual([]);
    expect(load("message_store_plugin = mine").errors).toEqual([
      "v.conf:1: message_store_plugin: not supported yet (another message store), allowed for now: vmq_generic_msg_store",
    ]);
  });

  test("still have their types checked", () => {
    expect(load("graphite_enabled = maybe").errors[0]).toContain("is not a valid value");
  });

  test("of the cluster give one notice", () => {
    const loaded = load("listener.vmq.clustering = 0.0.0.0:44053\ndistributed_cookie = x");
    expect(ok(loaded).listeners).toEqual([]);
    expect(loaded.notices.filter((line) => line.includes("alone"))).toEqual([
      "clustering is not supported yet, this node is alone for now: listener.vmq.clustering, distributed_cookie",
    ]);
  });

  test("netsplit keys and the node name are accepted silently", () => {
    const loaded = load(
      "allow_register_during_netsplit = on\nnodename = n@h\nlistener.tcp.a = 127.0.0.1:1",
    );
    expect(ok(loaded).text("nodename")).toBe("n@h");
    expect(loaded.notices).toEqual([]);
  });
});

describe("the configuration of a public tutorial", () => {
  const TUTORIAL = readFileSync(new URL("tutorial.vernemq.conf", import.meta.url), "utf8");

  test("is known in full, with one notice for Erlang-only keys", () => {
    const { errors, notices } = load(TUTORIAL);
    expect(errors).toEqual([]);
    const others = notices.filter((line) => !line.includes("not supported yet"));
    expect(others).toEqual([
      "keys that only steer the Erlang machine (accepted, without effect here): " +
        "listener.nr_of_acceptors, log.crash.maximum_message_size, log.crash.size, " +
        "log.crash.rotation, erlang.async_threads, erlang.max_ports, leveldb.maximum_memory.percent",
    ]);
  });

  test("with three typing errors gets three good messages more", () => {
    const before = new Set(load(TUTORIAL).errors);
    const wrong = TUTORIAL.replace("retry_interval = 10", "retry_interval = 10s")
      .replace("max_client_id_size", "max_clientid_size")
      .replace("shared_subscription_policy = random", "shared_subscription_policy = randon");
    expect(load(wrong).errors.filter((line) => !before.has(line))).toEqual([
      'v.conf:7: retry_interval: "10s" is not an integer (seconds, without a unit), allowed: an integer, at least 0',
      "v.conf:8: max_clientid_size: there is no setting with that name, did you mean max_client_id_size?",
      'v.conf:26: shared_subscription_policy: "randon" is not a valid value, allowed: prefer_local, local_only, random, prefer_online_before_local, did you mean random?',
    ]);
  });

  test("runs, once what comes later is left out", () => {
    const later = load(TUTORIAL).errors.map((line) => Number(line.split(":")[1]));
    const rest = TUTORIAL.split("\n").filter((_, index) => !later.includes(index + 1));
    const config = ok(load(rest.join("\n")));
    expect(config.int("max_inflight_messages")).toBe(1000);
    expect(config.int("max_online_messages")).toBe(-1);
    expect(config.listeners).toHaveLength(1);
    expect(config.listeners[0]).toMatchObject({
      kind: "tcp",
      address: "127.0.0.1",
      port: 1883,
      mountpoint: "",
    });
  });
});

describe("a loaded configuration", () => {
  test("C-31 changes live settings and says which", () => {
    const config = ok(load("retry_interval = 20"));
    const changed: string[] = [];
    config.onChange((key) => changed.push(key));
    config.set("retry_interval", "30");
    expect(config.int("retry_interval")).toBe(30);
    expect(changed).toEqual(["retry_interval"]);
    expect(ok(load("retry_interval = 20")).int("retry_interval")).toBe(20);
  });

  test("C-32 refuses to change others, and wrong values, by a coded error", () => {
    const config = ok(load(""));
    const code = (key: string, text: string) => {
      try {
        config.set(key, text);
      } catch (error) {
        return error;
      }
      return undefined;
    };
    expect(code("topic_max_depth", "5")).toMatchObject({
      code: "CONFIG_NOT_LIVE",
      message: "The following config keys are not settable: [topic_max_depth]",
    });
    expect(code("retry_interval", "x")).toMatchObject({ code: "CONFIG_VALUE_REFUSED" });
    expect(code("retry_intervall", "1")).toMatchObject({
      code: "CONFIG_UNKNOWN_KEY",
      message: expect.stringContaining("did you mean retry_interval"),
    });
    expect(config.int("retry_interval")).toBe(20);
  });

  test("gives typed values and defaults, and throws on a programmer's mistake", () => {
    const config = ok(
      loadAll(
        "plugins.b = on\nplugins.a = on\nplugins.a.priority = 3\nvmq_webhooks.w.hook = on_publish\nvmq_webhooks.w.endpoint = http://x",
      ),
    );
    expect(config.keysBelow("plugins.")).toEqual(["plugins.b", "plugins.a", "plugins.a.priority"]);
    expect(config.value("plugins.a.path")).toBeUndefined();
    expect(config.value("vmq_webhooks.w.response_timeout")).toBe(5000);
    expect(config.value("vmq_webhooks.other.response_timeout")).toBeUndefined();
    expect(config.text("queue_type")).toBe("fifo");
    expect(() => config.int("queue_type")).toThrow(/queue_type was read as number/);
    expect(() => config.flag("queue_type")).toThrow(/read as flag/);
    expect(() => config.value("no_such_key")).toThrow(/no_such_key/);
  });

  test("cannot be changed from outside", () => {
    const config = ok(
      load(
        "listener.ssl.a = 127.0.0.1:1\nlistener.ssl.psk_support = on\nlistener.ssl.pskfile = v.conf",
      ),
    );
    expect(Object.isFrozen(config.listeners)).toBe(true);
    expect(Object.isFrozen(config.listeners[0])).toBe(true);
    expect(Object.isFrozen(config.listeners[0]?.tls)).toBe(true);
  });
});
