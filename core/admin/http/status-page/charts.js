import { bytesText, numberText } from "./model.js";
import uPlot from "./uPlot.esm.js";

const HEIGHT = 160;

/** One chart: a title, and one or two lines of the history. */
const CHARTS = [
  { title: "Connections", unit: numberText, lines: [["connections", "connected"]] },
  {
    title: "Messages a second",
    unit: numberText,
    lines: [
      ["in", "in"],
      ["out", "out"],
    ],
  },
  {
    title: "Bytes a second",
    unit: bytesText,
    lines: [
      ["bytesIn", "in"],
      ["bytesOut", "out"],
    ],
  },
  {
    title: "Trouble a second",
    unit: numberText,
    lines: [
      ["drops", "messages dropped"],
      ["failures", "hook calls failed"],
    ],
  },
];

/** The charts of a history; captions say the latest values in words. */
export class Charts {
  constructor(container, history) {
    this.history = history;
    this.charts = CHARTS.map((chart) => this.build(container, chart));
    new ResizeObserver(() => this.resize()).observe(container);
  }

  build(container, chart) {
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    const place = document.createElement("div");
    place.className = "plot";
    place.setAttribute("role", "img");
    figure.append(caption, place);
    container.append(figure);
    return { ...chart, caption, place, plot: undefined };
  }

  /** Draws anew: the colours may have changed. */
  restyle() {
    for (const chart of this.charts) {
      chart.plot?.destroy();
      chart.plot = undefined;
    }
    this.update();
  }

  resize() {
    for (const { plot, place } of this.charts) {
      plot?.setSize({ width: place.clientWidth, height: HEIGHT });
    }
  }

  update() {
    for (const chart of this.charts) {
      const data = [this.history.times, ...chart.lines.map(([name]) => this.history.series[name])];
      this.describe(chart);
      if (chart.plot === undefined) chart.plot = new uPlot(optionsOf(chart), data, chart.place);
      else chart.plot.setData(data);
    }
  }

  describe({ title, unit, lines, caption, place }) {
    const parts = lines.map(([name, label], i) => {
      const part = document.createElement("span");
      part.className = i === 0 ? "first" : "second";
      part.textContent = `${label} ${unit(this.history.latest(name))}`;
      return part;
    });
    caption.replaceChildren(`${title}: `, ...parts.flatMap((part) => [part, " "]));
    place.setAttribute("aria-label", `Chart of the last five minutes. ${caption.textContent}`);
  }
}

function optionsOf({ lines, unit, place }) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour("--faint"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { stroke: colour("--line"), width: 1 },
  };
  return {
    width: Math.max(place.clientWidth, 100),
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    scales: { y: { range: (_, __, max) => [0, max > 0 ? max * 1.1 : 1] } },
    axes: [axis, { ...axis, size: 64, values: (_, ticks) => ticks.map((tick) => unit(tick)) }],
    series: [
      {},
      ...lines.map(([, label], i) => ({
        label,
        stroke: colour(i === 0 ? "--first" : "--second"),
        width: 2,
        points: { show: false },
      })),
    ],
  };
}
