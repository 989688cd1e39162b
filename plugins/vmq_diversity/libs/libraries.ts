import type { LibraryFactory } from "../worker/library.ts";
import { bcrypt } from "./bcrypt.ts";
import { json } from "./json.ts";
import { authCache, crypto, kv, log, obf, vmqApi } from "./small.ts";

/** Global tables of every state by name (lua.md, section 4). */
export const LIBRARIES: Readonly<Record<string, LibraryFactory>> = {
  auth_cache: authCache,
  bcrypt,
  crypto,
  json,
  kv,
  log,
  obf,
  vmq_api: vmqApi,
};
