// Command line options of the load generator: the tables, and how they are read and checked.

/** Exit statuses of the generator; the same as mqttload's. */
export const EXIT = { fine: 0, failed: 1, usage: 2, unreachable: 3, internal: 4 } as const;

/** Ends a run with an exit status and one line for the user. */
export class LoadError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.name = "LoadError";
    this.status = status;
  }
}

interface NumberOption {
  readonly kind: "number";
  readonly fallback: number;
  readonly min: number;
  readonly max: number;
  readonly help: string;
}
interface TextOption {
  readonly kind: "text";
  readonly fallback: string;
  readonly lengthMax: number;
  readonly help: string;
}
interface FlagOption {
  readonly kind: "flag";
  readonly help: string;
}
type Option = NumberOption | TextOption | FlagOption;
type Table = Readonly<Record<string, Option>>;
type Values<T extends Table> = {
  [K in keyof T]: T[K] extends NumberOption ? number : T[K] extends FlagOption ? boolean : string;
};

function number(fallback: number, min: number, max: number, help: string): NumberOption {
  return { kind: "number", fallback, min, max, help };
}

function text(fallback: string, lengthMax: number, help: string): TextOption {
  return { kind: "text", fallback, lengthMax, help };
}

/** Stands for `auto` where an option adapts itself. */
export const AUTO = -1;

/** Bytes that each payload needs: run, publisher, sequence number, send time. */
export const PAYLOAD_BYTES_MIN = 24;

/** No run may take longer, whatever is asked for. */
const SECONDS_MAX = 1200;

const COMMON = {
  host: text("127.0.0.1", 64, "broker address, in 127.0.0.0/8"),
  port: number(1883, 1, 65535, "broker port"),
  version: number(4, 4, 5, "4: MQTT 3.1.1, 5: MQTT 5"),
  username: text("", 200, "user name"),
  password: text("", 200, "password"),
  srcCount: number(0, 0, 254, "bind clients to 127.0.0.1..K in turn"),
  pid: number(0, 0, 2 ** 30, "process id of the broker, for CPU and memory"),
  json: { kind: "flag", help: "one JSON object on the last line" },
} as const satisfies Table;

const PUBSUB = {
  ...COMMON,
  pattern: text("pairs", 16, "pairs, fanin, fanout or shared"),
  pubs: number(1, 1, 100_000, "publishers"),
  subs: number(1, 0, 100_000, "subscribers"),
  qos: number(0, 0, 2, "of publishers and subscribers"),
  size: number(64, PAYLOAD_BYTES_MIN, 16 << 20, "payload bytes"),
  messages: number(100_000, 1, 4_000_000_000, "of all publishers together"),
  duration: number(60, 1, SECONDS_MAX, "seconds to send for at most"),
  rate: number(0, 0, 100_000_000, "messages a second in all, 0: unlimited"),
  window: number(20, 1, 65535, "in flight per publisher, QoS 1 and 2"),
  inflightTotal: number(0, 0, 2 ** 30, "undelivered deliveries to allow, 0: 20000 or 8 MiB"),
  clean: number(1, 0, 1, "0: persistent sessions"),
  subPort: number(0, 0, 65535, "port of the subscribers' broker, 0: the same one"),
  topicPrefix: text("bench", 100, "topics are PREFIX/<publisher>"),
  coalesce: number(AUTO, 0, 10_000, "us to nap between rounds; auto adapts it, 0 with a rate"),
  drain: number(5, 1, 60, "seconds without a delivery to give up after"),
  verify: number(0, 0, 1, "1: compare whole payloads"),
  strictOrder: number(0, 0, 1, "1: misordering fails the run"),
  threads: number(AUTO, 0, 16, "worker threads, 0: the main thread; auto: cores - 1, up to 4"),
} as const satisfies Table;

const CONNECT = {
  ...COMMON,
  count: number(1000, 1, 60_000, "clients"),
  rate: number(0, 0, 1_000_000, "new clients a second, 0: unlimited"),
  concurrency: number(64, 1, 100_000, "clients on their way in at once"),
  hold: number(0, 0, SECONDS_MAX, "seconds to keep them"),
  subscribe: number(0, 0, 1, "1: each subscribes to a topic of its own"),
  clean: number(1, 0, 1, "0: persistent sessions (they stay behind)"),
  timeout: number(10, 1, 60, "seconds a client may take"),
  duration: number(120, 1, SECONDS_MAX, "seconds for all to get in"),
} as const satisfies Table;

/** Options of `pubsub`, checked. */
export type PubsubOptions = Values<typeof PUBSUB>;
/** Options of `connect`, checked. */
export type ConnectOptions = Values<typeof CONNECT>;

