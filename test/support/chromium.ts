import { type Browser, chromium, type Page } from "playwright-core";
import { atEnd, type Scope } from "./cleanup.ts";
import { requireTool } from "./tools.ts";

const EXECUTABLE = "/usr/bin/chromium";

/** For `describe.skipIf(!HAS_CHROMIUM)`. */
export const HAS_CHROMIUM: boolean = requireTool(EXECUTABLE, "chromium", ["--version"]);

/** A headless browser without anything that would talk to others. */
export async function startBrowser(scope: Scope = "file"): Promise<Browser> {
  const browser = await chromium.launch({
    executablePath: EXECUTABLE,
    args: [
      ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
      ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
    ],
  });
  atEnd(() => browser.close(), scope);
  return browser;
}

/** What went wrong on a page: console errors, exceptions, failed requests, requests to elsewhere. */
export function faultsOf(page: Page, origin: string): string[] {
  const faults: string[] = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") faults.push(message.text());
  });
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("requestfailed", (request) => {
    // A search that the next one made needless is given up by the page itself.
    if (request.failure()?.errorText === "net::ERR_ABORTED") return;
    faults.push(`failed: ${request.url()}`);
  });
  page.on("request", (request) => {
    if (!request.url().startsWith(origin)) faults.push(`asked elsewhere: ${request.url()}`);
  });
  return faults;
}
