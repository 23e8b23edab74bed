// The list of the runs of the store.

import { get } from "./api.js";
import { href, lives, onDraw, onFrame } from "./app.js";
import { brief, el, mark, place, sentence, time, visible, write } from "./dom.js";
import { facts } from "./facts.js";
import { ago, base, clock, duration, money, number, percent } from "./format.js";

const AGAIN_MS = 10000;

export class Runs {
  title = "Runs";
  #rows = new Map();
  #timer = null;

  constructor() {
    this.body = el("tbody");
    this.table = el("table", { class: "runs" },
      el("caption", { class: "unseen" }, "The runs of this store, those that are running first"),
      el("thead", {}, el("tr", {}, ["Run", "State", "Progress", "Done", "Failed", "Cost", "Model", "Started"].map((name, at) =>
        el("th", { scope: "col", class: at === 3 || at === 4 || at === 5 ? "number" : null }, name)))),
      this.body);
    this.note = el("p", { class: "empty" }, "Loading…");
    this.node = el("div", {}, el("h1", {}, "Runs"), el("div", { class: "scroll card flush", tabindex: "0", role: "group", "aria-label": "Runs" }, this.table), this.note);
    this.table.parentNode.hidden = true;
    this.stops = [onDraw(() => this.draw()), onFrame((kind, run) => this.#hear(kind, run))];
    this.#load();
  }

  #hear(kind, run) {
    if (["runs", "finished", "gone"].includes(kind) || (run !== null && !this.#rows.has(run))) this.#soon(300);
  }

  #soon(wait) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#load(), wait);
  }

  async #load() {
    try {
      this.runs = await get("/api/runs");
      this.error = null;
    } catch (error) {
      this.error = error.message;
    }
    if (this.closed) return;
    this.draw();
    // sums of large runs take their time, and come one after the other
    this.#soon(this.runs?.some((run) => run.cost === undefined) ? 1000 : AGAIN_MS);
  }

  draw() {
    if (!this.runs) {
      write(this.note, this.error ? sentence(this.error) : "Loading…");
      return;
    }
    const active = (run) => Boolean(lives.get(run.id)?.known && !lives.get(run.id).finished && !lives.get(run.id).gone) || run.active;
    const sorted = [...this.runs].sort((one, two) => active(two) - active(one) || two.id - one.id);
    for (const run of sorted) if (!this.#rows.has(run.id)) this.#rows.set(run.id, new Line(run.id));
    for (const run of sorted) this.#rows.get(run.id).draw(run);
    place(this.body, sorted.map((run) => this.#rows.get(run.id).node));
    this.table.parentNode.hidden = !sorted.length;
    this.note.hidden = sorted.length > 0 && !this.error;
    place(this.note, this.error ? [sentence(this.error)] : sorted.length ? [] : ["There is no run in this store yet. ", el("code", {}, "runner run FILE"), " starts one, and it is shown here."]);
  }

  close() {
    this.closed = true;
    clearTimeout(this.#timer);
    for (const stop of this.stops) stop();
  }
}

class Line {
  constructor(id) {
    this.name = el("a", { href: href(id) });
    this.file = el("div", { class: "soft file" });
    this.state = el("span", { class: "state" });
    this.bar = new Bar();
    this.share = el("span", { class: "soft" });
    this.cells = ["done", "failed", "cost"].map((name) => el("td", { class: "number", "data-name": name }));
    this.model = el("td", { class: "model" });
    this.started = el("td", {});
    this.node = el("tr", {}, el("th", { scope: "row" }, this.name, this.file), el("td", {}, this.state), el("td", { class: "progress-cell" }, this.bar.node, this.share), this.cells, this.model, this.started);
  }

  draw(run) {
    const now = facts(run, null, lives.get(run.id));
    write(this.name, `${run.id}${run.name ? ` · ${brief(run.name, 60)}` : ""}`);
    write(this.file, brief(base(run.input), 80));
    mark(this.file, "title", visible(run.input));
    write(this.state, now.word);
    mark(this.state, "class", `state ${now.tone}`);
    this.bar.draw(now);
    write(this.share, `${percent(now.done + now.failed, now.wanted)} of ${number(now.wanted)}${now.leftS ? `, ${duration(now.leftS)} left` : ""}`);
    for (const [at, text] of [number(now.done), number(now.failed), now.cost === null && run.cost === undefined ? "…" : money(now.cost)].entries()) write(this.cells[at], text);
    mark(this.cells[1], "class", `number${now.failed ? " failed" : ""}`);
    mark(this.cells[2], "class", `number${now.cost === null ? " soft" : ""}`);
    write(this.model, brief(run.settings?.model ?? "", 40));
    const started = `${clock(run.created_at, { second: false })}`;
    if (this.at !== run.created_at) {
      this.at = run.created_at;
      place(this.started, [time(run.created_at, started), el("div", { class: "soft" })]);
    }
    write(this.started.lastChild, ago(run.created_at));
  }
}

/** A bar of rows that are done, failed, in flight and left. Its figures stand beside it. */
export class Bar {
  constructor() {
    this.parts = ["done", "failed", "open"].map((name) => el("i", { class: name }));
    this.node = el("div", { class: "bar", "aria-hidden": "true" }, this.parts);
  }

  draw({ done, failed, inFlight, wanted }) {
    const all = Math.max(1, wanted, done + failed);
    const open = Math.min(inFlight, Math.max(0, all - done - failed));
    for (const [at, count] of [done, failed, open].entries()) this.parts[at].style.width = `${(100 * count) / all}%`;
  }
}
