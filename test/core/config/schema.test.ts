import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { loadConfig } from "../../../core/config/load.ts";
import { allowedText, fillNames, rowOf, SCHEMA } from "../../../core/config/schema.ts";
import { SUPPORT_RULES, supportOf } from "../../../core/config/support.ts";
import { readValue } from "../../../core/config/values.ts";

/** All keys of VerneMQ: key, type, =default, flags (Hidden, Erlang only, Live), unit, values. */
const KNOWN = readFileSync(new URL("known-keys.txt", import.meta.url), "utf8")
  .trimEnd()
  .split("\n")
  .map((line) => {
    const [key = "", type = "", fallback = "", flags = "", unit = "", values = ""] =
      line.split("|");
    // The type ip|domain_socket holds the separator.
    return type === "ip" && fallback === "domain_socket"
      ? { key, type: "ip|domain_socket", fallback: undefined, flags: "", unit: "", values: [] }
      : {
          key,
          type,
          fallback: fallback.startsWith("=") ? fallback.slice(1) : undefined,
          flags,
          unit,
          values: values === "" ? [] : values.split(" "),
        };
  });

/** Defaults that differ from VerneMQ's on purpose. */
const OWN_DEFAULTS: Readonly<Record<string, string>> = { "vmq_webhooks.use_crls": "off" };

/** A key as a file would hold it. */
function written(key: string): string {
  return fillNames(
    key,
    key.split(".").map((word) => (word === "$topic_id" ? "1" : word.startsWith("$") ? "x" : word)),
  );
}

/** A name that only an option mentions is an HTTPS listener, and that needs a certificate. */
const IDENTITY = { "listener.https.certfile": "", "listener.https.keyfile": "" };

describe("the schema", () => {
  test("marks every password and key, so that no command shows one", () => {
    const named = /(passwo?r?d|pwd|secret|psk|cookie|api_key|token)$/;
    const unmarked = SCHEMA.filter(
      ({ key, type, isSecret }) => type === "string" && named.test(key) && isSecret !== true,
    );
    expect(unmarked.map(({ key }) => key)).toEqual([]);
  });

  test("has all 633 keys of VerneMQ with type, default, unit, values and flags", () => {
    expect(KNOWN).toHaveLength(633);
    for (const known of KNOWN) {
      const row = SCHEMA.find(({ key }) => key === known.key);
      const socket = /^listener\.(ssl|wss?)\.\$name$/.test(known.key);
      // Differs from VerneMQ: a bridge may allow several TLS versions, as listeners do.
      const versions = known.key === "vmq_bridge.ssl.$name.tls_version";
      const type = socket ? "ip|domain_socket" : versions ? "list" : known.type;
      expect(row?.type, known.key).toBe(type);
      expect(row?.default, known.key).toBe(OWN_DEFAULTS[known.key] ?? known.fallback);
      // Differs from VerneMQ: bridges change at run time.
      const isBridge = /^vmq_bridge\.(tcp|ssl)\./.test(known.key);
      expect(row?.live === true, known.key).toBe(known.flags.includes("L") || isBridge);
      expect(row?.erlangOnly === true, known.key).toBe(known.flags.includes("E"));
      expect(row?.hidden === true, known.key).toBe(known.flags.includes("H"));
      if (known.unit !== "") expect(row?.unit, known.key).toBe(known.unit);
      const values = row?.values ?? (row?.type === "flag" ? ["on", "off"] : []);
      expect(values, known.key).toEqual(expect.arrayContaining(known.values));
    }
  });

  test("has each key once, with a doc, and reads its own default", () => {
    expect(new Set(SCHEMA.map(({ key }) => key)).size).toBe(SCHEMA.length);
    for (const row of SCHEMA) {
      expect(row.doc, row.key).toMatch(/\S.{8,}/);
      expect(allowedText(row), row.key).not.toBe("");
      expect(rowOf(written(row.key))?.key, row.key).toBe(row.key);
      if (row.default !== undefined) {
        expect(readValue(row, row.default), row.key).toMatchObject({ ok: true });
      }
    }
  });

  test("accepts each key at its default, save what would ask for a feature not built yet", () => {
    for (const row of SCHEMA) {
      if (row.default === undefined) continue;
      const key = written(row.key);
      const values = { ...IDENTITY, [key]: row.default };
      const { errors } = loadConfig({ isEmbedded: true, values });
      const support = supportOf(row);
      const asks = support.kind === "later" && support.accept?.includes(row.default) === false;
      if (asks) expect(errors, key).toEqual([expect.stringContaining(`${key}: not supported yet`)]);
      else expect(errors, key).toEqual([]);
    }
  });

  test("C-34 accepts Erlang-only keys with one notice, and they change nothing", () => {
    const erlang = SCHEMA.filter((row) => row.erlangOnly === true && row.default !== undefined);
    expect(erlang.length).toBeGreaterThan(80);
    const values = Object.fromEntries(erlang.map((row) => [written(row.key), row.default ?? ""]));
    const all = { ...IDENTITY, ...values };
    const { config, errors, notices } = loadConfig({ isEmbedded: true, values: all });
    expect(errors).toEqual([]);
    expect(notices).toHaveLength(1);
    for (const key of Object.keys(values)) expect(notices[0]).toContain(key);
    expect(config?.listeners).toEqual([]);
  });

  test("prefers a fixed key to one with free names", () => {
    expect(rowOf("listener.tcp.max_connections")?.type).toBe("integer");
    expect(rowOf("plugins.vmq_acl")?.default).toBe("on");
    expect(rowOf("plugins.other")?.key).toBe("plugins.$name");
    expect(rowOf("plugins.my\\.own")?.key).toBe("plugins.$name");
    expect(rowOf("nothing.of.the.kind")).toBeUndefined();
  });
});

describe("support rules", () => {
  test("name keys that exist", () => {
    for (const [keys] of SUPPORT_RULES) {
      const prefix = keys.endsWith(".*") ? keys.slice(0, -1) : undefined;
      const found = SCHEMA.some(({ key }) =>
        prefix === undefined ? key === keys : key.startsWith(prefix),
      );
      expect(found, keys).toBe(true);
    }
  });

  test("cover Erlang-only keys below a feature of later", () => {
    const row = SCHEMA.find(({ key }) => key === "listener.http.$name.config_mod");
    expect(row === undefined ? undefined : supportOf(row).kind).toBe("erlang");
  });
});
