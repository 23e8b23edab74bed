// Answers that are under way. Each has a place that it keeps; when it is over, the place is free for the next one.

import { attempt, changed, onDraw, rowHref } from "./app.js";
import { brief, el, mark, place, visible, whole, write } from "./dom.js";
import { duration, number, plural } from "./format.js";
import { keyOf } from "./live.js";
import { jsonIn, partial } from "./partial.js";
import { steer } from "./steer.js";
import { tree } from "./tree.js";

const STEP = 12;
const MOST = 120;
// what a card shows is the end of a text; JSON longer than this is shown as such an end, too
const TAIL = 800;
const JSON_MOST = 20000;
const OVER_MS = 800;

/** The answers of a run. live(): its session, or undefined. */
export class Answers {
  #cards = [];
  #shown = STEP;
  #seen = new IntersectionObserver((entries) => {
    for (const entry of entries) entry.target.card.inSight = entry.isIntersecting;
    changed();
  }, { rootMargin: "200px" });

  constructor(run, live) {
    this.run = run;
    this.live = live;
    this.list = el("ul", { class: "answers", "aria-label": "Answers in flight" });
    this.empty = el("p", { class: "empty" });
    this.more = el("button", { type: "button", onclick: () => { this.#shown += STEP; changed(); } });
    this.node = el("section", { "aria-labelledby": "answers-title" },
      el("div", { class: "title" }, el("h2", { id: "answers-title" }, "Answers in flight")), this.list, this.empty, el("p", { class: "more" }, this.more));
    this.leave = onDraw(() => this.draw());
  }

  draw() {
    const live = this.live();
    if (!live) { this.node.hidden = true; return; }
    this.node.hidden = false;
    live.forget();
    const open = [...live.answers.values()].filter((one) => !one.closed);
    const room = Math.min(this.#shown, MOST);
    this.#fill(live, open, room);
    for (const card of this.#cards) if (card.inSight) card.draw(live);
    const hidden = Math.max(0, open.length - this.#cards.filter((card) => !card.answer.closed).length);
    this.empty.hidden = this.#cards.length > 0;
    write(this.empty, live.finished || live.gone ? "No request is open." : live.paused ? "No request is open. The run is paused." : "No request is open at the moment.");
    this.more.hidden = hidden === 0 || this.#shown >= MOST;
    write(this.more, `Show ${number(Math.min(STEP, hidden))} more of ${number(hidden)}`);
  }

  #fill(live, open, room) {
    const now = Date.now();
    const held = new Set(this.#cards.map((card) => keyOf(card.answer)));
    for (const card of this.#cards) {
      const newest = live.answers.get(keyOf(card.answer));
      if (newest) card.answer = newest;
      else card.answer.closed ??= { at: now, ended: true };
    }
    const waiting = open.filter((one) => !held.has(keyOf(one)));
    for (const card of this.#cards) {
      if (!waiting.length) break;
      if (card.answer.closed && now - card.answer.closed.at > OVER_MS && !card.isHeld) card.show(waiting.shift());
    }
    while (waiting.length && this.#cards.length < room) {
      const card = new Card(this.run, waiting.shift());
      this.#cards.push(card);
      this.#seen.observe(card.node);
    }
    // what has been over for long makes room, from the end, so that no other card moves
    for (let last = this.#cards.at(-1); last; last = this.#cards.at(-1)) {
      if (!last.answer.closed || now - last.answer.closed.at < 10000 || last.isHeld) break;
      this.#seen.unobserve(last.node);
      this.#cards.pop();
    }
    place(this.list, this.#cards.map((card) => card.node));
  }

  close() {
    this.leave();
    this.#seen.disconnect();
  }
}

class Card {
  inSight = true;
  #drawn = null;

  constructor(run, answer) {
    this.run = run;
    this.id = el("a", { class: "id" });
    this.about = el("span", { class: "soft about" });
    this.text = el("div", { class: "flow" });
    this.foot = el("span", { class: "soft" });
    this.stop = el("button", { type: "button", class: "small", onclick: () => this.#ask("cancel", this.stop) }, "Stop");
    this.retry = el("button", { type: "button", class: "small", onclick: () => this.#ask("requeue", this.retry) }, "Retry");
    this.typing = el("span", { class: "typing", "aria-hidden": "true" }, el("i"), el("i"), el("i"));
    this.node = el("li", { class: "answer" },
      el("div", { class: "answer-head" }, this.id, this.about),
      el("div", { class: "window" }, this.text),
      el("div", { class: "answer-foot" }, this.typing, this.foot, this.stop, this.retry));
    this.node.card = this;
    this.show(answer);
  }

  /** A card that somebody points at, or whose button has the focus, is not given to another row. */
  get isHeld() {
    return this.node.matches(":hover") || this.node.contains(document.activeElement);
  }

  show(answer) {
    this.answer = answer;
    this.#drawn = null;
  }

  draw(live) {
    const { answer } = this;
    const { closed } = answer;
    const since = closed?.duration_s ?? Math.max(0, (closed?.at ?? Date.now()) / 1000 + live.skew - answer.since);
    const part = `${answer.answer_number > 1 ? ` · answer ${answer.answer_number}` : ""}${answer.attempt > 1 ? ` · attempt ${answer.attempt}` : ""}`;
    write(this.about, `line ${number(answer.line)}${part} · ${duration(Math.floor(since * 10) / 10)}`);
    if (this.#drawn === answer && this.changed === answer.changed) return;
    this.#drawn = answer;
    this.changed = answer.changed;
    write(this.id, brief(answer.id, 60));
    mark(this.id, "href", rowHref(this.run, answer.id));
    this.#content(answer);
    const state = !closed ? "open" : closed.error_code ? "failed" : closed.ended ? "ended" : "done";
    mark(this.node, "data-state", state);
    const words = { done: `answered${closed?.finish_reason && closed.finish_reason !== "stop" ? `, ${brief(closed.finish_reason, 30)}` : ""}`, failed: brief(closed?.error_code ?? "", 40), ended: "ended" };
    const length = answer.text.length + answer.reasoning.length;
    const waiting = length ? (answer.text.length ? plural(length, "character") : "reasoning") : "waiting for the first token";
    write(this.foot, words[state] ?? waiting);
    this.typing.hidden = Boolean(closed);
    const focused = [this.stop, this.retry].find((button) => button === document.activeElement);
    this.stop.hidden = Boolean(closed);
    this.retry.hidden = state !== "failed";
    // who pressed a button that is gone now stays at the card
    if (focused?.hidden) (this.retry.hidden ? this.id : this.retry).focus();
    for (const [button, word] of [[this.stop, "Stop"], [this.retry, "Retry"]]) mark(button, "aria-label", `${word} row ${brief(answer.id, 60)}`);
  }

  #content({ text, reasoning }) {
    const shown = text.length ? text.text : reasoning.text;
    mark(this.text, "class", `flow${text.length ? "" : " reasoning"}`);
    const json = text.length && text.text.length < JSON_MOST ? jsonIn(text.text) : null;
    const found = json === null ? null : partial(json);
    if (found) place(this.text, [tree(found.value)]);
    else write(this.text, shown.length > TAIL ? `…${visible(whole(shown.slice(-TAIL)))}` : visible(shown));
  }

  async #ask(what, button) {
    const { id } = this.answer;
    await attempt(() => steer(this.run, what, { ids: [String(id)] }, String(id)), button);
  }
}
