// What failed, by cause, what to do about it, and "send these again".

import { get, path } from "./api.js";
import { attempt, href, rowHref } from "./app.js";
import { brief, el, place, prose, visible } from "./dom.js";
import { percent, plural } from "./format.js";
import { retry, steer } from "./steer.js";

export class Errors {
  constructor(run) {
    this.run = run;
    this.list = el("div", { class: "stack" }, el("p", { class: "empty" }, "Loading…"));
    this.node = el("section", { "aria-labelledby": "errors-title" }, el("h2", { id: "errors-title" }, "Errors by cause"), this.list);
    this.load();
  }

  async load() {
    try {
      this.found = await get(path(this.run, "/errors"));
    } catch (error) {
      place(this.list, [el("p", { class: "problem" }, error.message)]);
      return;
    }
    const causes = this.found.errors ?? this.found.causes ?? this.found;
    const key = JSON.stringify(causes.map((one) => [one.code, one.status, one.count]));
    // what is the same stays: somebody may be reading it, or have a button in focus
    if (key === this.key) return;
    this.key = key;
    place(this.list, causes.length ? causes.map((one) => this.#cause(one)) : [el("p", { class: "empty" }, "No row has failed.")]);
  }

  draw(now) {
    this.now = now;
  }

  #cause(cause) {
    const code = cause.code ?? cause.name ?? "answers";
    const failed = cause.status !== "done";
    const words = plural(cause.count, "row");
    const again = el("button", { type: "button", class: "small", onclick: () => attempt(() => this.#again(cause, code, words), again) }, "Retry these…");
    const id = cause.example_id;
    return el("article", { class: "card cause" },
      el("div", { class: "title" }, el("h3", {}, el("code", {}, visible(code)), " ", el("span", { class: failed ? "failed" : "soft" }, words)),
        el("span", { class: "soft" }, cause.share !== undefined && cause.share !== null ? `${percent(cause.share, 1)} of rows` : "")),
      el("p", {}, prose(cause.advice ?? "")),
      cause.example ? el("p", { class: "example" }, id !== null && id !== undefined ? [el("a", { href: rowHref(this.run, id) }, brief(id, 60)), ": "] : null, brief(cause.example, 500)) : null,
      cause.command ? el("p", {}, el("span", { class: "soft" }, "In a terminal: "), el("code", {}, visible(cause.command))) : null,
      el("div", { class: "actions" }, el("a", { class: "button small", href: href(this.run, "rows", failed ? { status: "failed", code } : { status: "done" }) }, "Show rows"), cause.command === null ? null : again));
  }

  async #again(cause, code, words) {
    if (!this.now?.isLive) return retry(this.run, { class: code }, words);
    return steer(this.run, "requeue", { ids: cause.ids.map(String) });
  }
}

