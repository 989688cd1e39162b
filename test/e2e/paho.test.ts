import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { beforeAll, describe, expect, test } from "vitest";
import { requireTool } from "../support/tools.ts";
import { type FourTransports, startFourTransports, TRANSPORTS } from "./four-transports.ts";

/** Eclipse Paho for Python against the real process: paho-roundtrip.py does it all and prints JSON. */

/** The Python of Debian, which has Debian's packages. */
const PYTHON = "/usr/bin/python3";
const run = promisify(execFile);
const hasPaho = requireTool(PYTHON, "python3-paho-mqtt", ["-c", "import paho.mqtt.client"]);

describe.skipIf(!hasPaho)("paho", () => {
  let four: FourTransports;

  beforeAll(async () => {
    four = await startFourTransports();
  });

  const rows = TRANSPORTS.flatMap((transport) =>
    (["31", "311", "5"] as const).map((version) => [transport, version] as const),
  );

  test.each(rows)("%s, version %s", async (transport, version) => {
    const topic = `paho-${transport}-${version}`;
    const script = join(import.meta.dirname, "paho-roundtrip.py");
    const args = [script, String(four.ports[transport]), version, transport, four.cafile, topic];
    const { stdout } = await run(PYTHON, args, { timeout: 60_000 });
    expect(JSON.parse(stdout)).toEqual({
      connack: 0,
      suback: [2],
      live: [0, 1, 2].map((qos) => [`${topic}/live/${qos}`, qos, `qos ${qos}`, false]),
      retained: [[`${topic}/kept`, 1, "retained", true]],
      will: [[`${topic}/will`, 1, "gone", false]],
      session_present: 1,
      away: ["0", "1", "2", "3", "4"],
      ...(version === "5"
        ? {
            properties: [
              "text/plain",
              [
                ["k", "1"],
                ["k", "2"],
              ],
            ],
          }
        : {}),
    });
  });
});
