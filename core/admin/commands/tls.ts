import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { errorMessage } from "../../errors.ts";
import { type Command, flagInt, isInt } from "../command.ts";
import { type Cell, DONE, table, text } from "../elements.ts";
import type { AdminTarget } from "../target.ts";

/** Two days, as VerneMQ. */
const VALIDITY_S = 172_800;

interface Certificate {
  readonly file: string;
  readonly cert: X509Certificate | undefined;
  /** Why it could not be read. */
  readonly fault: string;
}

/** `vmq-admin tls ...` */
export function tlsCommands(target: AdminTarget): Command[] {
  return [
    {
      path: ["tls", "show"],
      help: "shows the certificates of listeners",
      run: async () => [
        table(
          ["File", "Not_Before", "Not_After", "CN", "Issuer", "SAN"],
          (await certificates(target)).map(({ file, cert, fault }) =>
            cert === undefined
              ? [file, "", "", fault, "", ""]
              : [
                  file,
                  dateText(Date.parse(cert.validFrom)),
                  dateText(Date.parse(cert.validTo)),
                  nameOf(cert.subject),
                  nameOf(cert.issuer),
                  cert.subjectAltName ?? "",
                ],
          ),
        ),
      ],
    },
    {
      path: ["tls", "check"],
      help: "shows certificates that expire soon, are not valid yet or cannot be read",
      flags: [
        {
          name: "validity",
          short: "v",
          value: "Seconds",
          help: `how long they must be valid, ${VALIDITY_S} by default`,
          isValid: isInt,
        },
      ],
      run: async (call) => {
        const validityS = flagInt(call, "validity", VALIDITY_S);
        const nowMs = target.core.wallMs();
        const rows = (await certificates(target)).flatMap(({ file, cert, fault }): Cell[][] => {
          if (cert === undefined) return [[file, fault, "", null, null]];
          const [fromMs, toMs] = [Date.parse(cert.validFrom), Date.parse(cert.validTo)];
          const expiresS = Math.floor((toMs - nowMs) / 1000);
          const validInS = Math.ceil((fromMs - nowMs) / 1000);
          if (expiresS >= validityS && validInS <= 0) return [];
          return [[file, dateText(fromMs), dateText(toMs), expiresS, Math.max(0, validInS)]];
        });
        if (rows.length === 0) return [text("All fine")];
        return [table(["File", "Not_Before", "Not_After", "SecExp", "SecToVal"], rows)];
      },
    },
    {
      path: ["tls", "clear-pem-cache"],
      help: "reads certificates, keys and revocation lists again, for new connections",
      details: "Changed files are noticed by themselves, revocation lists at their interval.",
      run: () => {
        for (const listener of target.listeners.all()) listener.rereadFiles();
        return DONE;
      },
    },
  ];
}

function certificates({ listeners }: AdminTarget): Promise<Certificate[]> {
  const files = listeners
    .all()
    .map(({ settings }) => settings.tls?.certfile ?? "")
    .filter((file) => file !== "");
  return Promise.all(
    files.map(async (file) => {
      try {
        return { file, cert: new X509Certificate(await readFile(file)), fault: "" };
      } catch (error) {
        const fault = errorMessage(error);
        return { file, cert: undefined, fault };
      }
    }),
  );
}

function dateText(ms: number): string {
  return new Date(ms).toISOString().slice(0, 19).replace("T", " ");
}

/** The common name of a distinguished name. */
function nameOf(name: string): string {
  return /^CN=(.*)$/m.exec(name)?.[1] ?? name.replaceAll("\n", ", ");
}
