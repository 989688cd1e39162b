/** The socket to the remote broker, shared by MQTT.js and the flow of messages. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { connect as connectTcp, isIP, type Socket } from "node:net";
import { join } from "node:path";
import { Duplex } from "node:stream";
import {
  type ConnectionOptions,
  connect as connectTls,
  type DetailedPeerCertificate,
  type SecureVersion,
  type TLSSocket,
} from "node:tls";
import { CONNACK, CONNECT, Framer, PUBCOMP, PUBLISH } from "../../core/plugin-api.ts";
import type { BridgeSettings, TlsOptions } from "./settings.ts";

export interface WireEvents {
  /** A PUBLISH or an acknowledgement from the remote broker. */
  frame(bytes: Buffer, start: number, body: number, end: number): void;
  /** All frames of a read were given. */
  endOfRead(): void;
  /** Everything that `send` could not get rid of at once has left. */
  drained(): void;
}

/** What is told of a bridge by bit 7 of the protocol level. */
const BRIDGE_BIT = 0x80;

/**
 * The stream that MQTT.js gets. CONNECT, SUBSCRIBE, pings and their answers pass; frames of the message
 * flow never reach MQTT.js: they belong to the broker's own session, which has their state in its store.
 */
export class Wire extends Duplex {
  /** Bytes went out or came in: the connection was there. */
  isOpen = false;
  hasAnswered = false;
  private readonly inner: Socket;
  private readonly events: WireEvents;
  private readonly isPrivate: boolean;
  private readonly framer: Framer;
  private isHeld = false;
  private hasConnected = false;
  private isWaiting = false;

  constructor(settings: BridgeSettings, isPrivate: boolean, events: WireEvents) {
    super({ allowHalfOpen: false });
    this.events = events;
    this.isPrivate = isPrivate;
    this.framer = new Framer({
      onPacket: (header, bytes, start, body, end) => {
        this.onFrame(header >> 4, bytes, start, body, end);
        return !this.isHeld;
      },
    });
    this.inner = openSocket(settings, (fault) => this.destroy(fault));
    this.inner.setNoDelay(true);
    this.inner.once(settings.tls === undefined ? "connect" : "secureConnect", () => {
      this.isOpen = true;
    });
    this.inner.on("data", (chunk: Buffer) => this.onData(chunk));
    this.inner.on("error", (error) => this.destroy(error));
    this.inner.once("close", () => this.destroy());
  }

  private onData(chunk: Buffer): void {
    try {
      this.framer.push(chunk, chunk.length);
      this.events.endOfRead();
    } catch (error) {
      this.destroy(error instanceof Error ? error : new Error(String(error)));
    }
  }

  private onFrame(type: number, bytes: Buffer, start: number, body: number, end: number): void {
    if (type >= PUBLISH && type <= PUBCOMP) {
      this.events.frame(bytes, start, body, end);
      return;
    }
    this.hasAnswered = true;
    // Nothing can be taken before the local session is linked.
    if (type === CONNACK) this.hold();
    this.push(Buffer.from(bytes.subarray(start, end)));
  }

  /** Reads nothing more until `release`. */
  hold(): void {
    this.isHeld = true;
    this.framer.stop();
    this.inner.pause();
  }

  release(): void {
    this.isHeld = false;
    try {
      this.framer.resume();
      this.events.endOfRead();
    } catch (error) {
      this.destroy(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    this.inner.resume();
  }

  /** Sends frames of the message flow; false = the bytes are kept, `drained` follows. */
  send(bytes: Buffer): boolean {
    if (this.destroyed) return true;
    this.inner.write(bytes, this.onWritten);
    this.isWaiting = this.inner.writableLength > 0;
    return !this.isWaiting;
  }

  private readonly onWritten = (): void => {
    if (!this.isWaiting || this.inner.writableLength > 0) return;
    this.isWaiting = false;
    this.events.drained();
  };

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error) => void): void {
    this._writev([{ chunk }], done);
  }