/** Reads the options of `pubsub`. Throws LoadError with status 2. */
export function parsePubsub(args: readonly string[]): PubsubOptions {
  return checkPubsub(parse(PUBSUB, args));
}

/** The options of `pubsub` with those of `given` in place; checked as from the command line. */
export function pubsubOptions(given: Partial<PubsubOptions>): PubsubOptions {
  return checkPubsub({ ...parse(PUBSUB, []), ...given });
}

/** Reads the options of `connect`. Throws LoadError with status 2. */
export function parseConnect(args: readonly string[]): ConnectOptions {
  return checkConnect(parse(CONNECT, args));
}

/** The options of `connect` with those of `given` in place; checked as from the command line. */
export function connectOptions(given: Partial<ConnectOptions>): ConnectOptions {
  return checkConnect({ ...parse(CONNECT, []), ...given });
}

/** The help text of a command. */
export function help(command: "pubsub" | "connect"): string {
  const table: Table = command === "pubsub" ? PUBSUB : CONNECT;
  const lines = Object.entries(table).map(([key, option]) => {
    const range = option.kind === "number" ? ` (${option.min}..${option.max}` : "";
    const fallback = option.kind === "flag" ? "" : String(option.fallback);
    const shown = fallback === String(AUTO) ? "auto" : fallback;
    return `  --${kebab(key).padEnd(16)} ${option.help}${range}${range && `, default ${shown})`}`;
  });
  return [`usage: load/main.js ${command} [options]`, ...lines].join("\n");
}

function kebab(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function parse<T extends Table>(table: T, args: readonly string[]): Values<T> {
  const values: Record<string, number | string | boolean> = {};
  for (const [key, option] of Object.entries(table))
    values[key] = option.kind === "flag" ? false : option.fallback;
  for (let i = 0; i < args.length; i++) {
    const name = args[i] ?? "";
    const key = Object.keys(table).find((candidate) => `--${kebab(candidate)}` === name);
    const option = key === undefined ? undefined : table[key];
    if (key === undefined || option === undefined)
      throw new LoadError(EXIT.usage, `unknown option ${name}`);
    if (option.kind === "flag") values[key] = true;
    else values[key] = readValue(name, option, args[++i]);
  }
  return values as Values<T>;
}

function readValue(name: string, option: NumberOption | TextOption, value: string | undefined) {
  if (value === undefined) throw new LoadError(EXIT.usage, `${name} needs a value`);
  if (option.kind === "text") {
    if (value.length > option.lengthMax) throw new LoadError(EXIT.usage, `${name} is too long`);
    return value;
  }
  const n = Number(value);
  if (!/^\d+$/.test(value) || n < option.min || n > option.max) {
    const message = `${name} must be ${option.min}..${option.max}, not ${value}`;
    throw new LoadError(EXIT.usage, message);
  }
  return n;
}

/** The generator only talks to this machine: anything outside 127.0.0.0/8 is refused. */
function loopback(host: string): string {
  const address = host === "localhost" ? "127.0.0.1" : host;
  if (!/^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(address)) {
    const message = `refusing ${host}: this load generator only talks to 127.0.0.0/8`;
    throw new LoadError(EXIT.usage, message);
  }
  return address;
}

function checkPubsub(options: PubsubOptions): PubsubOptions {
  const { pattern, topicPrefix } = options;
  if (!["pairs", "fanin", "fanout", "shared"].includes(pattern))
    throw new LoadError(EXIT.usage, "--pattern must be pairs, fanin, fanout or shared");
  if (pattern === "pairs" && options.subs !== 0 && options.pubs !== options.subs)
    throw new LoadError(EXIT.usage, "pattern pairs needs as many --subs as --pubs");
  if (topicPrefix === "" || /[+#]|^\$/.test(topicPrefix))
    throw new LoadError(EXIT.usage, "--topic-prefix must not hold + or # or begin with $");
  if (pattern !== "pairs" && options.pubs * options.subs > 20_000_000)
    throw new LoadError(EXIT.usage, "too many publisher-subscriber pairs");
  // 20000 deliveries keep any broker busy; 8 MiB keep big payloads out of swap.
  const inflightTotal =
    options.inflightTotal || Math.max(1, Math.min(20_000, Math.floor((8 << 20) / options.size)));
  return { ...options, inflightTotal, host: loopback(options.host) };
}

function checkConnect(options: ConnectOptions): ConnectOptions {
  // one source address has about 28000 ephemeral ports
  if (options.count > 28_000 && options.count / Math.max(1, options.srcCount) > 28_000)
    throw new LoadError(EXIT.usage, "more than 28000 clients per source: raise --src-count");
  return { ...options, host: loopback(options.host) };
}
