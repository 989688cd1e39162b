import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type LoadOptions, loadConfig } from "../../../core/config/load.ts";
import type { ListenerSettings } from "../../../core/listeners/types.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "nautilus-listeners-"));
  writeFileSync(
    join(folder, "x.pem"),
    "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
  );
  writeFileSync(join(folder, "not.pem"), "hello");
  writeFileSync(join(folder, "psk"), "a:b");
});
afterAll(() => rmSync(folder, { recursive: true }));

const CERTS = "listener.ssl.certfile = x.pem\nlistener.ssl.keyfile = x.pem\n";

function load(source: string, options: LoadOptions = {}) {
  writeFileSync(join(folder, "v.conf"), source);
  return loadConfig({ file: "v.conf", cwd: folder, ...options });
}
function listener(source: string, options?: LoadOptions): ListenerSettings {
  const { config, errors } = load(source, options);
  expect(errors).toEqual([]);
  const first = config?.listeners[0];
  if (first === undefined) throw new Error("no listener");
  return first;
}
function fault(source: string): string {
  const { errors } = load(source);
  expect(errors).toHaveLength(1);
  return errors[0] ?? "";
}

describe("addresses", () => {
  test("C-16 are an IP address and a port", () => {
    expect(fault("listener.tcp.default = localhost:1883")).toMatch(
      /^v\.conf:1: listener\.tcp\.default: "localhost:1883" is not an IP address and a port, allowed: .*did you mean 127\.0\.0\.1:1883\?$/,
    );
    expect(fault("listener.tcp.default = 127.0.0.1")).toContain('"127.0.0.1" has no port');
    expect(fault("listener.tcp.default = 127.0.0.1:70000")).toContain("no valid port");
    expect(fault("listener.tcp.default = 127.0.0.1:x")).toContain("no valid port");
  });

  test("C-17 of IPv6 have no brackets", () => {
    expect(listener("listener.tcp.default = :::1883")).toMatchObject({ address: "::", port: 1883 });
    expect(fault("listener.tcp.default = [::]:1883")).toMatch(/did you mean :::1883\?$/);
  });

  test("C-18 may be a Unix socket with a port that means nothing", () => {
    const place = { address: "/tmp/x.sock", port: 0, unixSocket: true };
    expect(listener("listener.tcp.u = local:/tmp/x.sock:0")).toMatchObject(place);
    expect(listener("listener.ws.u = unix:/tmp/x.sock:0")).toMatchObject(place);
    expect(fault("listener.tcp.u = local:/tmp/x.sock")).toMatch(
      /did you mean local:\/tmp\/x\.sock:0\?$/,
    );
  });

  test("used twice leave the later listener, with a notice", () => {
    const { config, notices } = load("listener.tcp.a = 127.0.0.1:9\nlistener.ws.b = 127.0.0.1:9");
    expect(config?.listeners.map(({ name }) => name)).toEqual(["b"]);
    expect(notices).toEqual(["listener.ws.b: same address as listener.tcp.a, which is left out"]);
  });

  test("with port 0 are never the same", () => {
    expect(
      load("listener.tcp.a = 127.0.0.1:0\nlistener.tcp.b = 127.0.0.1:0").config?.listeners,
    ).toHaveLength(2);
  });

  test("make a listener, options alone do not", () => {
    expect(load("listener.tcp.x.max_connections = 5").config?.listeners).toEqual([]);
  });
});

