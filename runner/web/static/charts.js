// Charts over time, each with a table of the same figures.

import { el, place, time, write } from "./dom.js";
import { clock, digits, duration, money, short } from "./format.js";
import { Plot } from "./plot.js";

// rows of a table: the newest ones
const ROWS = 200;

// seconds for which a number of requests in flight holds; the session tells it each half second
const HOLDS_S = 2;

const UNITS = {
  count: { axis: short, told: digits },
  seconds: { axis: (value) => (value ? duration(value) : "0 s"), told: duration },
  dollars: { axis: (value) => (value === 0 ? "$0" : money(value)), told: money },
};

const KINDS = [
  { name: "throughput", title: "Answers a minute", unit: "count", style: "area", series: [["answers", "done"], ["failed attempts", "failed"]] },
  { name: "flight", title: "In flight, against the limit", unit: "count", style: "area", series: [["in flight", "accent"], ["limit", "soft", true]] },
  { name: "first", title: "Time to first token", unit: "seconds", style: "line", series: [["median", "accent"], ["95th percentile", "four"]] },
  { name: "refused", title: "Refusals for a limit, a minute", unit: "count", style: "area", series: [["refused", "wait"]] },
  { name: "money", title: "Money spent", unit: "dollars", style: "area", series: [["spent", "accent"]] },
];

// The store counts requests that have ended. While some are open, their time is as the session has told it.
function inFlight(slices, width, live) {
  const known = slices.map((one) => one.in_flight);
  const oldest = Math.min(...[...(live?.answers.values() ?? [])].filter((one) => !one.closed).map((one) => one.since));
  if (!live || oldest === Infinity) return known;
  return slices.map(({ begin }, at) => {
    if (begin + width <= oldest) return known[at];
    const told = live.samples.filter(([when]) => when >= begin && when < begin + width);
    if (told.length) return told.reduce((sum, [, number]) => sum + number, 0) / told.length;
    // between two of them, and behind the last one, it is what was told before
    const before = live.samples.findLast(([when]) => when < begin);
    return before && begin - before[0] < HOLDS_S ? before[1] : null;
  });
}

// The figures of the server as series: {x: [...], throughput: [[...], [...]], ...}; null is a gap.
function seriesOf(figures, live) {
  const { width } = figures;
  const last = figures.slices.at(-1);
  // a slice that is not over has less in it than the others, and would look like a fall
  const slices = live && figures.slices.length > 2 && last.begin + width > Date.now() / 1000 ? figures.slices.slice(0, -1) : figures.slices;
  const minute = 60 / width;
  const of = (name, factor = 1) => slices.map((one) => (one[name] === null || one[name] === undefined ? null : one[name] * factor));
  let sum = 0;
  const spent = slices.map((one) => (one.cost === null || one.cost === undefined ? null : (sum += one.cost)));
  return {
    x: slices.map((one) => one.begin),
    firsts: figures.periods.map(([, , first]) => first).filter((first) => first > 0),
    throughput: [of("answers", minute), of("failed", minute)],
    flight: [inFlight(slices, width, live), of("limit")],
    first: [of("first_token_p50_s"), of("first_token_p95_s")],
    refused: [of("refused", minute)],
    money: [sum > 0 || slices.some((one) => one.cost > 0) ? spent : spent.map(() => null)],
  };
}

export class Charts {
  /** more: a card that stands beside the charts. */
  constructor(more) {
    this.charts = KINDS.map((kind) => new Chart(kind));
    this.empty = el("p", { class: "empty", hidden: true }, "Nothing has been sent.");
    this.left = el("span", { class: "soft", hidden: true }, "Dashed upright lines: time in which nothing was sent is left out.");
    this.grid = el("div", { class: "charts", hidden: true }, this.charts.map((chart) => chart.node), more);
    this.node = el("section", { "aria-labelledby": "charts-title" }, el("div", { class: "title" }, el("h2", { id: "charts-title" }, "Over time"), this.left), this.empty, this.grid);
    this.sizes = new ResizeObserver(() => this.charts.forEach((chart) => chart.fit()));
    this.sizes.observe(this.grid);
  }

  /** figures: those of the server. live: the session, if the run goes on. */
  draw(figures, live) {
    const series = seriesOf(figures, live);
    const some = series.x.length > 0;
    this.empty.hidden = some;
    this.grid.hidden = !some;
    this.left.hidden = series.firsts.length === 0;
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
