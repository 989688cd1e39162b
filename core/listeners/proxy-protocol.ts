/**
 * PROXY protocol v1 and v2 headers, as a parser without I/O.
 * The standard: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
 */
import { isIPv4, isIPv6, SocketAddress } from "node:net";
import { plainAddress } from "./peer.ts";
import type { Peer } from "./types.ts";

export interface ProxyHeader {
  /** Header bytes in all; the client's own bytes follow. */
  readonly length: number;
  /** undefined for health checks (LOCAL) and unknown transports: the socket's address counts. */
  readonly source: Peer | undefined;
  /** Common name of the client's certificate, when the proxy has verified it (v2 only). */
  readonly commonName: string | undefined;
}

type Parsed =
  /** `need`: the header is at least this long. */
  | { readonly state: "incomplete"; readonly need: number }
  | { readonly state: "malformed"; readonly reason: string }
  | { readonly state: "complete"; readonly header: ProxyHeader };

/** Answer to one chunk; `used` counts its bytes that belong to the header. */
export type ProxyResult =
  | { readonly state: "incomplete" }
  | { readonly state: "malformed"; readonly reason: string }
  | ({ readonly state: "complete"; readonly used: number } & ProxyHeader);

/** Section 2.1: a v1 header never exceeds 107 bytes, its CRLF included. */
const V1_BYTES_MAX = 107;
const V1_START = Buffer.from("PROXY ");
/** Section 2.2. */
const V2_SIGNATURE = Buffer.from("\r\n\r\n\0\r\nQUIT\n", "latin1");
const V2_FIXED_BYTES = 16;
/** High half of byte 13; the low half is the command. */
const V2_VERSION = 0x20;
const COMMAND_LOCAL = 0;
const COMMAND_PROXY = 1;
/** Section 2.2.7: additional fields, type 1 byte, length 2 bytes, value. */
const PP2_TYPE_SSL = 0x20;
const PP2_SUBTYPE_SSL_CN = 0x22;
/** In front of the sub-fields of PP2_TYPE_SSL: client flags 1 byte, verify 4 bytes. */
const SSL_FIXED_BYTES = 5;

function malformed(reason: string): Parsed {
  return { state: "malformed", reason };
}

function startsLike(bytes: Buffer, start: Buffer): boolean {
  const length = Math.min(bytes.length, start.length);
  return bytes.compare(start, 0, length, 0, length) === 0;
}

/** Parses the header at the start of `bytes`. */
export function parseProxyHeader(bytes: Buffer): Parsed {
  if (startsLike(bytes, V2_SIGNATURE)) return parseV2(bytes);
  if (startsLike(bytes, V1_START)) return parseV1(bytes);
  return malformed("neither a v1 nor a v2 signature");
}

function parseV1(bytes: Buffer): Parsed {
  const end = bytes.subarray(0, V1_BYTES_MAX).indexOf("\r\n");
  if (end < 0) {
    if (bytes.length >= V1_BYTES_MAX) return malformed(`no end within ${V1_BYTES_MAX} bytes`);
    return { state: "incomplete", need: bytes.length + 1 };
  }
  const length = end + 2;
  const [, family, source, target, sourcePort, targetPort, ...more] = bytes
    .toString("latin1", 0, end)
    .split(" ");
  if (family === "UNKNOWN") {
    return { state: "complete", header: { length, source: undefined, commonName: undefined } };
  }
  if (family !== "TCP4" && family !== "TCP6") return malformed("family is not TCP4 or TCP6");
  const isAddress = family === "TCP4" ? isIPv4 : isIPv6;
  if (!isAddress(source ?? "") || !isAddress(target ?? "")) return malformed("bad address");
  const port = portNumber(sourcePort);
  if (port === undefined || portNumber(targetPort) === undefined) return malformed("bad port");
  if (more.length > 0) return malformed("fields after the ports");
  const peer = { address: plainAddress(source ?? ""), port };
  return { state: "complete", header: { length, source: peer, commonName: undefined } };
}

function portNumber(text: string | undefined): number | undefined {
  if (text === undefined || !/^\d{1,5}$/.test(text)) return undefined;
  const port = Number(text);
  return port <= 65_535 ? port : undefined;
}

