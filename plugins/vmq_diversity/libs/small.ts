/** The modules that need no connection to anywhere, by the name of their global table. */
import type { LibraryFactory } from "../worker/library.ts";
import { authCacheLibrary } from "./auth-cache.ts";
import { bcryptLibrary } from "./bcrypt.ts";
import { cryptoLibrary } from "./crypto.ts";
import { jsonLibrary } from "./json.ts";
import { kvLibrary } from "./kv.ts";
import { logLibrary } from "./log.ts";
import { obfLibrary } from "./obf.ts";
import { vmqApiLibrary } from "./vmq-api.ts";

export const SMALL_LIBRARIES: Readonly<Record<string, LibraryFactory>> = {
  auth_cache: authCacheLibrary,
  bcrypt: bcryptLibrary,
  crypto: cryptoLibrary,
  json: jsonLibrary,
  kv: kvLibrary,
  log: logLibrary,
  obf: obfLibrary,
  vmq_api: vmqApiLibrary,
};
