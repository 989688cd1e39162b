import { describe, expect, test } from "vitest";
import { loadConfig } from "../../../core/config/load.ts";
import type { HttpListenerSettings } from "../../../core/listeners/types.ts";

function httpListeners(values: Readonly<Record<string, string>>): readonly HttpListenerSettings[] {
  const { config, errors } = loadConfig({ isEmbedded: true, values });
  expect(errors).toEqual([]);
  return config?.httpListeners ?? [];
}

function only(values: Readonly<Record<string, string>>): HttpListenerSettings {
  const [listener, ...others] = httpListeners(values);
  expect(others).toEqual([]);
  if (listener === undefined) throw new Error("no HTTP listener");
  return listener;
}

const DEFAULT_MODULES = [
  "vmq_metrics_http",
  "vmq_http_mgmt_api",
  "vmq_status_http",
  "vmq_health_http",
  "vmq_http_v2_api",
];

describe("HTTP listeners", () => {
  test("are none unless one is written", () => {
    expect(httpListeners({})).toEqual([]);
    expect(httpListeners({ "listener.http.max_connections": "5" })).toEqual([]);
  });

  test("have VerneMQ's limits and the global modules by default", () => {
    const listener = only({ "listener.http.default": "127.0.0.1:8888" });
    expect(listener).toMatchObject({
      kind: "http",
      name: "default",
      address: "127.0.0.1",
      port: 8888,
      maxConnections: 10_000,
      maxRequestLineLength: 8000,
      maxHeaderValueLength: 4096,
      proxyProtocol: false,
      modules: DEFAULT_MODULES,
      tls: undefined,
    });
  });

  test("whose name only an option mentions listen at the default address", () => {
    const listener = only({ "listener.http.default.max_connections": "5" });
    expect(listener).toMatchObject({ address: "127.0.0.1", port: 8888, maxConnections: 5 });
  });

  test.each([
    "vmq_health_http, vmq_metrics_http",
    "[vmq_health_http,vmq_metrics_http]",
    "[ vmq_health_http , vmq_metrics_http ]",
  ])("take their own modules from %s", (text) => {
    const listener = only({
      "listener.http.x": "127.0.0.1:1",
      "listener.http.x.http_modules": text,
    });
    expect(listener.modules).toEqual(["vmq_health_http", "vmq_metrics_http"]);
  });

  test("without modules of their own serve the global ones", () => {
    const listener = only({
      http_modules: "[vmq_health_http]",
      "listener.http.x": "127.0.0.1:1",
      "listener.http.x.http_modules": "[]",
    });
    expect(listener.modules).toEqual(["vmq_health_http"]);
  });

  test("protect the APIs by default and leave the rest open", () => {
    const { authModes } = only({ "listener.http.x": "127.0.0.1:1" });
    expect(Object.fromEntries(authModes)).toEqual({
      vmq_metrics_http: "noauth",
      vmq_http_mgmt_api: "apikey",
      vmq_status_http: "noauth",
      vmq_health_http: "noauth",
      vmq_http_v2_api: "apikey",
    });
  });

  test("have an access mode of their own that wins over the module's", () => {
    const listeners = httpListeners({
      "http_module.vmq_metrics_http.auth.mode": "apikey",
      "listener.http.a": "127.0.0.1:1",
      "listener.http.b": "127.0.0.1:2",
      "listener.http.b.http_module.vmq_metrics_http.auth.mode": "noauth",
      "listener.http.b.http_module.vmq_http_mgmt_api.auth.mode": "noauth",
    });
    const modes = listeners.map(({ authModes }) => [
      authModes.get("vmq_metrics_http"),
      authModes.get("vmq_http_mgmt_api"),
    ]);
    expect(modes).toEqual([
      ["apikey", "apikey"],
      ["noauth", "noauth"],
    ]);
  });

  test("over TLS need a certificate, and take the settings of other TLS listeners", () => {
    const values = { "listener.https.x": "127.0.0.1:8889" };
    const { errors } = loadConfig({ isEmbedded: true, values });
    expect(errors).toEqual([
      expect.stringContaining("a TLS listener needs listener.https.x.certfile"),
      expect.stringContaining("a TLS listener needs listener.https.x.keyfile"),
    ]);
    const listener = only({
      ...values,
      "listener.https.certfile": "",
      "listener.https.keyfile": "",
      "listener.https.tls_version": "tlsv1.3",
      "listener.https.x.tls_handshake_timeout": "700",
    });
    expect(listener.tls).toMatchObject({
      versions: ["tlsv1.3"],
      handshakeTimeoutMs: 700,
      depth: 1,
    });
  });

  test("refuse an access mode that does not exist", () => {
    const key = "listener.http.x.http_module.vmq_metrics_http.auth.mode";
    const { errors } = loadConfig({ isEmbedded: true, values: { [key]: "open" } });
    expect(errors).toEqual([expect.stringContaining(`${key}: "open" is not a valid value`)]);
  });
});
