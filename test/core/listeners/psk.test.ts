import tls from "node:tls";
import { expect, it } from "vitest";
import { PSK_CIPHERS, parsePskFile, withPskCiphers } from "../../../core/listeners/psk.ts";

it("takes the text behind the separator as the key's bytes", () => {
  const { keys, badLines } = parsePskFile("alice:s3:cr\u00e9t\r\n\nbob:00ff\n", ":");
  expect([...keys]).toEqual([
    ["alice", Buffer.from("s3:cr\u00e9t")],
    ["bob", Buffer.from("00ff")],
  ]);
  expect(badLines).toEqual([]);
});

it("takes another separator", () => {
  expect(parsePskFile("a:b;key", ";").keys.get("a:b")).toEqual(Buffer.from("key"));
});

it("names lines without identity, separator or key, and keys that OpenSSL cannot take", () => {
  const text = ["ok:1", ":key", "identity", "identity:", `long:${"x".repeat(513)}`].join("\n");
  expect(parsePskFile(text, ":").badLines).toEqual([2, 3, 4, 5]);
});

it("adds exactly the four PSK ciphers to Node's list, which forbids PSK", () => {
  const withPsk = withPskCiphers(tls.DEFAULT_CIPHERS);
  expect(() => tls.createSecureContext({ ciphers: withPsk })).not.toThrow();
  expect(withPsk).not.toContain("!PSK");
  expect(withPsk.endsWith(PSK_CIPHERS.join(":"))).toBe(true);
});
