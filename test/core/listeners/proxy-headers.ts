/** Builds PROXY protocol headers as a proxy would. */

const SIGNATURE = Buffer.from("0d0a0d0a000d0a515549540a", "hex");

export function field(type: number, value: Buffer): Buffer {
  const head = Buffer.from([type, value.length >> 8, value.length & 0xff]);
  return Buffer.concat([head, value]);
}

/** PP2_TYPE_SSL with a common name; `verify` is 0 for a certificate the proxy has checked. */
export function sslField(commonName: string, verify = 0): Buffer {
  const fixed = Buffer.from([0x07, 0, 0, 0, verify]);
  const version = field(0x21, Buffer.from("TLSv1.2"));
  return field(0x20, Buffer.concat([fixed, version, field(0x22, Buffer.from(commonName))]));
}

export interface V2Options {
  readonly command?: number;
  readonly family?: number;
  /** Source then target, 4, 16 or 108 bytes each. */
  readonly addresses?: Buffer;
  readonly ports?: readonly [number, number];
  readonly fields?: readonly Buffer[];
}

/** Default: TCP over IPv4 from 192.0.2.7:4711. */
export function v2Header(options: V2Options = {}): Buffer {
  const { command = 1, family = 0x11, fields = [], ports = [4711, 1883] } = options;
  const addresses = options.addresses ?? Buffer.from([192, 0, 2, 7, 10, 0, 0, 1]);
  const portBytes = Buffer.alloc(family >> 4 === 1 || family >> 4 === 2 ? 4 : 0);
  ports.forEach((port, i) => {
    if (portBytes.length > 0) portBytes.writeUInt16BE(port, i * 2);
  });
  const body = Buffer.concat([addresses, portBytes, ...fields]);
  const head = Buffer.from([0x20 | command, family, body.length >> 8, body.length & 0xff]);
  return Buffer.concat([SIGNATURE, head, body]);
}

export const V2_LOCAL = v2Header({ command: 0, family: 0, addresses: Buffer.alloc(0) });
