// One run, running or not.

import { get, path } from "./api.js";
import { announce, changed, href, lives, onDraw, onFrame } from "./app.js";
import { Answers } from "./answers.js";
import { Ask } from "./ask.js";
import { Charts } from "./charts.js";
import { brief, el, mark, place, sentence, visible, write } from "./dom.js";
import { Errors } from "./errors.js";
import { besideCost, facts } from "./facts.js";
import { ago, base, clock, digits, duration, money, number, percent, plural, short } from "./format.js";
import { History } from "./history.js";
import { Ledger } from "./ledger.js";
import { Rows } from "./rows.js";
import { Bar } from "./runs.js";
import { Controls } from "./steer.js";

// the store is asked again after so long, and at least after ten times as long as it took
const AGAIN_MS = 4000;
// frames behind which the store knows more than the session
const ENDS = ["finished", "gone", "ended"];
const VIEWS = [["overview", "Overview"], ["rows", "Rows"], ["errors", "Errors"], ["history", "History"], ["ask", "Ask"]];

export class Run {
  #timers = new Map();
  #views = new Map();
  #said = null;

  constructor(run) {
    this.run = run;
    this.head = new Head(run);
    this.tabs = VIEWS.map(([view, word]) => el("a", { href: href(run, view) }, word));
    this.problem = el("p", { class: "problem", hidden: true });
    this.view = el("div", { class: "view" });
    this.loading = el("p", { class: "empty" }, "Loading…");
    // nothing is shown, and no button can be pressed, before something is known of the run
    this.known = el("div", { hidden: true }, this.head.node, el("nav", { class: "tabs", "aria-label": "Parts of this run" }, this.tabs), this.view);
    this.node = el("div", {}, this.problem, this.loading, this.known);
    this.stops = [onDraw(() => this.draw()), onFrame((kind, at, data) => { if (at === run) this.#hear(kind, data); })];
    this.#keep("info", async () => { this.info = await get(path(run)); });
    this.#keep("figures", async () => { this.figures = await get(path(run, "/figures")); });
  }

  // What comes from the store, asked again and again while the run goes on.
  async #keep(name, load, { once = false } = {}) {
    clearTimeout(this.#timers.get(name));
    const began = performance.now();
    if (!document.hidden || !this.info) {
      try {
        await load();
        this.error = null;
      } catch (error) {
        this.error = error.message;
        this.status = error.status;
      }
    }
    if (this.closed) return;
    changed();
    const isLive = this.now?.isLive || this.info?.run?.active || this.error;
    if (once || !isLive) { this.#timers.set(name, null); return; }
    this.#timers.set(name, setTimeout(() => this.#keep(name, load), Math.max(AGAIN_MS, 10 * (performance.now() - began))));
  }

  #again() {
    this.#keep("info", async () => { this.info = await get(path(this.run)); });
    this.#keep("figures", async () => { this.figures = await get(path(this.run, "/figures")); });
    this.#views.get("errors")?.load();
  }

  #hear(kind, data) {
    if (ENDS.includes(kind) || (kind === "state" && !this.now?.isLive)) this.#again();
    if (kind === "steered") this.#views.get("history")?.load();
    if (kind === "closed" && data.answers.some((one) => one.error_code)) this.#soonErrors();
  }

  #soonErrors() {
    const errors = this.#views.get("errors");
    if (!errors || this.errorsTimer) return;
    this.errorsTimer = setTimeout(() => { this.errorsTimer = null; if (this.at.view === "errors") errors.load(); }, 3000);
  }

  go(at) {
    this.at = at;
    const known = VIEWS.some(([view]) => view === at.view) ? at.view : "overview";
    this.node.dataset.view = known;
    for (const [place_, [view]] of VIEWS.entries()) mark(this.tabs[place_], "aria-current", view === known ? "page" : null);
    if (this.shown !== known) {
      this.shown = known;
      if (!this.#views.has(known)) this.#views.set(known, this.#make(known));
      else this.#views.get(known).load?.();
      place(this.view, [this.#views.get(known).node]);
    }
    this.#views.get(known).go?.(at);
  }

  #make(view) {
    if (view === "rows") return new Rows(this.run);
    if (view === "errors") return new Errors(this.run);
    if (view === "history") return new History(this.run);
    if (view === "ask") return new Ask(this.run);
    return new Overview(this.run);
  }

  get title() {
    if (!this.now || !this.info && !this.now.isLive) return `Run ${this.run}`;
    return `${percent(this.now.done + this.now.failed, this.now.wanted)} · ${this.now.word} · run ${this.run}`;
  }

  draw() {
    const live = lives.get(this.run);
    // a lost connection is told above
    this.problem.hidden = !this.error || Boolean(this.info && !this.status);
    write(this.problem, this.error ? `${sentence(this.error)}${this.info ? " What is shown is old." : ""}` : "");
    this.now = facts(this.info?.run ?? null, this.info?.books ?? null, live);
    this.loading.hidden = Boolean(this.info || this.error || this.now.isLive);
    if (!this.info && !this.now.isLive) return;
    this.known.hidden = false;
    this.now.time ??= this.info?.time ?? null;
    this.head.draw(this.now, this.info, live);
    this.#views.get(this.shown)?.draw?.(this.now, live, this.info, this.figures);
    if (this.#said !== null && this.#said !== this.now.word) announce(`Run ${this.run} is ${this.now.word}.`);
    this.#said = this.now.word;
  }

  close() {
    this.closed = true;
    for (const timer of this.#timers.values()) clearTimeout(timer);
    clearTimeout(this.errorsTimer);
    for (const stop of this.stops) stop();
    for (const view of this.#views.values()) view.close?.();
  }
}

class Overview {
  constructor(run) {
    this.answers = new Answers(run, () => lives.get(run));
    this.ledger = new Ledger();
    this.charts = new Charts(this.ledger.node);
    this.node = el("div", { class: "stack" }, this.answers.node, this.charts.node);
  }

  draw(now, live, info, figures) {
    if (figures && figures !== this.figures) {
      this.figures = figures;
      this.charts.draw(figures, now.isLive ? live : null);
    }
    this.ledger.draw(now.time);
  }

  close() {
    this.answers.close();
    this.charts.close();
  }
}

/** The run at a glance. */
class Head {
  constructor(run) {
    this.run = run;
    this.state = el("span", { class: "state" });
    this.when = el("span", { class: "soft" });
    this.name = el("h1", {}, `Run ${run}`);
    this.about = el("p", { class: "soft about" });
    this.controls = new Controls(run);
    this.bar = new Bar();
    this.share = el("p", { class: "share" });
    this.reason = el("p", { class: "reason", hidden: true });
    this.why = el("ul", { class: "why", "aria-label": "Why requests wait" });
    this.tiles = Object.fromEntries(["Done", "Failed", "In flight", "Waiting", "Rate", "Time left", "Spent"].map((name) => [name, new Tile(name)]));
    this.node = el("section", { class: "glance", "aria-label": "At a glance" },
      el("div", { class: "glance-head" }, el("div", { class: "grow" }, el("p", { class: "eyebrow" }, this.state, this.when), this.name, this.about), this.controls.node),
      this.bar.node, this.share, this.reason, this.why, el("dl", { class: "tiles" }, Object.values(this.tiles).map((tile) => tile.node)));
  }

  draw(now, info, live) {
    const run = info?.run;
    write(this.state, now.word);
    mark(this.state, "class", `state ${now.tone}`);
    if (run) this.#about(run, info);
    this.bar.draw(now);
    const settled = now.done + now.failed;
    write(this.share, `${number(settled)} of ${number(now.wanted)} rows have an outcome (${percent(settled, now.wanted)}), ${number(now.left)} left`);
    this.reason.hidden = !now.reason && now.state !== "gone";
    write(this.reason, now.state === "gone" ? "The process of this run has ended without a word. What was saved is kept: resume it here, or run the same command again." : now.reason ? `${now.state === "stopping" ? "Stopping" : "Stopped"}${now.reason.startsWith("as asked") ? "" : ":"} ${visible(now.reason)}` : "");
    this.#why(now);
    this.#tiles(now, live);
    this.controls.draw(now);
  }

  #about(run, info) {
    write(this.when, `run ${run.id} · started ${clock(run.created_at, { second: false })}, ${ago(run.created_at)}`);
    if (this.shown === info) return;
    this.shown = info;
    write(this.name, brief(run.name ?? base(run.input), 120));
    mark(this.name, "title", visible(run.input));
    const { settings } = run;
    const parts = [run.name ? base(run.input) : null, settings?.model, settings?.provider, settings?.base_url, run.tags?.length ? run.tags.join(", ") : null];
    write(this.about, parts.filter(Boolean).map((one) => brief(one, 100)).join(" · "));
  }

  #why(now) {
    this.why.hidden = !now.isLive;
    const quiet = now.waitingRows ? `${plural(now.waitingRows, "row")} in line for a free slot.` : "No row waits.";
    const key = now.why.join("\n") || quiet;
    if (key === this.whyKey) return;
    this.whyKey = key;
    // the line stays where nothing waits, so that the page does not move
    place(this.why, now.why.length ? now.why.map((one) => el("li", {}, brief(one, 300))) : [el("li", { class: "soft" }, quiet)]);
  }

  #tiles(now) {
    const { tiles } = this;
    tiles.Done.draw(number(now.done), `${now.wanted ? percent(now.done, now.wanted) : ""}${now.reused ? `, ${number(now.reused)} taken over` : ""}`, "done");
    tiles.Failed.draw(number(now.failed), now.failed ? percent(now.failed, now.wanted) : "", now.failed ? "failed" : "");
    tiles["In flight"].draw(number(now.inFlight), now.slots ? `of ${number(now.slots)}${now.ceiling > now.slots ? `, at most ${number(now.ceiling)}` : ""}` : "");
    tiles.Waiting.draw(number(now.waitingRows), now.why.length ? "see why above" : now.workers ? `${plural(now.workers.live, "worker")} at work` : "rows in line", now.why.length ? "wait" : "");
    tiles.Rate.draw(now.rowsPerS === null ? "–" : `${digits(now.rowsPerS * 60)}/min`, now.tokensPerS === null ? "rows" : `rows; ${short(now.tokensPerS)} tokens/s`);
    tiles["Time left"].draw(now.isLive ? duration(now.leftS) : "–", now.leftS ? `until ${clock(Date.now() / 1000 + now.leftS, { second: false })}` : "");
    tiles.Spent.draw(now.cost === null ? "–" : money(now.cost), besideCost(now));
    for (const name of ["In flight", "Waiting", "Rate", "Time left"]) tiles[name].node.hidden = !now.isLive;
  }
}

class Tile {
  constructor(name) {
    this.value = el("b", {});
    this.more = el("span", { class: "soft" });
    this.node = el("div", { class: "tile" }, el("dt", {}, name), el("dd", {}, this.value, this.more));
  }

  draw(value, more = "", tone = "") {
    write(this.value, value);
    write(this.more, more);
    mark(this.value, "class", tone || null);
  }
}

