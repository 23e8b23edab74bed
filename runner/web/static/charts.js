// Charts over time, each with a table of the same figures.

import { el, place, time, write } from "./dom.js";
import { clock, digits, duration, money, short } from "./format.js";
import { Plot } from "./plot.js";

// rows of a table: the newest ones
const ROWS = 200;

const UNITS = {
  count: { axis: short, told: digits },
  seconds: { axis: (value) => duration(value), told: duration },
  dollars: { axis: (value) => (value === 0 ? "$0" : money(value)), told: money },
};

const KINDS = [
  { name: "throughput", title: "Answers a minute", unit: "count", style: "area", series: [["answers", "done"], ["failed attempts", "failed"]] },
  { name: "flight", title: "In flight, against the limit", unit: "count", style: "area", series: [["in flight", "accent"], ["limit", "soft", true]] },
  { name: "first", title: "Time to first token", unit: "seconds", style: "line", series: [["median", "accent"], ["95th percentile", "four"]] },
  { name: "refused", title: "Refusals for a limit, a minute", unit: "count", style: "area", series: [["refused", "wait"]] },
  { name: "money", title: "Money spent", unit: "dollars", style: "area", series: [["spent", "accent"]] },
];

/** The figures of the server as series: {x: [...], throughput: [[...], [...]], ...}; null is a gap. */
export function seriesOf(figures) {
  const slices = figures?.slices ?? [];
  const minute = figures?.width ? 60 / figures.width : 1;
  const of = (name, factor = 1) => slices.map((one) => (one[name] === null || one[name] === undefined ? null : one[name] * factor));
  let sum = 0;
  const spent = slices.map((one) => (one.cost === null || one.cost === undefined ? null : (sum += one.cost)));
  return {
    x: slices.map((one) => one.begin),
    firsts: (figures?.periods ?? []).map((one) => one.first ?? one[2]).filter((first) => first > 0),
    throughput: [of("answers", minute), of("failed", minute)],
    flight: [of("in_flight"), of("limit")],
    first: [of("first_token_p50_s"), of("first_token_p95_s")],
    refused: [of("refused", minute)],
    money: [sum > 0 || slices.some((one) => one.cost > 0) ? spent : spent.map(() => null)],
  };
}

export class Charts {
  constructor() {
    this.charts = KINDS.map((kind) => new Chart(kind));
    this.empty = el("p", { class: "empty" }, "Nothing has been sent yet.");
    this.grid = el("div", { class: "charts", hidden: true }, this.charts.map((chart) => chart.node));
    this.node = el("section", { "aria-labelledby": "charts-title" }, el("h2", { id: "charts-title" }, "Over time"), this.empty, this.grid);
    this.sizes = new ResizeObserver(() => this.charts.forEach((chart) => chart.fit()));
    this.sizes.observe(this.grid);
  }

  draw(figures) {
    const series = seriesOf(figures);
    const some = series.x.length > 0;
    this.empty.hidden = some;
    this.grid.hidden = !some;
    if (some) for (const chart of this.charts) chart.draw(series.x, series[chart.kind.name], series.firsts);
  }

  close() {
    this.sizes.disconnect();
  }
}

class Chart {
  constructor(kind) {
    this.kind = kind;
    this.unit = UNITS[kind.unit];
    this.plot = new Plot({ told: this.unit.axis, series: kind.series, area: kind.style === "area", read: (at) => this.#read(at) });
    this.place = el("div", {
      class: "plot", tabindex: "0", role: "group", "aria-label": `${kind.title}: a chart. The arrow keys read its values.`, "aria-roledescription": "chart",
      onkeydown: (event) => { if (this.plot.key(event.key)) event.preventDefault(); }, onblur: () => this.plot.point(null),
    }, this.plot.node);
    this.readout = el("p", { class: "readout soft", "aria-live": "polite" });
    this.none = el("p", { class: "empty", hidden: true }, kind.name === "money" ? "No price is known, or nothing was spent." : "Not measured.");
    this.body = el("tbody");
    this.details = el("details", { ontoggle: () => this.#table() }, el("summary", {}, "Table", el("span", { class: "unseen" }, `: ${kind.title}`)), el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": kind.title },
      el("table", {}, el("caption", { class: "unseen" }, kind.title), el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Time"), kind.series.map(([name]) => el("th", { scope: "col", class: "number" }, name)))), this.body)));
    const legend = kind.series.length > 1 ? el("p", { class: "legend" }, kind.series.map(([name, tone]) => el("span", {}, el("span", { class: `dot ${tone}`, "aria-hidden": "true" }), name))) : null;
    this.node = el("figure", { class: "card chart", "data-chart": kind.name }, el("figcaption", { class: "title" }, el("h3", {}, kind.title), legend), this.place, this.none, this.readout, this.details);
  }

  draw(x, values, firsts) {
    const some = values.some((one) => one.some((value) => value !== null));
    this.none.hidden = some;
    for (const part of [this.place, this.readout, this.details]) part.hidden = !some;
    this.data = some ? { x, values, firsts } : null;
    if (some) this.fit(true);
    this.#table();
  }

  /** Draw it as wide as there is room. */
  fit(anew = false) {
    const width = Math.floor(this.place.clientWidth);
    if (this.data && width && (anew || width !== this.plot.width)) this.plot.draw(this.data.x, this.data.values, this.data.firsts, width);
  }

  #told(value) {
    return value === null ? "–" : this.unit.told(value);
  }

  #read(at) {
    write(this.readout, at === null || !this.data ? "" : `${clock(this.data.x[at])}: ${this.kind.series.map(([name], one) => `${name} ${this.#told(this.data.values[one][at])}`).join(", ")}`);
  }

  #table() {
    if (!this.details.open || !this.data) return;
    const { x, values } = this.data;
    const newest = x.map((_, at) => x.length - 1 - at).slice(0, ROWS);
    place(this.body, newest.map((at) => el("tr", {}, el("th", { scope: "row" }, time(x[at], clock(x[at]))), values.map((one) => el("td", { class: "number" }, this.#told(one[at]))))));
  }
}