describe("inheritance", () => {
  const TCP = "listener.tcp.a = 127.0.0.1:1\n";

  test("C-20 goes from global to protocol to name", () => {
    expect(listener(TCP).maxConnections).toBe(10_000);
    expect(listener(`${TCP}listener.max_connections = 777`).maxConnections).toBe(777);
    expect(
      listener(`${TCP}listener.max_connections = 777\nlistener.tcp.max_connections = 55`)
        .maxConnections,
    ).toBe(55);
    expect(
      listener(`${TCP}listener.tcp.max_connections = 55\nlistener.tcp.a.max_connections = 42`)
        .maxConnections,
    ).toBe(42);
    expect(
      listener(`${TCP}listener.ws.max_connections = 55\nlistener.tcp.b.max_connections = 42`)
        .maxConnections,
    ).toBe(10_000);
  });

  test("takes -1 as not set and infinity as no limit", () => {
    expect(
      listener(`${TCP}listener.tcp.max_connections = 55\nlistener.tcp.a.max_connections = -1`)
        .maxConnections,
    ).toBe(55);
    expect(listener(`${TCP}listener.max_connections = infinity`).maxConnections).toBe(
      Number.POSITIVE_INFINITY,
    );
  });

  test("C-21 ends for mountpoints with off", () => {
    const { config } = load(
      "listener.mountpoint = xy/\nlistener.tcp.a = 127.0.0.1:1\nlistener.tcp.a.mountpoint = off\nlistener.tcp.b = 127.0.0.1:2",
    );
    expect(config?.listeners.map(({ mountpoint }) => mountpoint)).toEqual(["", "xy"]);
  });

  /** Each option with two values, how they show, and the kinds that have it. */
  const OPTIONS: [
    option: string,
    kinds: string,
    texts: [string, string],
    read: (l: ListenerSettings) => unknown,
    values: [unknown, unknown],
  ][] = [
    [
      "max_connection_lifetime",
      "tcp ssl ws wss",
      ["5", "6"],
      (l) => l.maxConnectionLifetimeS,
      [5, 6],
    ],
    ["max_connections", "tcp ssl ws wss", ["5", "6"], (l) => l.maxConnections, [5, 6]],
    ["mountpoint", "tcp ssl ws wss", ["m", "n"], (l) => l.mountpoint, ["m", "n"]],
    [
      "allowed_protocol_versions",
      "tcp ssl ws wss",
      ["3,4", "[5, 131]"],
      (l) => l.allowedProtocolVersions,
      [
        [3, 4],
        [5, 131],
      ],
    ],
    [
      "allow_anonymous_override",
      "tcp ssl ws wss",
      ["on", "off"],
      (l) => l.allowAnonymousOverride,
      [true, false],
    ],
    ["auth_plugins", "tcp ssl ws wss", ["[p, q]", "q"], (l) => l.authPlugins, [["p", "q"], ["q"]]],
    ["authz_plugins", "tcp ssl ws wss", ["p", "[q]"], (l) => l.authzPlugins, [["p"], ["q"]]],
    [
      "forward_connection_opts",
      "tcp ssl ws wss",
      ["on", "off"],
      (l) => l.forwardConnectionOpts,
      [true, false],
    ],
    ["proxy_protocol", "tcp ws", ["on", "off"], (l) => l.proxyProtocol, [true, false]],
    [
      "proxy_protocol_use_cn_as_username",
      "tcp ws",
      ["off", "on"],
      (l) => l.proxyProtocolUseCnAsUsername,
      [false, true],
    ],
    ["proxy_xff_support", "ws", ["on", "off"], (l) => l.proxyXff.enabled, [true, false]],
    [
      "proxy_xff_trusted_intermediate",
      "ws",
      ["10.0.0.0/8;::1", "1.2.3.4"],
      (l) => l.proxyXff.trusted,
      [["10.0.0.0/8", "::1"], ["1.2.3.4"]],
    ],
    [
      "proxy_xff_use_cn_as_username",
      "ws",
      ["on", "off"],
      (l) => l.proxyXff.useCnAsUsername,
      [true, false],
    ],
    ["proxy_xff_cn_header", "ws", ["X-A", "x-b"], (l) => l.proxyXff.cnHeader, ["x-a", "x-b"]],
    ["max_request_line_length", "ws wss", ["10", "20"], (l) => l.maxRequestLineLength, [10, 20]],
    ["max_header_value_length", "ws wss", ["10", "20"], (l) => l.maxHeaderValueLength, [10, 20]],
    [
      "tls_handshake_timeout",
      "ssl wss",
      ["10", "infinity"],
      (l) => l.tls?.handshakeTimeoutMs,
      [10, Number.POSITIVE_INFINITY],
    ],
    [
      "cafile",
      "ssl wss",
      ["x.pem", "not.pem"],
      (l) => l.tls?.cafile.split("/").pop(),
      ["x.pem", "not.pem"],
    ],
    [
      "crlfile",
      "ssl wss",
      ["x.pem", "not.pem"],
      (l) => l.tls?.crlfile.split("/").pop(),
      ["x.pem", "not.pem"],
    ],
    ["keypasswd", "ssl wss", ["a", "b"], (l) => l.tls?.keypasswd, ["a", "b"]],
    ["depth", "ssl wss", ["2", "3"], (l) => l.tls?.depth, [2, 3]],
    ["ciphers", "ssl wss", ["A:B", "C"], (l) => l.tls?.ciphers, ["A:B", "C"]],
    [
      "eccs",
      "ssl wss",
      ["[secp384r1, secp256r1]", "secp521r1"],
      (l) => l.tls?.eccs,
      [["secp384r1", "prime256v1"], ["secp521r1"]],
    ],
    [
      "tls_version",
      "ssl wss",
      ["tlsv1.2,tlsv1.3", "tlsv1.3"],
      (l) => l.tls?.versions,
      [["tlsv1.2", "tlsv1.3"], ["tlsv1.3"]],
    ],
    [
      "use_identity_as_username",
      "ssl wss",
      ["on", "off"],
      (l) => l.tls?.useIdentityAsUsername,
      [true, false],
    ],
    ["psk_identity_hint", "ssl", ["h", "i"], (l) => l.tls?.pskIdentityHint, ["h", "i"]],
    ["pskfile", "ssl", ["psk", "x.pem"], (l) => l.tls?.pskfile.split("/").pop(), ["psk", "x.pem"]],
    ["pskfile_separator", "ssl", [";", ","], (l) => l.tls?.pskfileSeparator, [";", ","]],
  ];
  const CASES = OPTIONS.flatMap(([option, kinds, ...rest]) =>
    kinds.split(" ").map((kind) => [kind, option, ...rest] as const),
  );

  test.each(CASES)(
    "listener.%s takes %s from protocol and name",
    (kind, option, texts, read, values) => {
      const certs = `listener.${kind}.certfile = x.pem\nlistener.${kind}.keyfile = x.pem\n`;
      const base = `listener.${kind}.a = 127.0.0.1:1\n${kind === "ssl" || kind === "wss" ? certs : ""}`;
      const plugins = { plugins: ["p", "q"] };
      const protocol = `${base}listener.${kind}.${option} = ${texts[0]}\n`;
      expect(read(listener(protocol, plugins))).toEqual(values[0]);
      const named = `${protocol}listener.${kind}.a.${option} = ${texts[1]}\n`;
      expect(read(listener(named, plugins))).toEqual(values[1]);
    },
  );

  test("has documented defaults", () => {
    expect(listener(`${CERTS}listener.ssl.a = 127.0.0.1:1`)).toMatchObject({
      maxConnectionLifetimeS: 0,
      allowedProtocolVersions: [3, 4, 5, 131],
      authPlugins: undefined,
      maxWsFrameSize: 268_435_456,
      tls: {
        depth: 1,
        versions: ["tlsv1.2"],
        handshakeTimeoutMs: 5000,
        crlRefreshIntervalMs: 60_000,
        requireCertificate: false,
        pskIdentityHint: "VMQ_PSK",
        certfile: join(folder, "x.pem"),
      },
    });
    expect(listener("listener.ws.a = 127.0.0.1:1\nmax_ws_frame_size = infinity")).toMatchObject({
      maxWsFrameSize: Number.POSITIVE_INFINITY,
      maxRequestLineLength: 8000,
      maxHeaderValueLength: 4096,
      proxyXff: { cnHeader: "x-ssl-client-cn" },
      tls: undefined,
    });
  });
});

