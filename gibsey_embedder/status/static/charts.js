// The last 15 minutes as charts (uPlot); samples outlive a restart of the worker while the page is open.

import { make, put } from "./dom.js";
import * as format from "./format.js";

const KEPT_S = 900;
const LEAST_S = 120;
const HEIGHT = 150;
const GAP_S = 8; // samples further apart than this are not joined

const CHARTS = [
  {
    title: "Pages",
    unit: "a second",
    show: format.rate,
    series: [
      ["settled_per_s", "settled", "--c2"],
      ["upserts_per_s", "written", "--c1"],
    ],
  },
  {
    title: "Freshness",
    unit: "marks 2 s, 5 s",
    show: format.seconds,
    log: true,
    marks: [2, 5],
    series: [
      ["freshness_p95_s", "p95", "--c1"],
      ["freshness_p50_s", "p50", "--c2"],
    ],
  },
  {
    title: "Lag",
    unit: "events",
    show: format.count,
    least: 10,
    series: [
      ["lag", "lag", "--c1"],
      ["open_pages", "open", "--c2"],
    ],
  },
  {
    title: "Processor",
    unit: "share of a core",
    show: format.percent,
    least: 0.05,
    series: [["cpu_share", "worker", "--c1"]],
  },
];

export class Charts {
  constructor(place) {
    this.rows = [];
    this.plots = CHARTS.map((spec) => makeChart(place, spec));
    new ResizeObserver(() => this.fit()).observe(place);
  }

  /** The time of the newest sample, in seconds since 1970; 0 without any. */
  get newest() {
    return this.rows.at(-1)?.at ?? 0;
  }

  /** Add columns as /status.json gives them. */
  add(columns, now) {
    const names = Object.keys(columns);
    columns.at.forEach((at, index) => {
      if (at - this.newest > GAP_S && this.rows.length) this.rows.push({ at: this.newest + 1 });
      this.rows.push(Object.fromEntries(names.map((name) => [name, columns[name][index]])));
    });
    this.rows = this.rows.filter(({ at }) => at > now - KEPT_S);
    for (const plot of this.plots) plot.show(this.rows, now);
  }

  /** Draw again in other colours. */
  redraw() {
    for (const { plot } of this.plots) plot.redraw(false, true);
  }

  fit() {
    for (const { plot, panel } of this.plots) {
      const width = panel.clientWidth;
      if (width && width !== plot.width) plot.setSize({ width, height: HEIGHT });
    }
  }
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function makeChart(place, spec) {
  const card = make("figure", "card chart");
  const head = make("figcaption");
  head.append(make("b", "", spec.title), make("small", "", spec.unit));
  const keys = spec.series.map(([, name, paint]) => makeKey(head, name, paint));
  const panel = make("div", "plot");
  panel.setAttribute("aria-hidden", "true"); // its newest values are in the caption
  card.append(head, panel);
  place.append(card);
  const readOut = (plot) => {
    const index = plot.cursor.idx ?? plot.data[0].length - 1;
    keys.forEach((key, n) => put(key, format.text(spec.show(plot.data[n + 1][index]))));
  };
  const plot = new uPlot(options(spec, readOut), emptyData(spec), panel);
  const show = (rows, now) => {
    const data = [rows.map(({ at }) => at)];
    for (const [name] of spec.series) data.push(rows.map((row) => row[name] ?? null));
    plot.setData(data, false);
    const begun = Math.min(rows[0]?.at ?? now, now - LEAST_S); // a young worker fills the width, too
    plot.setScale("x", { min: Math.max(begun, now - KEPT_S), max: now });
    readOut(plot);
  };
  return { plot, panel, show };
}

function emptyData(spec) {
  return [[], ...spec.series.map(() => [])];
}

function makeKey(head, name, paint) {
  const key = make("span", `key ${paint.slice(2)}`);
  const value = make("b", "", "–");
  key.append(make("span", "swatch"), `${name} `, value);
  head.append(key);
  return value;
}

function options(spec, readOut) {
  const axis = { stroke: () => colour("--muted"), font: "11px system-ui", grid: grid(), ticks: { show: false } };
  return {
    width: 400,
    height: HEIGHT,
    padding: [8, 8, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: "history" }, y: false, drag: { x: false, y: false }, points: { size: 6 } },
    scales: { x: { time: true }, y: spec.log ? logScale() : linearScale(spec.least ?? 1) },
    axes: [
      { ...axis, space: 70, size: 26, values: timeNames },
      { ...axis, size: 58, space: 28, ...(spec.log && { splits: decades }), values: (_, values) => values.map((v) => (v == null ? "" : spec.show(v))) },
    ],
    series: [{}, ...spec.series.map(([, , paint]) => line(paint, !spec.log && paint === "--c1"))],
    hooks: { setCursor: [readOut], drawClear: spec.marks ? [(plot) => drawMarks(plot, spec.marks)] : [] },
  };
}

/** Times of day; with seconds, where minutes would repeat. */
function timeNames(plot, times) {
  const { min, max } = plot.scales.x;
  return times.map((t) => format.clock(t).slice(0, max - min < 300 ? 8 : 5));
}

function grid() {
  return { stroke: () => colour("--line"), width: 1 };
}

function linearScale(least) {
  return { range: (_, low, high) => [0, Math.max(high ?? 0, least) * 1.15] };
}

function logScale() {
  return { distr: 3, range: (_, low, high) => [Math.min(0.01, decade(low ?? 0.01, Math.floor)), Math.max(10, decade(high ?? 10, Math.ceil))] };
}

/** The powers of ten in a range. */
function decades(plot) {
  const { min, max } = plot.scales.y;
  const found = [];
  for (let power = Math.round(Math.log10(min)); 10 ** power <= max * 1.001; power += 1) found.push(10 ** power);
  return found;
}

function decade(value, round) {
  return value > 0 ? 10 ** round(Math.log10(value)) : 0.01;
}

function line(paint, filled) {
  return {
    stroke: () => colour(paint),
    fill: filled ? () => `${colour(paint)}1c` : undefined,
    width: 1.5,
    points: { show: true, size: 4, filter: alone, fill: () => colour(paint) },
  };
}

/** Only samples without neighbours need a dot: all others are in a line. */
function alone(plot, series, show) {
  if (!show) return [];
  const values = plot.data[series];
  return [...values.keys()].filter((n) => values[n] != null && values[n - 1] == null && values[n + 1] == null);
}

function drawMarks(plot, marks) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.setLineDash([4, 4]);
  ctx.lineWidth = devicePixelRatio;
  marks.forEach((mark, n) => {
    const y = Math.round(plot.valToPos(mark, "y", true));
    ctx.strokeStyle = colour(n ? "--bad" : "--warn");
    ctx.beginPath();
    ctx.moveTo(bbox.left, y);
    ctx.lineTo(bbox.left + bbox.width, y);
    ctx.stroke();
  });
  ctx.restore();
}
