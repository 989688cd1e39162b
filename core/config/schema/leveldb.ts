import type { SchemaRow } from "../schema.ts";

const ROWS: readonly Omit<SchemaRow, "doc">[] = [
  {
    key: "leveldb.data_root",
    type: "directory",
    default: "$(platform_data_dir)/leveldb",
    hidden: true,
  },
  { key: "leveldb.maximum_memory.percent", type: "integer", default: "70" },
  { key: "leveldb.maximum_memory", type: "bytesize", hidden: true },
  { key: "leveldb.sync_on_write", type: "flag", default: "off", hidden: true },
  { key: "leveldb.limited_developer_mem", type: "flag", default: "off", hidden: true },
  { key: "leveldb.write_buffer_size_min", type: "bytesize", default: "30MB", hidden: true },
  { key: "leveldb.write_buffer_size_max", type: "bytesize", default: "60MB", hidden: true },
  { key: "leveldb.bloomfilter", type: "flag", default: "on", hidden: true },
  { key: "leveldb.block_cache_threshold", type: "bytesize", default: "32MB", hidden: true },
  { key: "leveldb.block.size", type: "bytesize", default: "4KB", hidden: true },
  { key: "leveldb.block.restart_interval", type: "integer", default: "16", hidden: true },
  { key: "leveldb.block.size_steps", type: "integer", default: "16", hidden: true },
  { key: "leveldb.verify_checksums", type: "flag", default: "on", hidden: true },
  { key: "leveldb.verify_compaction", type: "flag", default: "on", hidden: true },
  { key: "leveldb.threads", type: "integer", default: "71", hidden: true },
  {
    key: "leveldb.fadvise_willneed",
    type: "enum",
    values: ["true", "false"],
    default: "false",
    hidden: true,
  },
  { key: "leveldb.compression", type: "flag", default: "on" },
  { key: "leveldb.compression.algorithm", type: "enum", values: ["snappy", "lz4"] },
  {
    key: "leveldb.compaction.trigger.tombstone_count",
    type: "integer",
    values: ["off"],
    default: "1000",
    hidden: true,
  },
  {
    key: "leveldb.tiered",
    type: "enum",
    values: ["off", "1", "2", "3", "4", "5", "6"],
    default: "off",
    hidden: true,
  },
  { key: "leveldb.tiered.path.fast", type: "directory", hidden: true },
  { key: "leveldb.tiered.path.slow", type: "directory", hidden: true },
  {
    key: "leveldb.cache_object_warming",
    type: "enum",
    values: ["true", "false"],
    default: "true",
    hidden: true,
  },
  { key: "leveldb.expiration", type: "flag", default: "off", hidden: true },
  {
    key: "leveldb.expiration.retention_time",
    type: "duration",
    values: ["unlimited"],
    default: "unlimited",
    hidden: true,
  },
  {
    key: "leveldb.expiration.mode",
    type: "flag",
    values: ["whole_file", "normal"],
    default: "whole_file",
    hidden: true,
  },
];

/** Tuning of LevelDB, VerneMQ's store; the keys say what there is to say. */
export const LEVELDB_ROWS: readonly SchemaRow[] = ROWS.map((row) => ({
  ...row,
  doc: `LevelDB tuning: ${row.key.replace("leveldb.", "").replace(/[._]/g, " ")}.`,
}));
