// What was steered: when, by whom, what. And what a person should know of the session.

import { get, path } from "./api.js";
import { el, place, prose, sentence, time, visible } from "./dom.js";
import { ago, by, clock } from "./format.js";

export class History {
  constructor(run) {
    this.run = run;
    this.list = el("ol", { class: "history", reversed: true });
    this.empty = el("p", { class: "empty" }, "Loading…");
    this.notes = el("ul", { class: "notes" });
    this.notesPart = el("section", { "aria-labelledby": "notes-title" }, el("h2", { id: "notes-title" }, "Notes of this session"), this.notes);
    this.node = el("div", { class: "stack" },
      el("section", { "aria-labelledby": "history-title" }, el("h2", { id: "history-title" }, "What was steered"), this.empty, this.list), this.notesPart);
    this.load();
  }

  async load() {
    try {
      const found = await get(path(this.run, "/history"));
      const all = [...found].reverse();
      this.empty.hidden = all.length > 0;
      place(this.empty, ["Nobody has paused, changed or stopped anything in this run."]);
      place(this.list, all.map((one) => el("li", {}, el("span", { class: "when" }, time(one.at, clock(one.at)), el("span", { class: "soft" }, ` ${ago(one.at)}`)), el("span", {}, prose(one.what)), el("span", { class: "soft" }, `by ${by[one.by] ?? visible(one.by)}`))));
    } catch (error) {
      place(this.empty, [sentence(error.message)]);
    }
  }

  draw(now, live) {
    const notes = live?.notes ?? [];
    this.notesPart.hidden = !notes.length;
    if (notes === this.drawn) return;
    this.drawn = notes;
    place(this.notes, notes.map((note) => el("li", {}, prose(note))));
  }
}
