/** vmq_passwd: users and password hashes from a file. */
import { existsSync } from "node:fs";
import {
  definePlugin,
  type Plugin,
  type PluginContext,
  type PluginLog,
  type RegisterArgs,
  type RegisterM5Args,
  ReloadedFile,
  type Verdict,
} from "../../core/plugin-api.ts";
import { type LineFault, NO_USERS, type PasswordSet, parsePasswordFile } from "./password-file.ts";
import { type Outcome, Verifier } from "./verifier.ts";

export interface PasswdOptions {
  /** `vmq_passwd.password_file` */
  readonly passwordFile: string;
  /** `vmq_passwd.password_reload_interval` in seconds; 0 = the file is read once. */
  readonly reloadIntervalS: number;
  readonly log: PluginLog;
}

export interface PasswdPlugin {
  readonly plugin: Plugin;
  stop(): void;
  /** Another password file; if it cannot be read, the users of the old one stay. */
  setFile(path: string): Promise<void>;
  setInterval(intervalS: number): void;
}

/** More would flood the log: the first lines tell what is wrong. */
const FAULTS_LOGGED_MAX = 20;

/**
 * Reads the file and gives the plugin. A missing file is logged and means no users yet, as in VerneMQ;
 * it is read as soon as it appears.
 */
export async function createPasswdPlugin(options: PasswdOptions): Promise<PasswdPlugin> {
  const { log } = options;
  const verifier = new Verifier();
  let set: PasswordSet = NO_USERS;

  async function apply(content: Buffer, path: string): Promise<void> {
    const { set: next, faults } = await parsePasswordFile(content);
    logFaults(log, path, faults);
    const isBroken = next.users.size === 0 && faults.length > 0;
    if (isBroken) throw new Error(`no usable line, ${faults.length} lines skipped`);
    await verifier.calibrate(next);
    set = next;
    log.info("password file loaded", { file: path, users: next.users.size });
  }

  const file = new ReloadedFile({
    path: options.passwordFile,
    intervalS: options.reloadIntervalS,
    apply,
    failed: (error, path) =>
      log.error(`password file ${path} cannot be used, ${set.users.size} users stay as they were`, {
        reason: error.message,
      }),
  });
  await file.tryLoad();

  function authenticate(args: RegisterArgs | RegisterM5Args): Answer | Promise<Answer> {
    const { username, password } = args;
    if (username === undefined || password === undefined) return "next";
    const outcome = verifier.check(set, username, password);
    return typeof outcome === "string" ? answer(outcome) : outcome.then(answer);
  }
  return {
    plugin: {
      name: "vmq_passwd",
      hooks: { auth_on_register: authenticate, auth_on_register_m5: authenticate },
    },
    stop: () => file.stop(),
    setFile: (path) => file.setPath(path),
    setInterval: (intervalS) => file.setInterval(intervalS),
  };
}

type Answer = Verdict<never>;

/** As in VerneMQ: an unknown user is the next plugin's affair, a wrong password ends the chain. */
function answer(outcome: Outcome): Answer {
  switch (outcome) {
    case "right":
      return "ok";
    case "unknown":
      return "next";
    case "wrong":
      return { error: "invalid_credentials" };
    case "busy":
      return { error: { reason_code: "server_busy" } };
    default:
      return outcome satisfies never;
  }
}

function logFaults(log: PluginLog, path: string, faults: readonly LineFault[]): void {
  for (const { line, reason } of faults.slice(0, FAULTS_LOGGED_MAX)) {
    log.warn(`${path}:${line}: ${reason}`);
  }
  const more = faults.length - FAULTS_LOGGED_MAX;
  if (more > 0) log.warn(`${path}: ${more} more lines with faults`);
}

/** Users by the broker they are for. */
const running = new WeakMap<PluginContext, PasswdPlugin>();

function runningOf(context: PluginContext): PasswdPlugin {
  const passwd = running.get(context);
  if (passwd === undefined) throw new Error("vmq_passwd does not run");
  return passwd;
}

/**
 * Nobody asked for a password file and there is none: worth one line if clients need a password, and
 * none if they don't.
 */
async function startWithoutFile(
  context: PluginContext,
  options: PasswdOptions,
): Promise<PasswdPlugin> {
  let isStarting = true;
  const { log } = context;
  const quiet: PluginLog = {
    info: (message, fields) => log.info(message, fields),
    warn: (message, fields) => log.warn(message, fields),
    error: (message, fields) => (isStarting ? undefined : log.error(message, fields)),
  };
  const passwd = await createPasswdPlugin({ ...options, log: quiet });
  isStarting = false;
  if (context.config("allow_anonymous") !== "on" && context.config("allow_anonymous") !== true) {
    log.warn(`no vmq_passwd.password_file and no ${options.passwordFile}: there are no users`, {
      hint: `vmq-passwd -c ${options.passwordFile} USER`,
    });
  }
  return passwd;
}

async function configure(context: PluginContext, key: string, value: unknown): Promise<void> {
  const passwd = runningOf(context);
  if (key === "vmq_passwd.password_file") await passwd.setFile(context.resolvePath(String(value)));
  if (key === "vmq_passwd.password_reload_interval") passwd.setInterval(Number(value));
}

export default definePlugin({
  name: "vmq_passwd",
  settings: {
    password_file: {
      type: "file",
      default: "./etc/vmq.passwd",
      live: true,
      doc: "Path of the password file.",
    },
    password_reload_interval: {
      type: "integer",
      default: "10",
      unit: "s",
      min: 0,
      live: true,
      doc: "Seconds between re-reads of the password file; 0 = never.",
    },
  },
  start: async (context) => {
    const { settings, log } = context;
    const passwordFile = context.resolvePath(settings.password_file);
    const options = { passwordFile, reloadIntervalS: settings.password_reload_interval, log };
    const isWanted = context.isSet("password_file") || existsSync(passwordFile);
    const start = isWanted ? createPasswdPlugin(options) : startWithoutFile(context, options);
    running.set(context, await start);
  },
  hooks: (context) => ({
    ...runningOf(context).plugin.hooks,
    change_config: async ({ settings }) => {
      for (const { key, value } of settings) await configure(context, key, value);
    },
  }),
  stop: (context) => runningOf(context).stop(),
});
