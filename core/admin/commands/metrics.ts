import { type Call, type Command, flagValue, hasFlag, isBoolean } from "../command.ts";
import { DONE, text } from "../elements.ts";
import { HISTOGRAM_HELP, METRIC_TABLE } from "../metric-table.ts";
import { collectHistograms, collectSeries, histogramPoints, type Series } from "../metrics.ts";
import type { HistogramSeries } from "../prometheus.ts";
import type { AdminTarget } from "../target.ts";

/** Labels that a series may have, with what they mean. */
const LABELS: Readonly<Record<string, string>> = {
  mqtt_version: "4 (3.1 and 3.1.1) or 5",
  reason_code: "reason code of MQTT 5, such as not_authorized",
  return_code: "return code of CONNACK in MQTT 3, such as success",
  plugin: "plugin of a hook",
  hook: "hook of a plugin",
  group: "label of a plugin's metric",
};

/** `vmq-admin metrics ...` */
export function metricsCommands(target: AdminTarget): Command[] {
  return [
    {
      path: ["metrics", "show"],
      help: "shows counters, gauges and histograms, one a line",
      details: "Series of one name are added up. Given several labels, all must match.",
      flags: [
        { name: "with-descriptions", short: "d", help: "with a line about each" },
        {
          name: "aggregate",
          short: "a",
          value: "true|false",
          help: "false: every series by itself",
          isValid: isBoolean,
        },
        ...Object.entries(LABELS).map(([name, help]) => ({ name, value: "Value", help })),
      ],
      run: (call) => [text(shown(target, call))],
    },
    {
      path: ["metrics", "reset"],
      help: "sets the broker's counters to 0; gauges and values of the system stay",
      run: () => {
        target.core.counters.reset();
        return DONE;
      },
    },
  ];
}

interface Line {
  readonly type: string;
  readonly name: string;
  readonly help: string;
  readonly values: readonly (readonly [name: string, value: number])[];
}

function shown(target: AdminTarget, call: Call): string {
  const isAggregate = flagValue(call, "aggregate") !== "false";
  const isDescribed = hasFlag(call, "with-descriptions");
  const sources = target.metricSources();
  const series = collectSeries(sources).filter((one) => hasLabels(one, call));
  const lines = [
    ...(isAggregate ? totals(series) : series).map(lineOf),
    ...collectHistograms(sources)
      .filter((one) => hasLabels(one, call))
      .map(histogramLine),
  ];
  return lines
    .map(({ type, help, values }) => {
      const shownValues = values.map(([name, value]) => `${type}.${name} = ${value}\n`).join("");
      return isDescribed ? `# ${help}\n${shownValues}\n` : shownValues;
    })
    .join("");
}

function hasLabels({ labels }: Pick<Series, "labels">, { flags }: Call): boolean {
  return flags.every(({ name, value }) => !(name in LABELS) || labels[name] === value);
}

function totals(series: readonly Series[]): Series[] {
  const byName = new Map<string, Series>();
  for (const one of series) {
    const other = byName.get(one.name);
    byName.set(one.name, other === undefined ? one : { ...one, value: one.value + other.value });
  }
  return [...byName.values()];
}

function lineOf({ name, value, type }: Series): Line {
  const row = METRIC_TABLE[name] ?? { type: type ?? "counter", help: "Metric of a plugin." };
  return { type: row.type, name, help: row.help, values: [[name, Math.round(value)]] };
}

function histogramLine({ name, labels, histogram }: HistogramSeries): Line {
  const full = [name, ...Object.values(labels)].join("_");
  const values = histogramPoints(histogram).map(([suffix, value]): [string, number] => [
    `${full}_${suffix === "bucket_inf" ? "bucket_infinity" : suffix}`,
    value,
  ]);
  return { type: "histogram", name: full, help: HISTOGRAM_HELP[name] ?? "", values };
}
