import { expect, it } from "vitest";
import { splitCrls } from "../../../core/listeners/crl.ts";

const list = (body: string): string => `-----BEGIN X509 CRL-----\n${body}\n-----END X509 CRL-----`;

it("splits a file into its lists and leaves out all else", () => {
  const text = `comment\n${list("AAA")}\r\n-----BEGIN CERTIFICATE-----\nX\n-----END CERTIFICATE-----\n${list("BBB")}\n`;
  expect(splitCrls(text)).toEqual([list("AAA"), list("BBB")]);
  expect(splitCrls("nothing")).toEqual([]);
});
