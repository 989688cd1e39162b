import { describe, expect, it } from "vitest";
import { ProxyHeaderReader, parseProxyHeader } from "../../../core/listeners/proxy-protocol.ts";
import { field, sslField, V2_LOCAL, v2Header } from "./proxy-headers.ts";

/** A small seeded generator, so that a failure can be repeated. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

const complete = (bytes: Buffer) => {
  const parsed = parseProxyHeader(bytes);
  if (parsed.state !== "complete") throw new Error(JSON.stringify(parsed));
  return parsed.header;
};

describe("PROXY v1", () => {
  it.each([
    ["PROXY TCP4 192.0.2.7 10.0.0.1 4711 1883\r\n", { address: "192.0.2.7", port: 4711 }],
    ["PROXY TCP6 2001:db8::1 ::1 65535 0\r\n", { address: "2001:db8::1", port: 65_535 }],
    ["PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n", { address: "192.0.2.7", port: 1 }],
    ["PROXY UNKNOWN\r\n", undefined],
    ["PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", undefined],
  ])("reads %j", (text, source) => {
    const header = { length: text.length, source, commonName: undefined };
    expect(complete(Buffer.from(`${text}\x10\x0c`))).toEqual(header);
  });

  it.each([
    "PROXY TCP4 192.0.2.7 10.0.0.1 4711\r\n",
    "PROXY TCP4 192.0.2.7 10.0.0.1 4711 65536\r\n",
    "PROXY TCP4 192.0.2.7 10.0.0.1 -1 1\r\n",
    "PROXY TCP4 192.0.2.7 10.0.0.1 1 1 1\r\n",
    "PROXY TCP4 192.0.2.777 10.0.0.1 1 1\r\n",
    "PROXY TCP4 2001:db8::1 ::1 1 1\r\n",
    "PROXY TCP6 192.0.2.7 10.0.0.1 1 1\r\n",
    "PROXY UDP4 192.0.2.7 10.0.0.1 1 1\r\n",
    "PROXY \r\n",
    `PROXY TCP4 ${"1".repeat(107)}`,
    "proxy TCP4",
    "\x10\x0c\x00\x04MQTT",
    "GET /mqtt HTTP/1.1\r\n",
  ])("refuses %j", (text) => {
    expect(parseProxyHeader(Buffer.from(text)).state).toBe("malformed");
  });
});

describe("PROXY v2", () => {
  it("reads IPv4", () => {
    const header = v2Header();
    expect(complete(header)).toEqual({
      length: header.length,
      source: { address: "192.0.2.7", port: 4711 },
      commonName: undefined,
    });
  });

  it.each([
    ["20010db8000000000000000000000001", "2001:db8::1"],
    ["00000000000000000000000000000000", "::"],
    ["00010000000000020000000000000003", "1:0:0:2::3"],
    ["00000000000000000000ffffc0000207", "192.0.2.7"],
    ["fe800000000000000000000000000000", "fe80::"],
  ])("reads IPv6 %s as %s", (hex, address) => {
    const addresses = Buffer.concat([Buffer.from(hex, "hex"), Buffer.alloc(16)]);
    const { source } = complete(v2Header({ family: 0x21, addresses }));
    expect(source).toEqual({ address, port: 4711 });
  });

  it("keeps the socket's address for LOCAL, whatever follows", () => {
    expect(complete(V2_LOCAL).source).toBeUndefined();
    const header = v2Header({ command: 0, fields: [sslField("evil"), Buffer.from([1])] });
    expect(complete(header)).toMatchObject({
      length: header.length,
      source: undefined,
      commonName: undefined,
    });
  });

  it("keeps the socket's address for unix sockets and unspecified families", () => {
    const unix = v2Header({ family: 0x31, addresses: Buffer.alloc(216), fields: [sslField("me")] });
    expect(complete(unix)).toMatchObject({ source: undefined, commonName: "me" });
    const unspecified = v2Header({ family: 0, addresses: Buffer.alloc(0) });
    expect(complete(unspecified).source).toBeUndefined();
  });

  it("takes the common name from the TLS field among others", () => {
    const fields = [
      field(0x01, Buffer.from("mqtt")),
      sslField("Zoë"),
      field(0x04, Buffer.alloc(9)),
    ];
    expect(complete(v2Header({ fields })).commonName).toBe("Zoë");
  });

  it("does not believe a common name that the proxy has not verified", () => {
    expect(complete(v2Header({ fields: [sslField("forged", 1)] })).commonName).toBeUndefined();
  });

  it("gives no name for an empty or missing one", () => {
    expect(complete(v2Header({ fields: [sslField("")] })).commonName).toBeUndefined();
    const noName = field(0x20, Buffer.from([1, 0, 0, 0, 0]));
    expect(complete(v2Header({ fields: [noName] })).commonName).toBeUndefined();
    const short = field(0x20, Buffer.from([1, 0]));
    expect(complete(v2Header({ fields: [short] })).commonName).toBeUndefined();
  });

  it.each([
    ["version 1", (bytes: Buffer) => bytes.writeUInt8(0x11, 12)],
    ["command 2", (bytes: Buffer) => bytes.writeUInt8(0x22, 12)],
    ["family 4", (bytes: Buffer) => bytes.writeUInt8(0x41, 13)],
    ["a short address block", (bytes: Buffer) => bytes.writeUInt16BE(11, 14)],
    ["a field past the end", (bytes: Buffer) => bytes.writeUInt8(200, bytes.length - 3)],
  ])("refuses %s", (_, spoil) => {
    const bytes = v2Header({ fields: [field(4, Buffer.from([9, 9, 9]))] });
    spoil(bytes);
    if (_.startsWith("a field")) bytes.writeUInt8(200, bytes.length - 4);
    expect(parseProxyHeader(bytes).state).toBe("malformed");
  });
});

describe("PROXY header in pieces", () => {
  it("gives the same however it is cut, and takes no byte too many", () => {
    const next = random(42);
    const pick = (): Buffer => {
      const choice = Math.floor(next() * 4);
      if (choice === 0) return Buffer.from("PROXY TCP4 192.0.2.7 10.0.0.1 4711 1883\r\n");
      if (choice === 1) return V2_LOCAL;
      if (choice === 2) return v2Header({ fields: [sslField("me")] });
      return v2Header({ fields: [field(4, Buffer.alloc(Math.floor(next() * 3000), 7))] });
    };
    for (let round = 0; round < 500; round++) {
      const header = pick();
      const all = Buffer.concat([header, Buffer.from("payload")]);
      const whole = complete(all);
      const reader = new ProxyHeaderReader();
      let at = 0;
      for (;;) {
        const size = 1 + Math.floor(next() * (round % 2 === 0 ? 3 : 200));
        const chunk = Buffer.from(all.subarray(at, at + size));
        const result = reader.push(chunk);
        chunk.fill(0xee); // the reader may keep nothing of a shared buffer
        if (result.state === "malformed") throw new Error(result.reason);
        if (result.state === "complete") {
          expect(result).toMatchObject(whole);
          expect(at + result.used).toBe(header.length);
          break;
        }
        at += size;
        expect(at).toBeLessThan(header.length);
      }
    }
  });

  it("answers any bytes with a verdict", () => {
    const next = random(7);
    const starts = [Buffer.alloc(0), v2Header().subarray(0, 13), Buffer.from("PROXY TCP")];
    for (let round = 0; round < 5000; round++) {
      const noise = Buffer.from(Array.from({ length: next() * 300 }, () => next() * 256));
      const start = starts[round % starts.length] ?? Buffer.alloc(0);
      const result = parseProxyHeader(Buffer.concat([start, noise]));
      expect(["incomplete", "malformed", "complete"]).toContain(result.state);
      if (result.state === "complete") {
        expect(result.header.length).toBeLessThanOrEqual(start.length + noise.length);
      }
    }
  });
});
