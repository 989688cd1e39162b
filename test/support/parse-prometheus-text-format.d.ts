declare module "parse-prometheus-text-format" {
  /** A metric with its samples; the library has no types of its own. */
  interface Family {
    readonly name: string;
    readonly help: string;
    readonly type: "COUNTER" | "GAUGE" | "HISTOGRAM" | "SUMMARY" | "UNTYPED";
    readonly metrics: readonly object[];
  }
  export default function parse(text: string): Family[];
}
