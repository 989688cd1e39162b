import { describe, expect, it } from "vitest";
import {
  firstForwarded,
  forwardedOrigin,
  trustedProxies,
} from "../../../core/listeners/forwarded-for.ts";

describe("trusted proxies", () => {
  it.each([
    ["10.1.2.3", "10.1.2.3", true],
    ["10.1.2.3", "10.1.2.4", false],
    ["10.1.0.0/16", "10.1.255.1", true],
    ["10.1.0.0/16", "10.2.0.1", false],
    ["0.0.0.0/0", "203.0.113.5", true],
    ["2001:db8::/32", "2001:db8:1::5", true],
    ["2001:db8::/32", "2001:db9::5", false],
    ["::1", "::1", true],
    [" 10.1.2.3 ", "10.1.2.3", true],
  ])("%s covers %s: %s", (entry, address, expected) => {
    const family = address.includes(":") ? "ipv6" : "ipv4";
    expect(trustedProxies([entry]).check(address, family)).toBe(expected);
  });

  it.each(["proxy", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "::/129", "10.0.0.0/8/8", ""])(
    "refuses the entry %j",
    (entry) => {
      expect(() => trustedProxies([entry])).toThrow(RangeError);
    },
  );
});

describe("first entry of X-Forwarded-For", () => {
  it.each([
    ["192.0.2.1", "192.0.2.1"],
    ["192.0.2.1, 10.0.0.1", "192.0.2.1"],
    [" 2001:db8::1 ,10.0.0.1", "2001:db8::1"],
    ["192.0.2.1:8080", "192.0.2.1"],
    ["[2001:db8::1]:8080", "2001:db8::1"],
    ["[2001:db8::1]", "2001:db8::1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["unknown", undefined],
    ["", undefined],
    [", 192.0.2.1", undefined],
    ["192.0.2.1 evil", undefined],
  ])("of %j is %s", (header, expected) => {
    expect(firstForwarded(header)).toBe(expected);
  });
});

describe("forwarded origin (W-39)", () => {
  const settings = {
    enabled: true,
    trusted: [],
    useCnAsUsername: true,
    cnHeader: "X-SSL-Client-CN",
  };
  const proxy = { peer: { address: "10.0.0.1", port: 5 }, preAuthUsername: undefined };
  const trusted = trustedProxies(["10.0.0.0/8"]);
  const ask = (headers: Record<string, string>, from = proxy, options = settings) =>
    forwardedOrigin(headers, from, options, trusted);

  it("gives the client's address and name", () => {
    const headers = { "x-forwarded-for": "192.0.2.1", "x-ssl-client-cn": "alice" };
    const origin = { peer: { address: "192.0.2.1", port: 5 }, preAuthUsername: "alice" };
    expect(ask(headers)).toEqual({ accepted: true, origin });
  });

  it("needs no name when the name is not asked for", () => {
    const noName = { ...settings, useCnAsUsername: false };
    const headers = { "x-forwarded-for": "192.0.2.1", "x-ssl-client-cn": "alice" };
    expect(ask(headers, proxy, noName)).toMatchObject({
      accepted: true,
      origin: { preAuthUsername: undefined },
    });
  });

  it("answers 403 to an untrusted peer", () => {
    const stranger = { peer: { address: "192.0.2.9", port: 5 }, preAuthUsername: undefined };
    const headers = { "x-forwarded-for": "192.0.2.1", "x-ssl-client-cn": "alice" };
    expect(ask(headers, stranger)).toMatchObject({ accepted: false, status: 403 });
  });

  it.each([
    [{}],
    [{ "x-forwarded-for": "nonsense", "x-ssl-client-cn": "alice" }],
    [{ "x-forwarded-for": "192.0.2.1" }],
    [{ "x-forwarded-for": "192.0.2.1", "x-ssl-client-cn": "" }],
  ])("answers 400 to %j", (headers) => {
    expect(ask(headers)).toMatchObject({ accepted: false, status: 400 });
  });
});
