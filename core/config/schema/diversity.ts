import type { SchemaRow } from "../schema.ts";
import { DATABASE_ROWS } from "./databases.ts";

/** Keys of vmq_diversity, and of bcrypt, which only its Lua scripts use. */
export const DIVERSITY_ROWS: readonly SchemaRow[] = [
  {
    key: "vmq_diversity.keep_state",
    type: "flag",
    default: "off",
    live: true,
    hidden: true,
    doc: "Keep Lua globals between calls; scripts may override with keep_state.",
  },
  {
    key: "vmq_diversity.nr_lua_states",
    type: "integer",
    default: "1",
    hidden: true,
    doc: "Lua states per script; scripts may override with num_states.",
  },
  {
    key: "vmq_diversity.script_dir",
    type: "directory",
    default: "./share/lua",
    doc: "Directory whose Lua scripts are loaded at start.",
  },
  ...DATABASE_ROWS,
  {
    key: "vmq_diversity.$script.file",
    type: "file",
    example: "path/to/my/script.lua",
    doc: "Lua script loaded at start (after script_dir), in order of the names.",
  },
  {
    key: "vmq_bcrypt.default_log_rounds",
    type: "integer",
    default: "12",
    min: 4,
    max: 31,
    doc: "Cost of hashes from bcrypt.gen_salt in Lua scripts, 4..31; one more doubles the work.",
  },
  // Differs from VerneMQ: its default is 1, however many processors there are.
  {
    key: "vmq_bcrypt.pool_size",
    type: "integer",
    values: ["auto"],
    default: "auto",
    min: 1,
    since: "1.8.0",
    doc: "bcrypt hashes of Lua scripts computed at a time (auto = CPUs - 1), at most UV_THREADPOOL_SIZE - 1.",
  },
  {
    key: "vmq_bcrypt.nif_pool_size",
    type: "integer",
    values: ["auto"],
    default: "4",
    min: 1,
    doc: "The same with mechanism = nif.",
  },
  {
    key: "vmq_bcrypt.nif_pool_max_overflow",
    type: "integer",
    default: "10",
    min: 1,
    doc: "Added to nif_pool_size.",
  },
  {
    key: "vmq_bcrypt.mechanism",
    type: "enum",
    values: ["nif", "port"],
    default: "port",
    doc: "Which of the sizes counts: pool_size (port) or nif_pool_size. Hashes are the same.",
  },
];
