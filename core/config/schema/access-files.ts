import type { SchemaRow } from "../schema.ts";

/** Keys of vmq_acl and vmq_passwd: the ACL file and the password file. */
export const ACCESS_FILE_ROWS: readonly SchemaRow[] = [
  {
    key: "vmq_acl.acl_file",
    type: "file",
    default: "./etc/vmq.acl",
    live: true,
    neededBy: "vmq_acl",
    doc: "Path of the ACL file.",
  },
  {
    key: "vmq_acl.acl_reload_interval",
    type: "integer",
    default: "10",
    unit: "s",
    min: 0,
    live: true,
    doc: "Seconds between re-reads of the ACL file; 0 = never.",
  },
  {
    key: "vmq_passwd.password_file",
    type: "file",
    default: "./etc/vmq.passwd",
    live: true,
    doc: "Path of the password file.",
  },
  {
    key: "vmq_passwd.password_reload_interval",
    type: "integer",
    default: "10",
    unit: "s",
    min: 0,
    live: true,
    doc: "Seconds between re-reads of the password file; 0 = never.",
  },
];
