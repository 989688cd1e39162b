import type { SchemaRow } from "../schema.ts";

/** A database: its word in keys, and its name for people. */
interface Database {
  readonly key: string;
  readonly name: string;
}

const POSTGRES: Database = { key: "postgres", name: "PostgreSQL" };
const COCKROACHDB: Database = { key: "cockroachdb", name: "CockroachDB" };
const MYSQL: Database = { key: "mysql", name: "MySQL (old driver)" };
const MYSQL2: Database = { key: "mysql2", name: "MySQL/MariaDB" };
const MONGODB: Database = { key: "mongodb", name: "MongoDB" };
const REDIS: Database = { key: "redis", name: "Redis" };

/** Databases of vmq_diversity and the bundled scripts that authenticate with them. */
export const DATABASE_ROWS: readonly SchemaRow[] = [
  ...authScript(POSTGRES),
  ...sqlLogin(POSTGRES, "5432"),
  poolSize(POSTGRES),
  ...tls(POSTGRES, "off"),
  ...since("2.0.1", [chainDepth(POSTGRES), ...serverCheck(POSTGRES)]),
  passwordHash(POSTGRES, ["crypt", "bcrypt"], "crypt"),

  ...since("1.8.0", [
    ...authScript(COCKROACHDB),
    ...sqlLogin(COCKROACHDB, "5432"),
    poolSize(COCKROACHDB),
    ...tls(COCKROACHDB, "on"),
    chainDepth(COCKROACHDB),
    ...serverCheck(COCKROACHDB),
    passwordHash(COCKROACHDB, ["sha256", "bcrypt"], "bcrypt"),
  ]),

  ...authScript(MYSQL),
  ...sqlLogin(MYSQL, "3306"),
  poolSize(MYSQL),
  ...since("1.7.0", [passwordHash(MYSQL, ["password", "md5", "sha1", "sha256"], "password")]),

  ...since("2.0.1", [
    ...authScript(MYSQL2),
    ...sqlLogin(MYSQL2, "3306"),
    poolSize(MYSQL2),
    ...tls(MYSQL2, "off"),
    chainDepth(MYSQL2),
    ...serverCheck(MYSQL2),
    passwordHash(MYSQL2, ["password", "md5", "sha1", "sha256"], "sha256"),
  ]),

  ...authScript(MONGODB),
  { key: "vmq_diversity.mongodb.host", type: "string", default: "localhost", doc: "MongoDB host." },
  {
    key: "vmq_diversity.mongodb.srv",
    type: "string",
    default: "",
    hidden: true,
    since: "1.12.0",
    doc: "DNS SRV name used to find MongoDB hosts.",
  },
  { key: "vmq_diversity.mongodb.port", type: "integer", default: "27017", doc: "MongoDB port." },
  { key: "vmq_diversity.mongodb.login", type: "string", doc: "MongoDB user." },
  {
    key: "vmq_diversity.mongodb.password",
    type: "string",
    isSecret: true,
    doc: "MongoDB password.",
  },
  {
    key: "vmq_diversity.mongodb.auth_source",
    type: "string",
    default: "admin",
    since: "1.12.0",
    doc: "MongoDB authentication database.",
  },
  { key: "vmq_diversity.mongodb.database", type: "string", doc: "MongoDB database." },
  poolSize(MONGODB),
  {
    key: "vmq_diversity.mongodb.w_mode",
    type: "string",
    default: "safe",
    hidden: true,
    doc: "MongoDB write mode.",
  },
  {
    key: "vmq_diversity.mongodb.read_preference",
    type: "enum",
    values: ["primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest"],
    default: "primaryPreferred",
    hidden: true,
    doc: "MongoDB read preference.",
  },
  ...tls(MONGODB, "off"),
  chainDepth(MONGODB),
  {
    key: "vmq_diversity.mongodb.ssl.sni",
    type: "string",
    hidden: true,
    doc: "Server name indication for MongoDB.",
  },
  ...serverCheck(MONGODB),

  ...authScript(REDIS),
  { key: "vmq_diversity.redis.host", type: "string", default: "localhost", doc: "Redis host." },
  { key: "vmq_diversity.redis.port", type: "integer", default: "6379", doc: "Redis port." },
  {
    key: "vmq_diversity.redis.password",
    type: "string",
    isSecret: true,
    default: "",
    doc: "Redis password.",
  },
  { key: "vmq_diversity.redis.user", type: "string", default: "", doc: "Redis user." },
  { key: "vmq_diversity.redis.database", type: "integer", default: "0", doc: "Redis database." },
  poolSize(REDIS),

  {
    key: "vmq_diversity.memcache.host",
    type: "string",
    default: "localhost",
    doc: "Memcached host.",
  },
  { key: "vmq_diversity.memcache.port", type: "integer", default: "11211", doc: "Memcached port." },
];