function parseV2(bytes: Buffer): Parsed {
  if (bytes.length < V2_FIXED_BYTES) return { state: "incomplete", need: V2_FIXED_BYTES };
  const versionAndCommand = bytes.readUInt8(12);
  const command = versionAndCommand & 0x0f;
  if ((versionAndCommand & 0xf0) !== V2_VERSION) return malformed("version is not 2");
  if (command !== COMMAND_LOCAL && command !== COMMAND_PROXY) return malformed("unknown command");
  const length = V2_FIXED_BYTES + bytes.readUInt16BE(14);
  if (bytes.length < length) return { state: "incomplete", need: length };
  if (command === COMMAND_LOCAL) {
    return { state: "complete", header: { length, source: undefined, commonName: undefined } };
  }
  return parseV2Proxied(bytes.subarray(0, length), bytes.readUInt8(13));
}

/** Address block layout: source address, target address, source port, target port. */
function parseV2Proxied(header: Buffer, familyAndTransport: number): Parsed {
  const family = familyAndTransport >> 4;
  const addressBytes = [0, 4, 16, 108][family];
  if (addressBytes === undefined) return malformed("unknown address family");
  const isInternet = family === 1 || family === 2;
  const blockEnd = V2_FIXED_BYTES + addressBytes * 2 + (isInternet ? 4 : 0);
  if (header.length < blockEnd) return malformed("address block cut short");
  const fields = readFields(header.subarray(blockEnd));
  if (fields === undefined) return malformed("additional field cut short");
  const ssl = fields.get(PP2_TYPE_SSL);
  const source = isInternet
    ? {
        address: addressText(header.subarray(V2_FIXED_BYTES, V2_FIXED_BYTES + addressBytes)),
        port: header.readUInt16BE(V2_FIXED_BYTES + addressBytes * 2),
      }
    : undefined;
  const commonName = ssl === undefined ? undefined : verifiedCommonName(ssl);
  return { state: "complete", header: { length: header.length, source, commonName } };
}

function addressText(address: Buffer): string {
  if (address.length === 4) return address.join(".");
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(address.readUInt16BE(i).toString(16));
  // SocketAddress writes it the way sockets do: `2001:db8::1`.
  return plainAddress(new SocketAddress({ address: groups.join(":"), family: "ipv6" }).address);
}

/** Type-length-value fields; the last of a type wins. undefined when one overruns the end. */
function readFields(bytes: Buffer): Map<number, Buffer> | undefined {
  const fields = new Map<number, Buffer>();
  let at = 0;
  while (at < bytes.length) {
    if (bytes.length - at < 3) return undefined;
    const end = at + 3 + bytes.readUInt16BE(at + 1);
    if (end > bytes.length) return undefined;
    fields.set(bytes.readUInt8(at), bytes.subarray(at + 3, end));
    at = end;
  }
  return fields;
}

/**
 * Differs from VerneMQ: the name counts only if `verify` is 0, that is, the proxy has checked the
 * certificate (section 2.2.8); an unchecked certificate can claim any name.
 */
function verifiedCommonName(ssl: Buffer): string | undefined {
  if (ssl.length < SSL_FIXED_BYTES || ssl.readUInt32BE(1) !== 0) return undefined;
  const name = readFields(ssl.subarray(SSL_FIXED_BYTES))?.get(PP2_SUBTYPE_SSL_CN);
  return name === undefined || name.length === 0 ? undefined : name.toString("utf8");
}

/** Collects a header that comes in pieces; never holds more than one header's bytes. */
export class ProxyHeaderReader {
  private held = Buffer.alloc(0);
  private heldBytes = 0;

  /** Call with each chunk until the answer is not `incomplete`. Keeps no reference to `chunk`. */
  push(chunk: Buffer): ProxyResult {
    const before = this.heldBytes;
    const bytes = before === 0 ? chunk : this.append(chunk);
    const parsed = parseProxyHeader(bytes);
    if (parsed.state === "malformed") return parsed;
    if (parsed.state === "complete") {
      return { state: "complete", used: parsed.header.length - before, ...parsed.header };
    }
    if (before === 0) this.append(chunk);
    return { state: "incomplete" };
  }

  private append(chunk: Buffer): Buffer {
    const total = this.heldBytes + chunk.length;
    if (total > this.held.length) {
      const grown = Buffer.alloc(Math.max(total, this.held.length * 2));
      this.held.copy(grown, 0, 0, this.heldBytes);
      this.held = grown;
    }
    chunk.copy(this.held, this.heldBytes);
    this.heldBytes = total;
    return this.held.subarray(0, total);
  }
}