describe("TLS", () => {
  const SSL = `${CERTS}listener.ssl.a = 127.0.0.1:1\n`;

  test("C-22 versions are checked", () => {
    expect(fault(`${SSL}listener.ssl.tls_version = tlsv1.4`)).toContain(
      '"tlsv1.4" is not a valid item',
    );
    expect(fault(`${SSL}listener.ssl.tls_version = tlsv1.2, tlsv1.3`)).toContain(
      "did you mean tlsv1.2,tlsv1.3?",
    );
  });

  test("C-23 curves are checked by name", () => {
    expect(fault(`${SSL}listener.ssl.a.eccs = [nope]`)).toContain(
      '"nope" is no known elliptic curve',
    );
  });

  test("C-25 files must be there, at the protocol level and for a name", () => {
    expect(fault(`${SSL}listener.ssl.certfile = /missing.pem`)).toBe(
      'v.conf:4: listener.ssl.certfile: there is no file "/missing.pem"',
    );
    expect(fault(`${SSL}listener.ssl.a.cafile = missing`)).toContain('there is no file "missing"');
    expect(fault(`${SSL}listener.ssl.a.keyfile = not.pem`)).toContain(
      '"not.pem" is not a PEM file',
    );
    expect(fault(`${SSL}listener.ssl.a.keyfile = .`)).toContain("is a directory");
    expect(listener(`${SSL}listener.ssl.a.cafile = ''`).tls?.cafile).toBe("");
  });

  test("needs a certificate and a key, unless there are pre-shared keys", () => {
    expect(load("listener.wss.a = 127.0.0.1:1").errors).toEqual([
      "v.conf:1: listener.wss.a: a TLS listener needs listener.wss.a.certfile (or listener.wss.certfile)",
      "v.conf:1: listener.wss.a: a TLS listener needs listener.wss.a.keyfile (or listener.wss.keyfile)",
    ]);
    const psk = "listener.ssl.a = 127.0.0.1:1\nlistener.ssl.psk_support = on\n";
    expect(listener(`${psk}listener.ssl.pskfile = psk`).tls?.pskSupport).toBe(true);
    expect(fault(psk)).toContain('pskfile: there is no file "');
    expect(
      fault(`${psk}listener.ssl.pskfile = psk\nlistener.ssl.pskfile_separator = ::`),
    ).toContain("is not exactly one character");
  });

  test("needs a CA file to require certificates", () => {
    expect(fault(`${SSL}listener.ssl.require_certificate = on`)).toMatch(
      /^v\.conf:4: .*need a cafile/,
    );
    expect(
      listener(`${SSL}listener.ssl.require_certificate = on\nlistener.ssl.cafile = x.pem`).tls
        ?.requireCertificate,
    ).toBe(true);
  });
});

