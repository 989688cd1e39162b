/** What a bridge counts; read when somebody asks for metrics. */
export class BridgeCounters {
  /** First sends by QoS; index 3 is never used. */
  readonly out: [number, number, number, number] = [0, 0, 0, 0];
  /** Messages handed to this broker by QoS. */
  readonly in: [number, number, number, number] = [0, 0, 0, 0];
  /** Connections made. */
  connects = 0;
  /** Messages that the remote broker does not take. */
  refused = 0;
  /** Messages that came around. */
  loops = 0;
}
