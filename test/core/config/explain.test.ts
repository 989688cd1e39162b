import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { checkConfig, describeKey, showConfig } from "../../../core/config/explain.ts";
import type { LoadOptions } from "../../../core/config/load.ts";
import { fileSyntax, parseValue } from "../../../core/config/parse.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "nautilus-explain-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

function options(source: string, more: LoadOptions = {}): LoadOptions {
  writeFileSync(join(folder, "v.conf"), source);
  return { file: "v.conf", cwd: folder, ...more };
}
function lineOf(text: string, key: string): string | undefined {
  return text.split("\n").find((line) => line.startsWith(`${key} `));
}

describe("config check", () => {
  test("prints notices and OK", () => {
    const answer = checkConfig(options("listener.tcp.a = 127.0.0.1:1\nerlang.K = on"));
    expect(answer).toEqual({
      exit: 0,
      stdout:
        "notice: keys that only steer the Erlang machine (accepted, without effect here): erlang.K\nconfig is OK\n",
      stderr: "",
    });
  });

  test("names files that are set and not there, but not those the broker makes", () => {
    writeFileSync(join(folder, "there"), "");
    const { exit, stdout } = checkConfig(
      options(
        "listener.tcp.a = 127.0.0.1:1\nvmq_passwd.password_file = nosuch\nvmq_acl.acl_file = ./there\nlog.console.file = ./log/x.log",
      ),
    );
    expect(exit).toBe(0);
    expect(stdout).toBe(
      'notice: v.conf:2: vmq_passwd.password_file: there is no file "nosuch"\nconfig is OK\n',
    );
  });

  test("fails without a file that the start needs, unless its plugin is off", () => {
    const text = "listener.tcp.a = 127.0.0.1:1\nvmq_acl.acl_file = nosuch\n";
    expect(checkConfig(options(text))).toEqual({
      exit: 1,
      stdout: "",
      stderr: 'v.conf:2: vmq_acl.acl_file: there is no file "nosuch"\n',
    });
    expect(checkConfig(options(`${text}plugins.vmq_acl = off\n`)).exit).toBe(0);
  });

  test("names HTTP modules that nobody may know", () => {
    const text =
      "listener.http.a = 127.0.0.1:1\nlistener.http.a.http_modules = vmq_metric_http, vmq_health_http, vmq_http_pub, own\nplugins.own = on\nplugins.own.path = .\nlistener.tcp.a = 127.0.0.1:1\n";
    const nobody = "unless a plugin adds it (plugins.<name> = on)";
    const of = (module: string, more = "") =>
      `notice: v.conf:2: listener.http.a.http_modules: no HTTP module ${module} ${nobody}${more}\n`;
    const { stdout } = checkConfig(options(text));
    expect(stdout).toBe(
      `${of("vmq_metric_http", "; did you mean vmq_metrics_http?")}${of("vmq_http_pub")}config is OK\n`,
    );
    expect(checkConfig(options(`${text}plugins.vmq_http_pub = on\n`)).stdout).not.toContain(
      "vmq_http_pub",
    );
  });

  test("prints all errors and gives exit code 1", () => {
    const answer = checkConfig(options("a = 1\nb"));
    expect(answer.exit).toBe(1);
    expect(answer.stderr.trimEnd().split("\n")).toHaveLength(2);
    expect(answer.stdout).toBe("");
  });
});