describe("C-24 plugin chains of a listener", () => {
  const TCP = "listener.tcp.a = 127.0.0.1:1\n";

  test("name enabled plugins only", () => {
    expect(fault(`${TCP}listener.tcp.a.auth_plugins = vmq_webhooks`)).toBe(
      'v.conf:2: listener.tcp.a.auth_plugins: "vmq_webhooks" is unknown or disabled, allowed: plugins that are on',
    );
    const supportOf = () => ({ kind: "works" }) as const;
    expect(
      load(`${TCP}listener.tcp.a.auth_plugins = vmq_webhooks\nplugins.vmq_webhooks = on`, {
        supportOf,
      }).errors,
    ).toEqual([]);
    expect(load(`${TCP}listener.tcp.a.auth_plugins = vmq_passwd`, { supportOf }).errors).toEqual(
      [],
    );
    expect(
      load(`${TCP}listener.tcp.a.auth_plugins = vmq_passwd\nplugins.vmq_passwd = off`, {
        supportOf,
      }).errors,
    ).toHaveLength(1);
  });

  test("name each plugin once", () => {
    const source = `${TCP}listener.tcp.a.authz_plugins = [p,p]`;
    expect(load(source, { plugins: ["p"] }).errors).toEqual([
      'v.conf:2: listener.tcp.a.authz_plugins: "p" is there twice, allowed: each plugin once',
    ]);
  });

  test("may be empty, which is not the same as unset", () => {
    expect(listener(`${TCP}listener.tcp.a.auth_plugins = []`).authPlugins).toEqual([]);
  });

  test("report a fault of the protocol level once", () => {
    expect(fault(`${TCP}listener.tcp.b = 127.0.0.1:2\nlistener.tcp.auth_plugins = x`)).toContain(
      '"x"',
    );
  });
});
