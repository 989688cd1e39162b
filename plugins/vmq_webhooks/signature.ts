import { createHmac } from "node:crypto";

/** Header of signed requests: `t=<seconds>,v1=<hex>`. */
export const SIGNATURE_HEADER = "nautilus-signature";

/**
 * The signature of a request: HMAC-SHA256 over `<seconds>.<hook>.<body>`, so that neither the hook nor
 * an old request can be passed off as another.
 */
export function signatureOf(secret: Buffer, hook: string, body: string, nowMs: number): string {
  const seconds = Math.floor(nowMs / 1000);
  const signed = createHmac("sha256", secret).update(`${seconds}.${hook}.`).update(body);
  return `t=${seconds},v1=${signed.digest("hex")}`;
}
