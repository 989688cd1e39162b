import type { LibraryFactory } from "../worker/library.ts";
import { bcrypt } from "./bcrypt.ts";
import { http } from "./http.ts";
import { json } from "./json.ts";
import { memcached } from "./memcached.ts";
import { mongodb } from "./mongodb.ts";
import { mysql, mysql2 } from "./mysql.ts";
import { cockroachdb, postgres } from "./postgres.ts";
import { redis } from "./redis.ts";
import { authCache, crypto, kv, log, obf, vmqApi } from "./small.ts";

/** Global tables of every state by name (lua.md, section 4). */
export const LIBRARIES: Readonly<Record<string, LibraryFactory>> = {
  auth_cache: authCache,
  bcrypt,
  cockroachdb,
  crypto,
  http,
  json,
  kv,
  log,
  memcached,
  mongodb,
  mysql,
  mysql2,
  obf,
  postgres,
  redis,
  vmq_api: vmqApi,
};
