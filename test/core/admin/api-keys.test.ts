import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ApiKeys, type ApiKeysOptions } from "../../../core/admin/api-keys.ts";
import { loadConfig } from "../../../core/config/load.ts";
import { tempDir } from "../../support/broker.ts";

const NOW_MS = Date.parse("2030-06-01T00:00:00Z");

function apiKeys(
  options: ApiKeysOptions = {},
  values: Readonly<Record<string, string>> = {},
): ApiKeys {
  const { config } = loadConfig({ isEmbedded: true, values });
  if (config === undefined) throw new Error("no config");
  return new ApiKeys(config, { now: () => NOW_MS, ...options });
}

describe("API keys", () => {
  it("that are made are random, 32 characters long and open their scope only", async () => {
    const keys = apiKeys();
    const made = [await keys.create("mgmt"), await keys.create("mgmt")];
    const [first = "", second = ""] = made.map((each) => ("key" in each ? each.key : ""));
    expect(first).toMatch(/^[A-Za-z0-9]{32}$/);
    expect(second).not.toBe(first);
    expect(keys.check(first, "mgmt")).toBe(true);
    expect(keys.check(first, "metrics")).toBe(false);
    expect(keys.check("wrong", "mgmt")).toBe(false);
  });

  it("may be one's own, once for each scope (admin check 31)", async () => {
    const keys = apiKeys();
    expect(await keys.add("k1", "mgmt")).toBeUndefined();
    expect(await keys.add("k1", "mgmt")).toBe("key_already_exists");
    expect(await keys.add("k1", "metrics")).toBeUndefined();
    expect(keys.check("k1", "metrics")).toBe(true);
  });

  it("end at their expiry", async () => {
    let now = NOW_MS;
    const keys = apiKeys({ now: () => now });
    expect(await keys.add("k", "mgmt", "2030-06-01T00:01:00")).toBeUndefined();
    expect(keys.check("k", "mgmt")).toBe(true);
    now += 59_999;
    expect(keys.check("k", "mgmt")).toBe(true);
    now += 1;
    expect(keys.check("k", "mgmt")).toBe(false);
    expect(keys.list()).toMatchObject([{ isExpired: true }]);
  });

  it("are refused with a bad scope, date or length", async () => {
    const keys = apiKeys({}, { min_apikey_length: "5", max_apikey_expiry_days: "10" });
    expect(await keys.add("12345", "bad")).toBe("invalid_scope");
    expect(await keys.add("1234", "mgmt")).toBe("invalid_key_length");
    expect(await keys.add("x".repeat(2000), "mgmt")).toBe("invalid_key_length");
    for (const date of ["nonsense", "2001-01-01T00:00:00", "2030-06-12T00:00:00"]) {
      expect(await keys.add("12345", "mgmt", date), date).toBe("invalid_expiry_date");
    }
    expect(await keys.add("12345", "mgmt", "2030-06-10T00:00:00")).toBeUndefined();
    expect(keys.list()).toHaveLength(1);
  });

  it("get the latest expiry allowed when none is given", async () => {
    const keys = apiKeys({}, { max_apikey_expiry_days: "2" });
    await keys.create("mgmt");
    expect(keys.list()[0]?.expiresAtMs).toBe(NOW_MS + 2 * 86_400_000);
  });

  it("are as long as min_apikey_length asks", async () => {
    const made = await apiKeys({}, { min_apikey_length: "40" }).create("mgmt");
    expect("key" in made ? made.key.length : 0).toBe(40);
  });

  it("survive a restart, as hashes in a file for the broker's user alone (admin check 33)", async () => {
    const file = join(tempDir(), "api-keys.json");
    const keys = apiKeys({ file });
    await keys.add("my-secret-key", "mgmt");
    await keys.add("other", "status", "2031-01-01T00:00:00");
    const text = readFileSync(file, "utf8");
    expect(text).not.toContain("my-secret-key");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const again = apiKeys({ file });
    expect(again.check("my-secret-key", "mgmt")).toBe(true);
    expect(again.list()).toEqual(keys.list());
  });

  it("are deleted by themselves or by what is shown of them", async () => {
    const file = join(tempDir(), "api-keys.json");
    const keys = apiKeys({ file });
    await keys.add("a", "mgmt");
    await keys.add("a", "status");
    await keys.add("b", "mgmt");
    expect(await keys.delete("nobody")).toBe("key_not_found");
    expect(await keys.delete("a", "mgmt")).toBeUndefined();
    expect(keys.check("a", "status")).toBe(true);
    const shown = keys.list("mgmt")[0]?.fingerprint ?? "";
    expect(await keys.delete(shown)).toBeUndefined();
    expect(keys.check("b", "mgmt")).toBe(false);
    expect(apiKeys({ file }).list()).toMatchObject([{ scope: "status" }]);
  });

  it("in a file that is broken stop the start, naming it", () => {
    const file = join(tempDir(), "api-keys.json");
    writeFileSync(file, "{");
    expect(() => apiKeys({ file })).toThrow(`the API keys in ${file} cannot be read`);
  });

  it("may have the scope of a plugin's module", async () => {
    const keys = apiKeys({ moreScopes: () => ["hello"] });
    expect(await keys.add("k", "hello")).toBeUndefined();
    expect(keys.check("k", "hello")).toBe(true);
  });
});
