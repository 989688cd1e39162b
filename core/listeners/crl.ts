/**
 * Certificate revocation lists. OpenSSL does the work during the handshake: it finds the list by
 * the issuer, checks the list's signature against the CA and its validity period, and compares
 * serial numbers.
 *
 * Differs from VerneMQ: once `crlfile` is set, every CA of a client's chain needs a list in it that
 * is in force. A missing, expired or wrongly signed list refuses the clients of that CA, since
 * nobody can tell then who was revoked.
 */

const PEM_BLOCK = /-----BEGIN X509 CRL-----[\s\S]+?-----END X509 CRL-----/g;

/** The lists of a PEM file one by one: Node reads only the first list of each string. */
export function splitCrls(pem: string): string[] {
  return pem.match(PEM_BLOCK) ?? [];
}
