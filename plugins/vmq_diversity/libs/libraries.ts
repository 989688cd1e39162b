import type { LibraryFactory } from "../worker/library.ts";
import { authCacheLibrary } from "./auth-cache.ts";
import { bcryptLibrary } from "./bcrypt.ts";
import { cryptoLibrary } from "./crypto.ts";
import { environment } from "./environment.ts";
import { http } from "./http.ts";
import { jsonLibrary } from "./json.ts";
import { kvLibrary } from "./kv.ts";
import { memcached } from "./memcached.ts";
import { mongodb } from "./mongodb.ts";
import { mysql, mysql2 } from "./mysql.ts";
import { cockroachdb, postgres } from "./postgres.ts";
import { redis } from "./redis.ts";
import { log, obf, vmqApi } from "./small.ts";

/** Global tables of every state by name. */
export const LIBRARIES: Readonly<Record<string, LibraryFactory>> = {
  auth_cache: authCacheLibrary,
  bcrypt: bcryptLibrary,
  cockroachdb,
  crypto: cryptoLibrary,
  environment,
  http,
  json: jsonLibrary,
  kv: kvLibrary,
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
