// What failed, by cause, what to do about it, and "send these again".

import { get, path } from "./api.js";
import { attempt, href, rowHref, say } from "./app.js";
import { brief, el, place, prose, sentence, visible } from "./dom.js";
import { number, percent, plural } from "./format.js";
import { retry, steer } from "./steer.js";

function shareOf({ share, share_of_failed: failed }) {
  if (failed !== null) return `${percent(failed, 1)} of the failed rows`;
  return share === null ? "" : `${percent(share, 1)} of the answers and failures`;
}

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
      place(this.list, [el("p", { class: "problem" }, sentence(error.message))]);
      return;
    }
    const causes = this.found;
    const key = JSON.stringify(causes.map((one) => [one.code, one.status, one.count]));
    // what is the same stays: somebody may be reading it, or have a button in focus
    if (key === this.key) return;
    this.key = key;
    place(this.list, causes.length ? causes.map((one) => this.#cause(one)) : [el("p", { class: "empty" }, "No row has failed.")]);
  }

  draw(now, live, info) {
    this.now = now;
    this.info = info;
  }

  // Causes go by the names that `runner retry --class` takes; not each is a code or a finish reason of rows.
  #filter(code, failed) {
    if (failed) return { status: "failed", code: code in (this.info?.run.causes ?? {}) ? code : "" };
    return { status: "done", finish: code in (this.info?.books.finish_reasons ?? {}) ? code : "" };
  }

  #cause(cause) {
    const { code } = cause;
    const failed = cause.status !== "done";
    const words = plural(cause.count, "row");
    const again = el("button", { type: "button", class: "small", onclick: () => attempt(() => this.#again(cause, code), again) }, "Retry these…");
    const id = cause.example_id;
    return el("article", { class: "card cause" },
      el("div", { class: "title" }, el("h3", {}, el("code", {}, visible(code)), " ", el("span", { class: failed ? "failed" : "soft" }, words)),
        el("span", { class: "soft" }, shareOf(cause))),
      el("p", {}, prose(cause.advice ?? "")),
      cause.example ? el("p", { class: "example" }, id !== null && id !== undefined ? [el("a", { href: rowHref(this.run, id) }, brief(id, 60)), ": "] : null, brief(cause.example, 500)) : null,
      cause.command ? el("p", {}, el("span", { class: "soft" }, "In a terminal: "), el("code", {}, visible(cause.command))) : null,
      el("div", { class: "actions" }, el("a", { class: "button small", href: href(this.run, "rows", this.#filter(code, failed)) }, "Show rows"), cause.command === null ? null : again));
  }

  async #again(cause, code) {
    // causes with one code differ in their words: of such a one, its own rows are sent, as far as they are known
    const alone = this.found.filter((one) => one.code === code).length === 1;
    if (!this.now?.isLive) return retry(this.run, alone || cause.ids.length < cause.count ? { class: code } : { ids: cause.ids.map(String) });
    const reply = await steer(this.run, "requeue", { ids: cause.ids.map(String) });
    if (cause.ids.length < cause.count) say(`These are the first ${number(cause.ids.length)} of ${number(cause.count)}. Press it again for the next ones.`);
    return reply;
  }
}

