import type { DetailedPeerCertificate } from "node:tls";
import { request } from "undici";
import { errorMessage } from "../../core/plugin-api.ts";
import { crlUrlsOf, nextUpdateOf } from "./der.ts";

/** VerneMQ's limit for one list. */
const FETCH_MS = 5_000;
const LIST_BYTES_MAX = 32 * 1024 * 1024;
/** A list is fetched again after this time at the latest, and not before the other. */
const KEPT_MS_MAX = 3_600_000;
const KEPT_MS_MIN = 10_000;

interface List {
  readonly pem: string;
  readonly freshUntilMs: number;
}

/**
 * Revocation lists that certificates of endpoints name, fetched over HTTP. OpenSSL checks their
 * signature, issuer and age, and refuses the connection when one is missing.
 */
export class RevocationLists {
  private readonly lists = new Map<string, List>();
  private readonly fetching = new Map<string, Promise<List>>();
  /** Certificate chain by endpoint, so that only the first connection has to look. */
  private readonly urls = new Map<string, readonly string[]>();

  /** Lists for an endpoint seen before; undefined when one must be fetched (again). */
  known(origin: string): string[] | undefined {
    const urls = this.urls.get(origin);
    if (urls === undefined) return undefined;
    const pems: string[] = [];
    for (const url of urls) {
      const list = this.lists.get(url);
      if (list === undefined || list.freshUntilMs <= Date.now()) return undefined;
      pems.push(list.pem);
    }
    return pems;
  }

  /** Fetches what the certificates of an endpoint name. Rejects naming the list that cannot be had. */
  async learn(origin: string, certificate: DetailedPeerCertificate): Promise<string[]> {
    const urls = [...new Set(chainOf(certificate).flatMap((one) => crlUrlsOf(one.raw)))];
    const lists = await Promise.all(urls.map((url) => this.list(url)));
    this.urls.set(origin, urls);
    return lists.map(({ pem }) => pem);
  }

  /** OpenSSL did not take what is known: look again at the next connection. */
  forget(origin: string): void {
    this.urls.delete(origin);
  }

  private async list(url: string): Promise<List> {
    const known = this.lists.get(url);
    if (known !== undefined && known.freshUntilMs > Date.now()) return known;
    let running = this.fetching.get(url);
    if (running === undefined) {
      running = fetchList(url).finally(() => this.fetching.delete(url));
      this.fetching.set(url, running);
    }
    const list = await running;
    this.lists.set(url, list);
    return list;
  }
}

async function fetchList(url: string): Promise<List> {
  try {
    const { statusCode, body } = await request(url, { signal: AbortSignal.timeout(FETCH_MS) });
    const chunks: Buffer[] = [];
    let bytes = 0;
    for await (const chunk of body) {
      bytes += chunk.length;
      if (bytes > LIST_BYTES_MAX) throw new Error(`longer than ${LIST_BYTES_MAX} bytes`);
      chunks.push(chunk);
    }
    if (statusCode !== 200) throw new Error(`HTTP status ${statusCode}`);
    const content = Buffer.concat(chunks);
    const isPem = content.includes("-----BEGIN X509 CRL-----");
    const pem = isPem ? content.toString("latin1") : pemOf(content);
    const nextUpdateMs = isPem ? undefined : nextUpdateOf(content);
    return { pem, freshUntilMs: freshUntil(nextUpdateMs) };
  } catch (error) {
    const reason = errorMessage(error);
    throw new Error(`revocation list ${url}: ${reason}`, { cause: error });
  }
}

function freshUntil(nextUpdateMs = Number.POSITIVE_INFINITY): number {
  const now = Date.now();
  return Math.max(now + KEPT_MS_MIN, Math.min(nextUpdateMs, now + KEPT_MS_MAX));
}

function pemOf(der: Buffer): string {
  const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
  return `-----BEGIN X509 CRL-----\n${lines.join("\n")}\n-----END X509 CRL-----\n`;
}

/** The certificate and its issuers, the root last. */
export function chainOf(certificate: DetailedPeerCertificate): DetailedPeerCertificate[] {
  const chain: DetailedPeerCertificate[] = [];
  let one: DetailedPeerCertificate | undefined = certificate;
  while (one?.raw !== undefined && !chain.includes(one)) {
    chain.push(one);
    one = one.issuerCertificate;
  }
  return chain;
}
