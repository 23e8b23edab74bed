// A chart over time as SVG: its colours are those of the style sheet. Slices of time stand side by side, also where time was left out.

import { clock } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 160;
const [TOP, BOTTOM, RIGHT] = [8, 24, 10];
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800];

function svg(tag, props, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Steps that a person can read, from 0 to beyond the highest value. */
function ticksTo(most) {
  if (!most) return [0, 1];
  const rough = most / 3;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * size).find((one) => one >= rough * 0.999);
  const ticks = [];
  for (let at = 0; at <= Math.ceil(most / step - 0.05); at++) ticks.push(at * step);
  return ticks;
}

export class Plot {
  /** told(value): a value beside the axis. series: [name, tone, dashed] each. area: the first one is filled. */
  constructor({ told, series, area, read }) {
    Object.assign(this, { told, series, area, read });
    this.at = null;
    this.node = svg("svg", { "aria-hidden": "true", focusable: "false", height: HEIGHT });
    this.node.addEventListener("pointermove", (event) => this.point(this.#under(event)));
    this.node.addEventListener("pointerleave", () => this.point(null));
  }

  /** x: begins of the slices; firsts: those slices before which time was left out. */
  draw(x, values, firsts, width) {
    Object.assign(this, { x, values, firsts, width });
    const most = Math.max(0, ...values.flat().filter((value) => value !== null));
    const ticks = ticksTo(most);
    const labels = ticks.map(this.told);
    this.left = 12 + 6.6 * Math.max(3, ...labels.map((label) => label.length));
    this.top = ticks.at(-1);
    const line = (tick, label) => svg("g", {}, svg("line", { class: "grid", x1: this.left, x2: width - RIGHT, y1: this.#y(tick), y2: this.#y(tick) }),
      svg("text", { class: "tick", x: this.left - 6, y: this.#y(tick) + 4, "text-anchor": "end" }, label));
    this.cursor = svg("g", { class: "cursor" });
    this.node.setAttribute("width", width);
    this.node.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.node.replaceChildren(
      ...ticks.map((tick, at) => line(tick, labels[at])),
      ...this.#times(),
      ...firsts.map((first) => svg("line", { class: "left-out", x1: this.#x(first - 0.5), x2: this.#x(first - 0.5), y1: TOP, y2: HEIGHT - BOTTOM })),
      ...this.series.flatMap((one, at) => this.#curve(one, values[at], this.area && at === 0)),
      this.cursor);
    this.point(this.at === null ? null : Math.min(this.at, x.length - 1));
  }

  #x(at) {
    const room = this.width - this.left - RIGHT;
    return this.left + (this.x.length < 2 ? room / 2 : (room * at) / (this.x.length - 1));
  }

  #y(value) {
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / this.top);
  }

  #curve([, tone, dashed], values, filled) {
    let path = "";
    let fill = "";
    const parts = [];
    const dots = [];
    for (let at = 0; at <= values.length; at++) {
      const breaks = at === values.length || values[at] === null || this.firsts.includes(at);
      if (breaks && path) {
        const first = Number(path.slice(1).split(",")[0]);
        if (path.indexOf("L") < 0) dots.push(svg("circle", { class: `dot-${tone}`, cx: first, cy: path.split(",")[1], r: 2.5 }));
        parts.push(path);
        fill += `${path}L${this.#x(at - 1).toFixed(1)},${this.#y(0)}L${first},${this.#y(0)}Z`;
        path = "";
      }
      if (at < values.length && values[at] !== null) path += `${path ? "L" : "M"}${this.#x(at).toFixed(1)},${this.#y(values[at]).toFixed(1)}`;
    }
    const made = [svg("path", { class: `curve line-${tone}${dashed ? " dashed" : ""}`, d: parts.join("") }), ...dots];
    return filled ? [svg("path", { class: `filled fill-${tone}`, d: fill }), ...made] : made;
  }

  // The slices at round times in the zone of the viewer, as many as there is room for.
  #times() {
    const { x } = this;
    const room = Math.max(2, Math.floor((this.width - this.left) / 76));
    const shift = new Date(x[0] * 1000).getTimezoneOffset() * 60;
    const day = (at) => new Date(x[at] * 1000).toLocaleDateString("en-GB", { day: "numeric", month: "short" });
    let shown = day(0) === day(x.length - 1) ? day(0) : null;
    let found = [];
    for (const step of STEPS_S) {
      const part = (at) => Math.floor((x[at] - shift) / step);
      found = x.map((_, at) => at).filter((at) => (at ? part(at) !== part(at - 1) : !shown || (x[0] - shift) % step === 0));
      this.step = step;
      if (found.length <= room) break;
    }
    if (!found.length) found = [0];
    let free = 0;
    return found.flatMap((at) => {
      // of several days, the first label of each names it
      const text = this.step >= 86400 ? day(at) : `${day(at) === shown ? "" : `${day(at)} `}${clock(x[at], { second: this.step < 60, now: x[at] * 1000 })}`;
      const half = 3.4 * text.length;
      const middle = Math.min(this.width - half - 2, Math.max(half + 2, this.#x(at)));
      if (middle - half < free) return [];
      free = middle + half + 10;
      shown = day(at);
      return [svg("text", { class: "tick", x: middle, y: HEIGHT - 6, "text-anchor": "middle" }, text)];
    });
  }

  #under(event) {
    const at = (event.offsetX - this.left) / (this.width - this.left - RIGHT);
    return Math.min(this.x.length - 1, Math.max(0, Math.round(at * (this.x.length - 1))));
  }

  /** Read the values of one slice; null: of none. */
  point(at) {
    this.at = at;
    this.read(at);
    if (at === null || !this.x) {
      this.cursor?.replaceChildren();
      return;
    }
    const x = this.#x(at);
    this.cursor.replaceChildren(svg("line", { x1: x, x2: x, y1: TOP, y2: HEIGHT - BOTTOM }),
      ...this.series.flatMap(([, tone], one) => (this.values[one][at] === null ? [] : [svg("circle", { class: `dot-${tone}`, cx: x, cy: this.#y(this.values[one][at]), r: 3.5 })])));
  }

  /** Read with the keyboard. Returns true for a key that is used. */
  key(key) {
    const last = this.x.length - 1;
    const { at } = this;
    const steps = { ArrowRight: at === null ? 0 : at + 1, ArrowLeft: at === null ? last : at - 1, Home: 0, End: last };
    if (key === "Escape") this.point(null);
    else if (key in steps) this.point(Math.min(last, Math.max(0, steps[key])));
    else return false;
    return true;
  }
}
