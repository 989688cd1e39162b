import { join } from "node:path";
import { freePort, tempDir } from "../support/broker.ts";
import { createCa } from "../support/certs.ts";
import { atEnd, type Scope } from "../support/cleanup.ts";
import { type BrokerProcess, startProcess } from "../support/process.ts";

/** The four kinds of MQTT listener. */
export const TRANSPORTS = ["tcp", "tls", "ws", "wss"] as const;
export type Transport = (typeof TRANSPORTS)[number];

export interface FourTransports {
  broker: BrokerProcess;
  ports: Readonly<Record<Transport, number>>;
  /** The certificate that signed the listeners' one, which is for localhost and 127.0.0.1. */
  cafile: string;
}

/** The real broker process with a listener of each kind. */
export async function startFourTransports(
  settings: Readonly<Record<string, string>> = {},
  scope: Scope = "file",
): Promise<FourTransports> {
  const ca = createCa(join(tempDir(scope), "ca"), "e2e");
  const pair = ca.issue("localhost");
  const [tls, ws, wss] = [await freePort(), await freePort(), await freePort()];
  const broker = await startProcess({
    scope,
    settings: {
      "listener.ssl.default": `127.0.0.1:${tls}`,
      "listener.ws.default": `127.0.0.1:${ws}`,
      "listener.wss.default": `127.0.0.1:${wss}`,
      ...certificate("ssl", pair, ca.cert),
      ...certificate("wss", pair, ca.cert),
      ...settings,
    },
  });
  return { broker, ports: { tcp: broker.port, tls, ws, wss }, cafile: ca.cert };
}

function certificate(
  kind: string,
  pair: { cert: string; key: string },
  cafile: string,
): Record<string, string> {
  return {
    [`listener.${kind}.cafile`]: cafile,
    [`listener.${kind}.certfile`]: pair.cert,
    [`listener.${kind}.keyfile`]: pair.key,
  };
}

/** Closes something when the test ends, ignoring that it may be closed already. */
export function quietly(close: () => unknown): void {
  atEnd(async () => {
    try {
      await close();
    } catch {
      // It was closed by the test.
    }
  });
}
