/** vmq_acl: who may publish and subscribe to what, from a file. */
import { existsSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import {
  definePlugin,
  errorMessage,
  type Plugin,
  type PluginContext,
  type PluginLog,
  type PublishArgs,
  ReloadedFile,
  type SubscribeArgs,
  type SubscribeM5Args,
  type SubscriberId,
} from "../../core/plugin-api.ts";
import { type Access, type LineFault, parseAcl } from "./acl-file.ts";
import { AclRules, type Asker } from "./rules.ts";

export interface AclOptions {
  /** `vmq_acl.acl_file`; undefined = the bundled rules. */
  readonly aclFile: string | undefined;
  /** `vmq_acl.acl_reload_interval` in seconds; 0 = the file is read once. */
  readonly reloadIntervalS: number;
  /** `topic_max_depth`: rules with more levels are skipped. */
  readonly topicMaxDepth: number;
  readonly log: PluginLog;
}

/** A question for `explain`. */
export interface AclQuestion extends Asker {
  /** read = subscribe to the filter `topic`, write = publish to the topic name. */
  readonly access: Access;
  readonly topic: string;
}

export interface AclExplanation {
  /** `next` means: not by this plugin; another one of the chain may still allow it. */
  readonly verdict: "ok" | "next";
  /** The file, or `bundled rules`. */
  readonly file: string;
  /** The line that decided and its text; not there if no line allows it. */
  readonly line?: number;
  readonly text?: string;
}

export interface AclPlugin {
  readonly plugin: Plugin;
  stop(): void;
  /** Another file (undefined = the bundled rules); if it cannot be used, the old rules stay. */
  setFile(path: string | undefined): Promise<void>;
  setInterval(intervalS: number): void;
  /** Which line decides; asks the same rules the hooks ask. */
  explain(question: AclQuestion): AclExplanation;
}

/**
 * Everything but writing to `$SYS`. VerneMQ's default file is `topic #`, which there covers `$SYS/#`;
 * here a leading wildcard never covers a `$` topic.
 */
const BUNDLED_RULES = "topic #\ntopic read $SYS/#\n";
const BUNDLED_NAME = "bundled rules";
const DOLLAR = 0x24;

/** The event loop gets a turn after so many lines (about 1 ms). */
const LINES_PER_TURN = 1000;
/** More would flood the log: the first lines tell what is wrong. */
const FAULTS_LOGGED_MAX = 20;

/** Rules and where they came from; replaced as a whole. */
interface Loaded {
  readonly rules: AclRules;
  readonly file: string;
  /** The bundled rules: every topic but `$...` is open, no tree need be asked. */
  readonly isOpen: boolean;
}

/**
 * Reads the file and gives the plugin. Throws an Error that names the file if it is missing,
 * unreadable, or holds lines but not one that can be used.
 */
export async function createAclPlugin(options: AclOptions): Promise<AclPlugin> {
  const acl = new AclFile(options);
  await acl.start(options.aclFile);
  const publish = (args: PublishArgs) => acl.mayPublish(args);
  const subscribe = (args: SubscribeArgs | SubscribeM5Args) => acl.maySubscribe(args);
  return {
    plugin: {
      name: "vmq_acl",
      hooks: {
        auth_on_publish: publish,
        auth_on_publish_m5: publish,
        auth_on_subscribe: subscribe,
        auth_on_subscribe_m5: subscribe,
      },
    },
    stop: () => acl.stop(),
    setFile: (path) => acl.setFile(path),
    setInterval: (intervalS) => acl.setInterval(intervalS),
    explain: (question) => acl.explain(question),
  };
}

interface LastAnswer {
  readonly loaded: Loaded;
  readonly topic: string;
  readonly username: string | undefined;
  readonly answer: "ok" | "next";
}

/** The rules in force and the file they are read from. */
class AclFile {
  private readonly log: PluginLog;
  private readonly topicMaxDepth: number;
  private intervalS: number;
  private loaded: Loaded = { rules: new AclRules(), file: BUNDLED_NAME, isOpen: false };
  private file: ReloadedFile | undefined;
  /** Most clients repeat their topic: the last answer of each, for as long as its session lives. */
  private readonly lastAnswers = new WeakMap<SubscriberId, LastAnswer>();

  constructor({ log, topicMaxDepth, reloadIntervalS }: AclOptions) {
    this.log = log;
    this.topicMaxDepth = topicMaxDepth;
    this.intervalS = reloadIntervalS;
  }

  async start(path: string | undefined): Promise<void> {
    if (path === undefined) return this.useBundled();
    this.file = this.open(path);
    try {
      await this.file.load();
    } catch (cause) {
      this.stop();
      const reason = errorMessage(cause);
      throw new Error(`vmq_acl.acl_file: ${path} cannot be used: ${reason}`, { cause });
    }
  }

  /** Synchronous, and quick for a topic said again: this is on every publish's way. */
  mayPublish(args: PublishArgs): "ok" | "next" {
    const { loaded, lastAnswers } = this;
    const { topic, username, subscriber_id: id } = args;
    if (loaded.isOpen && topic.charCodeAt(0) !== DOLLAR) return "ok";
    const last = lastAnswers.get(id);
    if (last?.loaded === loaded && last.topic === topic && last.username === username) {
      return last.answer;
    }
    const asker = askerOf(username, id);
    const answer = loaded.rules.publishLine(asker, topic) === 0 ? "next" : "ok";
    lastAnswers.set(id, { loaded, topic, username, answer });
    return answer;
  }

  /** All topics or none: the request as a whole is left to the next plugin. */
  maySubscribe(args: SubscribeArgs | SubscribeM5Args): "ok" | "next" {
    const asker = askerOf(args.username, args.subscriber_id);
    const { rules } = this.loaded;
    const isAllowed = args.topics.every(({ topic }) => rules.subscribeLine(asker, topic) !== 0);
    return isAllowed ? "ok" : "next";
  }

  explain(question: AclQuestion): AclExplanation {
    const { rules, file } = this.loaded;
    const line = rules.line(question.access, question, question.topic);
    return line === 0
      ? { verdict: "next", file }
      : { verdict: "ok", file, line, text: rules.text(line) };
  }

  stop(): void {
    this.file?.stop();
  }

  async setFile(path: string | undefined): Promise<void> {
    if (path !== undefined && this.file !== undefined) return this.file.setPath(path);
    this.stop();
    this.file = path === undefined ? undefined : this.open(path);
    await (this.file === undefined ? this.useBundled() : this.file.tryLoad());
  }

  setInterval(intervalS: number): void {
    this.intervalS = intervalS;
    this.file?.setInterval(intervalS);
  }

  private open(path: string): ReloadedFile {
    const opened = new ReloadedFile({
      path,
      intervalS: this.intervalS,
      apply: async (content, file) => {
        const next = await this.parse(content, file);
        // The setting may have changed while the file was read.
        if (this.file === opened) this.loaded = next;
      },
      failed: (error, file) =>
        this.log.error(`ACL file ${file} cannot be used, the rules stay as they were`, {
          reason: error.message,
        }),
    });
    return opened;
  }

  private async useBundled(): Promise<void> {
    const { rules } = await readRules(BUNDLED_RULES, this.topicMaxDepth);
    this.loaded = { rules, file: BUNDLED_NAME, isOpen: true };
    this.log.warn(
      "no vmq_acl.acl_file is set: every client may publish and subscribe to everything but write $SYS",
    );
  }

  private async parse(content: Buffer, file: string): Promise<Loaded> {
    const { rules, faults } = await readRules(content.toString(), this.topicMaxDepth);
    logFaults(this.log, file, faults);
    // Most likely another kind of file; one without rules, but also without faults, is somebody's will.
    if (rules.size === 0 && faults.length > 0) {
      throw new Error(`no usable line, ${faults.length} lines skipped`);
    }
    this.log.info("ACL file loaded", { file, rules: rules.size });
    return { rules, file, isOpen: false };
  }
}

async function readRules(
  text: string,
  topicMaxDepth: number,
): Promise<{ rules: AclRules; faults: LineFault[] }> {
  const rules = new AclRules();
  const faults: LineFault[] = [];
  let count = 0;
  for (const line of parseAcl(text, topicMaxDepth)) {
    if (line.type === "rule") rules.add(line.rule);
    else faults.push(line.fault);
    count += 1;
    if (count % LINES_PER_TURN === 0) await setImmediate();
  }
  return { rules, faults };
}

function askerOf(username: string | undefined, { client_id, mountpoint }: SubscriberId): Asker {
  return { username, clientId: client_id, mountpoint };
}

function logFaults(log: PluginLog, file: string, faults: readonly LineFault[]): void {
  for (const { line, reason } of faults.slice(0, FAULTS_LOGGED_MAX)) {
    log.warn(`${file}:${line}: ${reason}; the line is skipped`);
  }
  const more = faults.length - FAULTS_LOGGED_MAX;
  if (more > 0) log.warn(`${file}: ${more} more lines were skipped`);
}

/** Rules by the broker they are for. */
const running = new WeakMap<PluginContext, AclPlugin>();

function runningOf(context: PluginContext): AclPlugin {
  const acl = running.get(context);
  if (acl === undefined) throw new Error("vmq_acl does not run");
  return acl;
}

/** The file to read: what is set, else the default one if it is there, else none. */
function fileOf(context: PluginContext, written: unknown): string | undefined {
  if (written === "" || written === undefined) return undefined;
  const path = context.resolvePath(String(written));
  return context.isSet("acl_file") || existsSync(path) ? path : undefined;
}

/** The bundled rules refuse nothing that reaches a hook: a client never publishes to `$SYS`. */
function tellSettled(context: PluginContext, path: string | undefined): void {
  const hooks = [
    "auth_on_publish",
    "auth_on_publish_m5",
    "auth_on_subscribe",
    "auth_on_subscribe_m5",
  ] as const;
  const isOpen = path === undefined;
  context.settlesAll(isOpen ? hooks : [], "allows everything while vmq_acl.acl_file is not set");
}

async function configure(context: PluginContext, key: string, value: unknown): Promise<void> {
  const acl = runningOf(context);
  if (key === "vmq_acl.acl_reload_interval") acl.setInterval(Number(value));
  if (key !== "vmq_acl.acl_file") return;
  const path = fileOf(context, value);
  tellSettled(context, path);
  await acl.setFile(path);
}

/** `vmq-admin acl test`: which line decides. */
function test(acl: AclPlugin, args: ReadonlyMap<string, string>): string {
  const access = args.get("access") ?? "write";
  const topic = args.get("topic");
  if (topic === undefined || topic === "") throw new Error("topic is missing");
  if (access !== "read" && access !== "write") throw new Error("access is read or write");
  const { verdict, file, line, text } = acl.explain({
    access,
    topic,
    username: args.get("username"),
    clientId: args.get("client_id") ?? args.get("client-id") ?? "",
    mountpoint: args.get("mountpoint") ?? "",
  });
  return verdict === "ok"
    ? `ok: ${file}:${line}: ${text}\n`
    : `next: no line of ${file} allows it; another plugin may\n`;
}

export default definePlugin({
  name: "vmq_acl",
  isPipelined: true,
  settings: {
    acl_file: { type: "file", default: "./etc/vmq.acl", live: true, doc: "Path of the ACL file." },
    acl_reload_interval: {
      type: "integer",
      default: "10",
      unit: "s",
      min: 0,
      live: true,
      doc: "Seconds between re-reads of the ACL file; 0 = never.",
    },
  },
  start: async (context) => {
    const aclFile = fileOf(context, context.settings.acl_file);
    const acl = await createAclPlugin({
      aclFile,
      reloadIntervalS: context.settings.acl_reload_interval,
      topicMaxDepth: Number(context.config("topic_max_depth")),
      log: context.log,
    });
    running.set(context, acl);
    tellSettled(context, aclFile);
    context.command({
      path: ["acl", "test"],
      usage: "acl test topic=T [access=write|read] [username=U] [client_id=C] [mountpoint=MP]",
      help: "which line of the ACL file allows a publish (write) or subscribe (read)",
      run: (args) => test(acl, args),
    });
  },
  hooks: (context) => ({
    ...runningOf(context).plugin.hooks,
    change_config: async ({ settings }) => {
      for (const { key, value } of settings) await configure(context, key, value);
    },
  }),
  stop: (context) => runningOf(context).stop(),
});