describe("config show", () => {
  const env = { DOCKER_VERNEMQ_TOPIC_MAX_DEPTH: "9" };
  const sets = ["max_message_rate=7"];

  test("prints what was written, with its origin", () => {
    const answer = showConfig(options("\nretry_interval = 5", { env, sets }), false);
    expect(answer.exit).toBe(0);
    expect(answer.stdout.trimEnd().split("\n")).toEqual([
      "retry_interval = 5     # v.conf:2",
      "max_message_rate = 7   # --set",
      "topic_max_depth = 9    # environment DOCKER_VERNEMQ_TOPIC_MAX_DEPTH",
    ]);
  });

  test("--effective adds the defaults, also those of named listeners", () => {
    const source =
      "retry_interval = 5\nlistener.tcp.mine = 127.0.0.1:1\nlistener.mountpoint = 'a # b'";
    const { stdout } = showConfig(options(source, { env, sets }), true);
    expect(lineOf(stdout, "retry_interval")).toMatch(/^retry_interval = 5 +# v\.conf:1$/);
    expect(lineOf(stdout, "queue_type")).toMatch(/^queue_type = fifo +# default$/);
    expect(lineOf(stdout, "graphite_prefix")).toMatch(/^graphite_prefix = '' +# default$/);
    expect(lineOf(stdout, "listener.mountpoint")).toMatch(/^listener\.mountpoint = 'a # b' +# v/);
    expect(lineOf(stdout, "listener.tcp.mine.max_connections")).toMatch(/= -1 +# default$/);
    expect(lineOf(stdout, "leveldb.compression")).toBeUndefined();
    expect(stdout).not.toContain("$name");
    const keys = stdout
      .trimEnd()
      .split("\n")
      .map((line) => line.split(" ")[0]);
    expect(new Set(keys).size).toBe(keys.length);
  });

  test("prints a file that means the same", () => {
    const source =
      "listener.tcp.a = 127.0.0.1:1\nlistener.mountpoint = ' x#'\nallow_anonymous = on";
    const first = showConfig(options(source), false).stdout;
    const again = showConfig(options(first), false).stdout;
    const settings = (text: string) => text.replace(/ +# v\.conf:\d+$/gm, "");
    expect(settings(again)).toBe(settings(first));
    expect(first).toContain("listener.mountpoint = ' x#'");
  });

  test("shows no password, key or URL with one, but what is the default", () => {
    const source = [
      "vmq_diversity.postgres.password = s3cret",
      "vmq_diversity.mysql2.password = password",
      "vmq_bridge.tcp.b.password = s3cret",
      "vmq_webhooks.w.hook = on_publish",
      "vmq_webhooks.w.secret = s3cret",
      "vmq_webhooks.w.header.Authorization = Bearer s3cret",
      "vmq_webhooks.w.endpoint = http://me:s3cret@127.0.0.1/a@b:c",
      "listener.https.keypasswd = s3cret",
      "listener.http.a.http_modules.vmq_http_pub.mqtt_auth.password = s3cret",
      "vmq_mine.token = s3cret",
    ];
    const own = { key: "vmq_mine.token", type: "string", isSecret: true, doc: "." } as const;
    const from = options(source.join("\n"), {
      rows: [own],
    });
    const { stdout, stderr } = showConfig(from, true);
    expect(stderr).toBe("");
    expect(stdout).not.toContain("s3cret");
    expect(lineOf(stdout, "vmq_webhooks.w.secret")).toMatch(/= \*\*\* +# v\.conf:5$/);
    expect(lineOf(stdout, "vmq_mine.token")).toMatch(/= \*\*\* +# v/);
    expect(stdout).toContain("vmq_webhooks.w.endpoint = http://me:***@127.0.0.1/a@b:c");
    expect(lineOf(stdout, "vmq_diversity.mysql2.password")).toMatch(/= password +# v/);
    for (const line of source) {
      const [key = ""] = line.split(" ");
      expect(describeKey(from, key).stdout).not.toContain("s3cret");
    }
    expect(describeKey(from, "vmq_webhooks.w.secret").stdout).toContain("effective: ***   # v");
  });

  test("prints the errors of a wrong file", () => {
    expect(showConfig(options("a = 1"), false)).toMatchObject({ exit: 1, stdout: "" });
  });
});

describe("config describe", () => {
  test("prints doc, type, allowed values, default, unit, when it changes and the value in effect", () => {
    const { exit, stdout } = describeKey(options("retry_interval = 5"), "retry_interval");
    expect(exit).toBe(0);
    expect(stdout).toMatch(/^retry_interval\n {2}Seconds without acknowledgement/);
    expect(stdout).toContain("type:      integer\n");
    expect(stdout).toContain("allowed:   an integer, at least 0\n");
    expect(stdout).toContain("default:   20\n");
    expect(stdout).toContain("unit:      s\n");
    expect(stdout).toContain("changes:   live (vmq-admin set)\n");
    expect(stdout).toContain("effective: 5   # v.conf:1\n");
  });

  test("knows keys with free names and keys of later features", () => {
    const listener = describeKey(options(""), "listener.tcp.$name").stdout;
    expect(listener).toContain("changes:   with a restart\n");
    expect(listener).toContain("effective: unset\n");
    expect(listener).toContain("example:   127.0.0.1:1883\n");
    expect(describeKey(options(""), "message_store_plugin").stdout).toContain(
      "not supported yet (another message store)",
    );
  });

  test("helps with a misspelt key, and works while the file is wrong", () => {
    expect(describeKey(options(""), "retry_intervall")).toEqual({
      exit: 1,
      stdout: "",
      stderr: "retry_intervall: there is no setting with that name, did you mean retry_interval?\n",
    });
    expect(describeKey(options("x"), "retry_interval").stdout).toContain("effective: unknown");
  });
});

test.each(["a", "", "a # b", "'x", " a ", "a\nb", "#", "a=b"])(
  "%j survives being written and read",
  (text) => {
    expect(parseValue(fileSyntax(text))).toEqual({ text });
  },
);
