import { existsSync, readFileSync } from "node:fs";
import {
  type ConnectionOptions,
  connect,
  createSecureContext,
  type SecureContext,
  type TLSSocket,
} from "node:tls";
import { buildConnector } from "undici";
import { errorMessage, type PluginContext } from "../../core/plugin-api.ts";
import { chainOf, RevocationLists } from "./crl.ts";

/** `vmq_webhooks.*` for https endpoints, read when a pool is made. */
export interface TlsSettings {
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
  readonly passphrase: string | undefined;
  /** One, or the lowest and the highest. */
  readonly versions: readonly string[];
  readonly isVerified: boolean;
  readonly depth: number;
  readonly usesCrls: boolean;
  /** PEM of `crlfile`. */
  readonly crls: string | undefined;
}

/** Trust store of the system: Debian and Alpine, Red Hat, SUSE, BSD. */
const SYSTEM_STORES = [
  "/etc/ssl/certs/ca-certificates.crt",
  "/etc/pki/tls/certs/ca-bundle.crt",
  "/etc/ssl/ca-bundle.pem",
  "/etc/ssl/cert.pem",
];

/** Reads the settings and their files; throws an Error that names what cannot be used. */
export function tlsSettings(context: Pick<PluginContext, "config" | "resolvePath">): TlsSettings {
  const value = (name: string): unknown => context.config(`vmq_webhooks.${name}`);
  const file = (name: string): string | undefined => {
    const path = value(name);
    if (typeof path !== "string" || path === "") return undefined;
    return readFileSync(context.resolvePath(path), "utf8");
  };
  const settings: TlsSettings = {
    ca: file("cafile"),
    cert: file("certfile"),
    key: file("keyfile"),
    passphrase: String(value("keyfile_password") ?? "") || undefined,
    versions: String(value("tls_version")).split("-"),
    isVerified: value("verify_peer") !== false,
    depth: Number(value("depth")),
    usesCrls: value("use_crls") === true,
    crls: file("crlfile"),
  };
  if ((settings.cert === undefined) !== (settings.key === undefined)) {
    const [there, missing] =
      settings.key === undefined ? ["certfile", "keyfile"] : ["keyfile", "certfile"];
    throw new Error(`vmq_webhooks.${there} needs vmq_webhooks.${missing} beside it`);
  }
  contextOf(settings, []);
  return settings;
}

function systemStore(): string | undefined {
  const { SSL_CERT_FILE: own } = process.env;
  const path = [...(own === undefined ? [] : [own]), ...SYSTEM_STORES].find((one) =>
    existsSync(one),
  );
  // Else Node's own list of roots.
  return path === undefined ? undefined : readFileSync(path, "utf8");
}

const VERSIONS = ["tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3"] as const;
const NODE_VERSIONS = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"] as const;

function contextOf(settings: TlsSettings, crls: readonly string[]): SecureContext {
  const ranks = settings.versions.map((version) =>
    VERSIONS.indexOf(version as (typeof VERSIONS)[number]),
  );
  const [lowest, highest] = [Math.min(...ranks), Math.max(...ranks)];
  const ca = settings.ca ?? systemStore();
  try {
    return createSecureContext({
      minVersion: NODE_VERSIONS[lowest] ?? "TLSv1.2",
      maxVersion: NODE_VERSIONS[highest] ?? "TLSv1.3",
      ...(ca === undefined ? {} : { ca }),
      ...(settings.cert === undefined ? {} : { cert: settings.cert, key: settings.key }),
      ...(settings.passphrase === undefined ? {} : { passphrase: settings.passphrase }),
      // OpenSSL 3 has no ciphers of the old versions at its usual level.
      ...(lowest < 2 ? { ciphers: "DEFAULT@SECLEVEL=0" } : {}),
      ...(crls.length === 0 ? {} : { crl: [...crls] }),
    });
  } catch (cause) {
    const reason = errorMessage(cause);
    throw new Error(
      `vmq_webhooks: cafile, certfile, keyfile or crlfile cannot be used: ${reason}`,
      {
        cause,
      },
    );
  }
}

type Connector = buildConnector.connector;

/** Opens the connections of one https endpoint. */
export function tlsConnector(
  settings: TlsSettings,
  options: { readonly timeoutMs: number; readonly socketPath: string | undefined },
): Connector {
  const common = {
    timeout: options.timeoutMs,
    // As in VerneMQ: each connection is verified as a whole.
    maxCachedSessions: 0,
    rejectUnauthorized: settings.isVerified,
    ...(options.socketPath === undefined ? {} : { socketPath: options.socketPath }),
  };
  if (!settings.usesCrls || !settings.isVerified) {
    return withDepth(
      settings,
      buildConnector({ ...common, secureContext: contextOf(settings, []) }),
    );
  }
  const lists = new RevocationLists();
  const plain = contextOf(settings, []);
  let current: { readonly key: string; readonly connector: Connector } | undefined;
  const connectorFor = (crls: readonly string[]): Connector => {
    const key = crls.join("");
    if (current?.key !== key) {
      const secureContext = contextOf(settings, crls);
      current = {
        key,
        connector: withDepth(settings, buildConnector({ ...common, secureContext })),
      };
    }
    return current.connector;
  };
  return (target, callback) => {
    const origin = `${target.hostname}:${target.port}`;
    const own = settings.crls === undefined ? [] : [settings.crls];
    const open = (crls: readonly string[]): void => {
      const all = [...own, ...crls];
      if (all.length === 0) {
        lists.forget(origin);
        callback(new Error(`${origin}: its certificate names no revocation list`), null);
        return;
      }
      connectorFor(all)(target, (error, socket) => {
        if (error !== null) {
          lists.forget(origin);
          callback(error, null);
        } else callback(null, socket);
      });
    };
    const known = lists.known(origin);
    if (known !== undefined) {
      open(known);
      return;
    }
    look(target, plain, options)
      .then((socket) => {
        const certificate = socket.getPeerCertificate(true);
        socket.destroy();
        return lists.learn(origin, certificate);
      })
      .then(open, (error: Error) => callback(error, null));
  };
}

/** A verified connection that is used for nothing but its certificates. */
function look(
  target: buildConnector.Options,
  secureContext: SecureContext,
  options: { readonly timeoutMs: number; readonly socketPath: string | undefined },
): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const address: ConnectionOptions =
      options.socketPath === undefined
        ? { host: target.hostname, port: Number(target.port || 443) }
        : { path: options.socketPath };
    const name = target.servername ?? target.hostname;
    const servername = /^[\d.]+$|:/.test(name) ? {} : { servername: name };
    const socket = connect({ ...address, ...servername, secureContext });
    const timer = setTimeout(
      () => socket.destroy(new Error(`no connection within ${options.timeoutMs} ms`)),
      options.timeoutMs,
    );
    socket.once("secureConnect", () => {
      clearTimeout(timer);
      resolve(socket);
    });
    socket.on("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
  });
}

/** Refuses chains with more certificates between the endpoint's and the root than `depth`. */
function withDepth({ isVerified, depth }: TlsSettings, connector: Connector): Connector {
  // The default is longer than any chain.
  if (!isVerified || depth >= 100) return connector;
  return (target, callback) =>
    connector(target, (error, socket) => {
      if (error !== null) {
        callback(error, null);
        return;
      }
      const chain = chainOf((socket as TLSSocket).getPeerCertificate(true));
      if (chain.length - 2 <= depth) {
        callback(null, socket);
        return;
      }
      socket.destroy();
      const reason = `its certificate chain is longer than vmq_webhooks.depth = ${depth}`;
      callback(new Error(reason), null);
    });
}
