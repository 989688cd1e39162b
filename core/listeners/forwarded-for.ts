/** X-Forwarded-For and the common name header, believed only from listed proxies. */
import type { IncomingHttpHeaders } from "node:http";
import { BlockList, isIP, isIPv6 } from "node:net";
import { type Origin, plainAddress } from "./peer.ts";
import type { ListenerSettings } from "./types.ts";

export type ForwardedOrigin =
  | { readonly accepted: true; readonly origin: Origin }
  | { readonly accepted: false; readonly status: 400 | 403; readonly reason: string };

function family(address: string): "ipv4" | "ipv6" {
  return isIPv6(address) ? "ipv6" : "ipv4";
}

/** Addresses and CIDR ranges, IPv4 and IPv6. Throws RangeError naming a bad entry. */
export function trustedProxies(entries: readonly string[]): BlockList {
  const list = new BlockList();
  for (const entry of entries) {
    const [address = "", prefix, ...more] = entry.trim().split("/");
    const bitsMax = isIPv6(address) ? 128 : 32;
    const bits = prefix === undefined ? bitsMax : Number(prefix);
    const isRange = prefix === undefined || (/^\d+$/.test(prefix) && bits <= bitsMax);
    if (isIP(address) === 0 || !isRange || more.length > 0) {
      throw new RangeError(`${entry} is neither an address nor a CIDR range`);
    }
    list.addSubnet(address, bits, family(address));
  }
  return list;
}

/** First entry of the header as an address: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[…]:80`. */
export function firstForwarded(header: string): string | undefined {
  const entry = header.split(",", 1)[0]?.trim() ?? "";
  const bare = /^\[(.+)\](?::\d+)?$/.exec(entry)?.[1] ?? /^([\d.]+):\d+$/.exec(entry)?.[1] ?? entry;
  return isIP(bare) === 0 ? undefined : plainAddress(bare);
}

/** Who a request is from, on a listener with `proxy_xff_support = on`. */
export function forwardedOrigin(
  headers: IncomingHttpHeaders,
  proxy: Origin,
  settings: ListenerSettings["proxyXff"],
  trusted: BlockList,
): ForwardedOrigin {
  const { address, port } = proxy.peer;
  if (!trusted.check(address, family(address))) {
    return { accepted: false, status: 403, reason: "X-Forwarded-For: peer is not a trusted proxy" };
  }
  const header = headerValue(headers, "x-forwarded-for");
  const client = header === undefined ? undefined : firstForwarded(header);
  if (client === undefined) {
    return { accepted: false, status: 400, reason: "X-Forwarded-For: missing or no address" };
  }
  const peer = { address: client, port };
  if (!settings.useCnAsUsername) {
    return { accepted: true, origin: { peer, preAuthUsername: proxy.preAuthUsername } };
  }
  const name = headerValue(headers, settings.cnHeader.toLowerCase());
  if (name === undefined || name === "") {
    return { accepted: false, status: 400, reason: `${settings.cnHeader}: missing or empty` };
  }
  return { accepted: true, origin: { peer, preAuthUsername: name } };
}

function headerValue(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}
