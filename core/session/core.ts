import type { Cluster } from "../cluster/types.ts";
import type { Counters } from "../counters.ts";
import type { HookRegistry } from "../hooks/registry.ts";
import type { Logger } from "../logger.ts";
import type { Router } from "../routing/router.ts";
import type { Store } from "../store/types.ts";
import type { TimerWheel } from "../timers.ts";
import type { Commits } from "./commits.ts";
import type { SessionManager } from "./manager.ts";
import type { Flusher } from "./outbox.ts";
import type { PublishTimer } from "./publish-timer.ts";
import type { Session } from "./session.ts";
import type { SessionSettings } from "./settings.ts";
import type { TopicCounts } from "./topic-counts.ts";
import type { SessionTracer } from "./tracer.ts";

/** What every session shares; built in broker.ts and handed in. */
export interface Core {
  readonly store: Store;
  readonly cluster: Cluster;
  readonly router: Router;
  readonly hooks: HookRegistry;
  readonly counters: Counters;
  readonly wheel: TimerWheel;
  readonly publishTimer: PublishTimer;
  readonly flusher: Flusher;
  readonly commits: Commits;
  readonly manager: SessionManager;
  /** Connections that are not clients yet. */
  readonly early: Set<Session>;
  readonly log: Logger;
  /** Set while a client is traced. */
  tracer: SessionTracer | undefined;
  /** Set while somebody looks at the busiest topics. */
  topicCounts: TopicCounts | undefined;
  /** Of new sessions; replaced when a live setting changes. */
  settings: SessionSettings;
  random(): number;
  /** Wall-clock ms since the epoch. */
  wallMs(): number;
}