  override _writev(parts: { chunk: Buffer }[], done: (error?: Error) => void): void {
    const bytes = Buffer.concat(parts.map(({ chunk }) => chunk));
    if (!this.hasConnected && bytes[0] === CONNECT << 4) {
      this.hasConnected = true;
      if (this.isPrivate) setBridgeBit(bytes);
    }
    if (!this.inner.destroyed) this.inner.write(bytes);
    done();
  }

  override _read(): void {
    // Frames are pushed as they come: answers to what MQTT.js asked are few and small.
  }

  override _final(done: () => void): void {
    this.inner.end();
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.isHeld = true;
    this.framer.stop();
    this.inner.destroy();
    done(error);
  }
}

/** The level stands behind the protocol name. MQTT 3.1.1, 3.1.2 */
function setBridgeBit(connect: Buffer): void {
  let at = 1;
  while ((connect[at] as number) > 127) at++;
  const level = at + 3 + connect.readUInt16BE(at + 1);
  connect[level] = (connect[level] as number) | BRIDGE_BIT;
}

function openSocket(settings: BridgeSettings, refuse: (fault: Error) => void): Socket {
  const { host, port, family, tls } = settings;
  if (tls === undefined) return connectTcp({ host, port, family });
  const socket = connectTls({ host, port, family, ...tlsOptions(tls, host) } as ConnectionOptions);
  socket.once("secureConnect", () => {
    const fault = chainFault(socket, tls);
    if (fault !== undefined) refuse(new Error(fault));
  });
  return socket;
}

/** Throws when a file cannot be read. */
function tlsOptions(tls: TlsOptions, host: string): ConnectionOptions {
  const { psk, versions } = tls;
  const sorted = [...versions].sort();
  const name = tls.serverName || host;
  const options: ConnectionOptions = {
    minVersion: secureVersion(sorted[0]),
    maxVersion: secureVersion(sorted.at(-1)),
    rejectUnauthorized: tls.isVerified && psk === undefined,
    // An address is no server name. RFC 6066, 3
    ...(isIP(name) === 0 ? { servername: name } : {}),
  };
  const authorities = authoritiesOf(tls);
  if (authorities.length > 0) options.ca = authorities;
  if (tls.certfile !== "") {
    options.cert = readFileSync(tls.certfile);
    options.key = readFileSync(tls.keyfile);
  }
  if (psk !== undefined) {
    options.ciphers = "PSK";
    options.pskCallback = () => ({ identity: psk.identity, psk: psk.key });
    options.checkServerIdentity = () => undefined;
  }
  return options;
}

/** Certificates of `cafile` and of all files in `capath`; none = those of Node. */
function authoritiesOf(tls: TlsOptions): string[] {
  const found: string[] = [];
  if (tls.cafile !== "") found.push(readFileSync(tls.cafile, "utf8"));
  if (tls.capath !== "") {
    for (const name of readdirSync(tls.capath).sort()) {
      const file = join(tls.capath, name);
      if (!statSync(file).isFile()) continue;
      const text = readFileSync(file, "utf8");
      if (text.includes("-----BEGIN CERTIFICATE-----")) found.push(text);
    }
    if (found.length === 0) throw new Error(`${tls.capath} holds no certificate`);
  }
  return found;
}

function secureVersion(version: string | undefined): SecureVersion {
  return (version ?? "tlsv1.2").replace("tlsv", "TLSv") as SecureVersion;
}

/** `depth` as Erlang counts it: certificates between the server's and the root. */
function chainFault(socket: TLSSocket, tls: TlsOptions): string | undefined {
  if (!tls.isVerified || tls.psk !== undefined) return undefined;
  let certificate: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
  let count = -1;
  while (certificate !== undefined && !isRoot(certificate)) {
    count++;
    certificate = certificate.issuerCertificate;
  }
  if (count <= tls.depth) return undefined;
  return `certificate chain of ${count} intermediates, depth is ${tls.depth}`;
}

function isRoot(certificate: DetailedPeerCertificate): boolean {
  const { issuerCertificate: issuer, fingerprint256 } = certificate;
  return issuer === undefined || issuer.fingerprint256 === fingerprint256;
}
