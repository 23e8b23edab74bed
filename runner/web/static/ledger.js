// Where the time of a session goes: the seconds of all its slots, by what each slot did or waited for.

import { el, mark, place, prose, sentence, write } from "./dom.js";
import { duration, percent } from "./format.js";

const PARTS = [
  ["answering_s", "answering", "done"],
  ["limits_s", "waiting for limits", "wait"],
  ["retry_wait_s", "waiting for retries", "two"],
  ["server_queue_s", "in the server's queue", "four"],
  ["outage_s", "server down", "failed"],
  ["runner_s", "this process", "accent"],
  ["idle_s", "no row left", "quiet"],
];

export class Ledger {
  constructor() {
    this.bars = PARTS.map(([, , tone]) => el("i", { class: tone }));
    this.lines = PARTS.map(([, name, tone]) => {
      const cells = [el("td", { class: "number" }), el("td", { class: "number" })];
      return { cells, node: el("tr", {}, el("th", { scope: "row" }, el("span", { class: `dot ${tone}`, "aria-hidden": "true" }), name), cells) };
    });
    this.body = el("tbody");
    this.advice = el("p", {});
    this.node = el("section", { class: "card", "aria-labelledby": "time-title" },
      el("h3", { id: "time-title" }, "Where the time goes"),
      el("p", { class: "soft" }, "Seconds of all slots: a second of 64 slots is 64 seconds."),
      el("div", { class: "bar tall", "aria-hidden": "true" }, this.bars),
      el("table", {}, el("caption", { class: "unseen" }, "Where the time goes"), el("thead", { class: "unseen" }, el("tr", {}, ["What slots did", "Seconds", "Share"].map((name) => el("th", { scope: "col" }, name)))), this.body),
      this.advice);
  }

  draw(time) {
    this.node.hidden = !time?.total_s;
    if (this.node.hidden || time === this.drawn) return;
    this.drawn = time;
    const shown = PARTS.flatMap(([name], at) => {
      const seconds = time[name] ?? 0;
      this.bars[at].style.width = `${(100 * seconds) / time.total_s}%`;
      if (seconds <= 0) return [];
      write(this.lines[at].cells[0], duration(seconds));
      write(this.lines[at].cells[1], percent(seconds, time.total_s));
      return [this.lines[at].node];
    });
    place(this.body, shown);
    place(this.advice, prose(time.advice ? sentence(time.advice) : ""));
    mark(this.advice, "hidden", time.advice ? null : "");
  }
}