function since(release: string, rows: readonly SchemaRow[]): SchemaRow[] {
  return rows.map((row) => ({ ...row, since: release }));
}

function authScript({ key, name }: Database): SchemaRow[] {
  return [
    {
      key: `vmq_diversity.auth_${key}.enabled`,
      type: "flag",
      default: "off",
      doc: `Load the bundled ${name} authentication script.`,
    },
    {
      key: `vmq_diversity.auth_${key}.script`,
      type: "file",
      default: `./share/lua/auth/${key}.lua`,
      hidden: true,
      doc: `Path of the ${name} authentication script.`,
    },
  ];
}

function sqlLogin({ key, name }: Database, port: string): SchemaRow[] {
  const prefix = `vmq_diversity.${key}`;
  return [
    { key: `${prefix}.host`, type: "string", default: "localhost", doc: `${name} host.` },
    { key: `${prefix}.port`, type: "integer", default: port, doc: `${name} port.` },
    { key: `${prefix}.user`, type: "string", default: "root", doc: `${name} user.` },
    {
      key: `${prefix}.password`,
      type: "string",
      isSecret: true,
      default: "password",
      doc: `${name} password.`,
    },
    { key: `${prefix}.database`, type: "string", default: "vernemq_db", doc: `${name} database.` },
  ];
}

function poolSize({ key, name }: Database): SchemaRow {
  return {
    key: `vmq_diversity.${key}.pool_size`,
    type: "integer",
    default: "5",
    hidden: true,
    doc: `Connections kept to ${name}.`,
  };
}

function tls({ key, name }: Database, isOn: "on" | "off"): SchemaRow[] {
  const prefix = `vmq_diversity.${key}`;
  const file = { type: "file", default: "", checks: ["readable"] } as const;
  return [
    { key: `${prefix}.ssl`, type: "flag", default: isOn, doc: `Use TLS to ${name}.` },
    { key: `${prefix}.cafile`, ...file, doc: `CA file for ${name}.` },
    { key: `${prefix}.certfile`, ...file, doc: `Client certificate for ${name}.` },
    { key: `${prefix}.keyfile`, ...file, doc: `Client key for ${name}.` },
  ];
}

function chainDepth({ key, name }: Database): SchemaRow {
  return {
    key: `vmq_diversity.${key}.ssl.depth`,
    type: "integer",
    default: "3",
    hidden: true,
    doc: `Certificate chain depth for ${name}.`,
  };
}

function serverCheck({ key, name }: Database): SchemaRow[] {
  const prefix = `vmq_diversity.${key}.ssl`;
  return [
    {
      key: `${prefix}.customize_hostname_check`,
      type: "enum",
      values: ["https"],
      default: "https",
      doc: `Host name matching rules for ${name}.`,
    },
    {
      key: `${prefix}.verify`,
      type: "enum",
      values: ["verify_none", "verify_peer"],
      default: "verify_peer",
      doc: `Verify the certificate of ${name}.`,
    },
    {
      key: `${prefix}.use_system_cas`,
      type: "flag",
      default: "on",
      doc: `Use the CA store of the system for ${name}.`,
    },
  ];
}

function passwordHash(
  { key, name }: Database,
  values: readonly string[],
  fallback: string,
): SchemaRow {
  return {
    key: `vmq_diversity.${key}.password_hash_method`,
    type: "enum",
    values,
    default: fallback,
    doc: `How passwords are stored in ${name}.`,
  };
}
