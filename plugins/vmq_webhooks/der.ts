/**
 * The little of DER that checking revocation needs: where a certificate says its list is, and until
 * when a list is good. What it finds is verified by OpenSSL, never here.
 */

interface Element {
  readonly tag: number;
  readonly start: number;
  readonly end: number;
}

const SEQUENCE = 0x30;
const INTEGER = 0x02;
const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;
/** GeneralName, uniformResourceIdentifier [6]. RFC 5280, 4.2.1.6 */
const URI = 0x86;
/** 2.5.29.31, id-ce-cRLDistributionPoints. RFC 5280, 4.2.1.13 */
const DISTRIBUTION_POINTS = Buffer.from([0x06, 0x03, 0x55, 0x1d, 0x1f]);

function elementAt(der: Buffer, at: number): Element | undefined {
  const tag = der[at];
  const first = der[at + 1];
  if (tag === undefined || first === undefined) return undefined;
  let start = at + 2;
  let length = first;
  if (first >= 0x80) {
    const bytes = first & 0x7f;
    if (bytes === 0 || bytes > 4 || start + bytes > der.length) return undefined;
    length = der.readUIntBE(start, bytes);
    start += bytes;
  }
  const end = start + length;
  return end <= der.length ? { tag, start, end } : undefined;
}

/** http addresses of the lists that say whether a certificate (DER) is revoked. */
export function crlUrlsOf(certificate: Buffer): string[] {
  const found: string[] = [];
  const at = certificate.indexOf(DISTRIBUTION_POINTS);
  if (at < 0) return found;
  let value = elementAt(certificate, at + DISTRIBUTION_POINTS.length);
  // BOOLEAN: the extension is critical.
  if (value?.tag === 0x01) value = elementAt(certificate, value.end);
  if (value?.tag !== 0x04) return found;
  collectUris(certificate, value, found);
  return found.filter((url) => /^https?:\/\//.test(url));
}

function collectUris(der: Buffer, within: Element, found: string[]): void {
  for (let at = within.start; at < within.end; ) {
    const element = elementAt(der, at);
    if (element === undefined) return;
    if (element.tag === URI) found.push(der.toString("latin1", element.start, element.end));
    // Constructed: DistributionPoint, its name, its names.
    else if ((element.tag & 0x20) !== 0) collectUris(der, element, found);
    at = element.end;
  }
}

/** Milliseconds since 1970 of a list's nextUpdate; undefined when it has none or is no list. */
export function nextUpdateOf(crl: Buffer): number | undefined {
  const list = elementAt(crl, 0);
  const signed = list === undefined ? undefined : elementAt(crl, list.start);
  if (list?.tag !== SEQUENCE || signed?.tag !== SEQUENCE) return undefined;
  const times: number[] = [];
  for (let at = signed.start; at < signed.end && times.length < 2; ) {
    const element = elementAt(crl, at);
    if (element === undefined) return undefined;
    if (element.tag === UTC_TIME || element.tag === GENERALIZED_TIME) {
      times.push(timeOf(crl.toString("latin1", element.start, element.end)));
    } else if (times.length > 0) break;
    else if (element.tag !== SEQUENCE && element.tag !== INTEGER) return undefined;
    at = element.end;
  }
  return Number.isNaN(times[1]) ? undefined : times[1];
}

/** `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`. RFC 5280, 4.1.2.5 */
function timeOf(text: string): number {
  const century = text.length > 13 ? "" : Number(text.slice(0, 2)) < 50 ? "20" : "19";
  const found = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(century + text);
  if (found === null) return Number.NaN;
  const [, year, month, day, hour, minute, second] = found.map(Number);
  return Date.UTC(Number(year), Number(month) - 1, day, hour, minute, second);
}
