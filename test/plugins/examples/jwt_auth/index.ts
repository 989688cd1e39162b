import { readFile } from "node:fs/promises";
import { importSPKI, type JWTPayload, jwtVerify } from "jose";
import { contains, definePlugin, matches, type SessionContext } from "nautilus-mq/plugin";

/** What our tokens say besides the standard claims: topic filters. */
interface Claims extends JWTPayload {
  publish?: string[];
  subscribe?: string[];
}

/** Nothing is known of a client that was let in by another plugin, or before a restart. */
const claimsOf = (context: SessionContext): Claims => (context.jwt_auth ?? {}) as Claims;

let verify: (token: string) => Promise<Claims>;

export default definePlugin({
  name: "jwt_auth",
  settings: {
    public_key: { type: "file", required: true, doc: "PEM file with the key of the issuer." },
    issuer: { type: "string", default: "https://id.example", doc: "Who must have issued tokens." },
  },

  async start({ settings, resolvePath }) {
    const key = await importSPKI(await readFile(resolvePath(settings.public_key), "utf8"), "ES256");
    verify = async (token) => {
      const { payload } = await jwtVerify<Claims>(token, key, { issuer: settings.issuer });
      return payload;
    };
  },

  hooks: {
    // The password is the token. What it says stays with the session.
    async auth_on_register({ password, username, context }) {
      if (password === undefined) return "next";
      const claims = await verify(password.toString()).catch(() => undefined);
      if (claims === undefined || claims.sub !== username) return { error: "invalid_credentials" };
      context.jwt_auth = claims;
      const leftS = Math.ceil((claims.exp ?? 0) - Date.now() / 1000);
      return leftS > 0 ? { ok: { max_connection_lifetime: leftS } } : "ok";
    },
    auth_on_publish({ topic, context }) {
      const publish = claimsOf(context).publish ?? [];
      return publish.some((filter) => matches(filter, topic)) ? "ok" : "next";
    },
    auth_on_subscribe({ topics, context }) {
      const subscribe = claimsOf(context).subscribe ?? [];
      const isAllowed = (topic: string) => subscribe.some((rule) => contains(rule, topic));
      return topics.every(({ topic }) => isAllowed(topic)) ? "ok" : "next";
    },
  },
});
