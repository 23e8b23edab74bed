// One row whole: its answer, its request, each attempt. A panel with an address of its own.

import { get, path } from "./api.js";
import { attempt, href, lives, onDraw, onFrame, route } from "./app.js";
import { brief, el, place, prose, time, visible, whole, write } from "./dom.js";
import { clock, digits, duration, money, number, plural } from "./format.js";
import { keyOf } from "./live.js";
import { jsonIn, partial } from "./partial.js";
import { retry, steer } from "./steer.js";
import { tree } from "./tree.js";

// characters that are shown of a long text, and by how many more a button shows
const FIRST = 20000;
const MORE = 200000;
const PART = 8000;
const JSON_MOST = 200000;

// Where a part of a text ends: behind a line if there is an end of one, and never within a character.
function partEnd(text, from) {
  const most = from + PART;
  if (most >= text.length) return text.length;
  const line = text.lastIndexOf("\n", most - 1) + 1;
  if (line > from) return line;
  return /[\ud800-\udbff]/.test(text[most - 1]) ? most + 1 : most;
}

/** A long text in parts, so that a megabyte does not stop the page: those out of sight are not laid out. */
function longText(text, name) {
  const box = el("div", { class: "long", tabindex: "0", role: "group", "aria-label": name });
  const more = el("button", { type: "button", class: "small" });
  let shown = 0;
  const grow = (by) => {
    const most = Math.min(text.length, shown + by);
    while (shown < most) {
      const end = partEnd(text, shown);
      const part = text.slice(shown, end);
      // a part is a block, which ends the line as well
      box.append(el("div", { class: "part" }, visible(end < text.length ? part.replace(/\n$/, "") : part)));
      shown = end;
    }
    more.hidden = shown >= text.length;
    write(more, `Show more (${number(text.length - shown)} characters left)`);
  };
  more.addEventListener("click", () => grow(MORE));
  grow(FIRST);
  return el("div", {}, box, more);
}

function answerText(text) {
  if (!text) return el("p", { class: "soft" }, "No text.");
  const json = text.length < JSON_MOST ? jsonIn(text) : null;
  const found = json === null ? null : partial(json);
  if (!found) return longText(text, "Answer");
  return el("div", {}, el("div", { class: "long" }, tree(found.value)), el("details", {}, el("summary", {}, "As text"), longText(text, "Answer as text")));
}

/** The panel. The address says which row it shows. */
export class RowPanel {
  #shown = null;
  #stop = null;

  constructor() {
    this.heading = el("h2", { id: "row-title", tabindex: "-1" });
    this.close = el("button", { type: "button", class: "plain", "aria-label": "Close", onclick: () => this.#leave() }, "×");
    this.body = el("div", { class: "panel-body" });
    this.actions = el("div", { class: "actions" });
    this.node = el("dialog", { class: "panel", "aria-labelledby": "row-title" }, el("div", { class: "panel-head" }, this.heading, this.actions, this.close), this.body);
    this.node.addEventListener("cancel", (event) => { event.preventDefault(); this.#leave(); });
    this.node.addEventListener("click", (event) => { if (event.target === this.node) this.#leave(); });
    document.body.append(this.node);
    onDraw(() => this.#act());
    onFrame((kind, run, data) => {
      if (this.#shown && run === this.#shown.run && (kind === "rows" ? data.rows : kind === "open" ? data.answers : []).some((one) => String(one.id) === this.#shown.id)) this.#load();
    });
  }

  go({ run, query }) {
    const id = query.get("row");
    if (run === null || id === null) {
      if (this.node.open) this.node.close();
      this.#forget();
      return;
    }
    if (this.#shown?.run === run && this.#shown.id === id) return;
    this.#forget();
    this.#shown = { run, id };
    write(this.heading, `Row ${brief(id, 100)}`);
    place(this.body, [el("p", { class: "empty" }, "Loading…")]);
    place(this.actions, []);
    if (!this.node.open) this.node.showModal();
    this.heading.focus();
    this.#load();
  }

  #forget() {
    this.#shown = null;
    this.rows = null;
    this.#stop?.();
    this.#stop = null;
  }

  #leave() {
    const { run, view, query } = route();
    query.delete("row");
    location.hash = href(run, view, query);
  }

  async #load() {
    const shown = this.#shown;
    const open = [...(lives.get(shown.run)?.answers.values() ?? [])].filter((one) => String(one.id) === shown.id && !one.closed);
    let found = null;
    let error = null;
    try {
      // a row whose only request is open has nothing in the store yet
      found = open.length ? null : await get(path(shown.run, `/rows/${encodeURIComponent(shown.id)}`));
    } catch (caught) {
      error = caught;
    }
    if (this.#shown !== shown) return;
    this.#stop?.();
    const rows = found === null ? [] : Array.isArray(found) ? found : [found];
    if (!rows.length && !open.length) {
      place(this.body, [el("p", { class: "empty" }, error?.status === 404 ? "This row has no outcome yet." : error?.message ?? "This row has no outcome yet.")]);
      return;
    }
    const streams = open.map((one) => new Flowing(shown.run, keyOf(one)));
    this.keys = streams.map((one) => one.key);
    place(this.body, [...streams.map((one) => one.node), ...rows.map((row) => wholeRow(row, rows.length > 1))]);
    this.rows = rows;
    this.acts = null;
    this.#act();
    const stops = streams.map((one) => onDraw(() => one.draw()));
    this.#stop = () => stops.forEach((stop) => stop());
  }

  // What can be done about the row now.
  #act() {
    if (!this.#shown || !this.rows) return;
    const { run, id } = this.#shown;
    const live = lives.get(run);
    const runs = Boolean(live?.known && !live.finished && !live.gone);
    const isOpen = runs && this.keys.some((key) => live.answers.get(key) && !live.answers.get(key).closed);
    const buttons = [];
    if (isOpen) buttons.push(["Stop", () => steer(run, "cancel", { ids: [id] }, id)]);
    else if (runs && this.rows.some((row) => row.status === "failed")) buttons.push(["Retry", () => steer(run, "requeue", { ids: [id] }, id)]);
    else if (!runs && this.rows.length) buttons.push(["Retry…", () => retry(run, { ids: [id] })]);
    const acts = buttons.map(([word]) => word).join();
    if (acts === this.acts) return;
    this.acts = acts;
    place(this.actions, buttons.map(([word, act]) => {
      const button = el("button", { type: "button", class: "small", onclick: () => attempt(act, button) }, word);
      return button;
    }));
  }
}

/** The answer of an open request as it grows. */
class Flowing {
  constructor(run, key) {
    this.live = lives.get(run);
    this.key = key;
    this.about = el("p", { class: "soft" });
    this.box = el("div", { class: "long growing" });
    this.node = el("section", {}, el("h3", {}, "Answer so far"), this.about, this.box);
    this.draw();
  }

  draw() {
    const answer = this.live.answers.get(this.key);
    if (!answer || this.drawn === answer.changed) return;
    this.drawn = answer.changed;
    const text = answer.text.length ? answer.text.text : answer.reasoning.text;
    write(this.about, `${answer.closed ? "The request has ended." : `Attempt ${answer.attempt}, ${brief(answer.model, 60)}`} · ${plural(answer.text.length, "character")}`);
    const down = this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 40;
    const json = text.length < JSON_MOST / 10 ? jsonIn(text) : null;
    const found = json === null ? null : partial(json);
    if (found) place(this.box, [tree(found.value)]);
    else write(this.box, text.length > FIRST ? `…${visible(whole(text.slice(-FIRST)))}` : visible(text));
    // who reads further up is left there
    if (down) this.box.scrollTop = this.box.scrollHeight;
  }
}

const fact = (name, value) => (value === null || value === undefined || value === "" ? [] : [el("div", {}, el("dt", {}, name), el("dd", {}, value))]);

/** What a row or an attempt has cost, and perhaps beyond that. */
function costOf({ cost, cost_perhaps: more }) {
  if (cost === null) return "unknown";
  return `${money(cost)}${more === null ? ", perhaps more" : more ? `, perhaps ${money(more)} more` : ""}`;
}

function wholeRow(row, several) {
  const last = row.attempts.at(-1);
  const tokens = last ? `${digits(last.input_tokens)} in, ${digits(last.output_tokens)} out` : null;
  return el("article", {},
    several ? el("h3", { class: "answer-number" }, `Answer ${row.answer_number}`) : null,
    el("dl", { class: "facts" },
      fact("Status", el("span", { class: `state ${row.status === "done" ? "done" : "failed"}` }, row.status)),
      fact("Line", number(row.line)),
      fact("Finish reason", row.finish_reason ? brief(row.finish_reason, 60) : null),
      fact("Tokens", tokens), fact("Time", last ? duration(last.duration_s) : null),
      fact("Cost", costOf(row)),
      fact("Model", last?.served_model ? brief(last.served_model, 80) : null),
      fact("Endpoint", last?.endpoint ? brief(last.endpoint, 80) : null)),
    row.error ? el("div", { class: "problem" }, el("p", {}, el("code", {}, visible(row.error_code ?? "")), " ", visible(row.error)), row.advice ? el("p", { class: "soft" }, prose(row.advice)) : null) : null,
    row.notes?.length ? el("p", { class: "soft" }, `Notes: ${visible([row.notes].flat().join(", "))}`) : null,
    row.status === "done" || row.text ? el("section", {}, el("h3", {}, "Answer"), answerText(row.text)) : null,
    typeof row.extra?.reasoning === "string" && row.extra.reasoning ? el("details", {}, el("summary", {}, "Reasoning"), longText(row.extra.reasoning, "Reasoning")) : null,
    request(row),
    row.fields && Object.keys(row.fields).length ? el("section", {}, el("h3", {}, "Fields"), el("div", { class: "long" }, tree(row.fields))) : null,
    attempts(row),
    (row.former ?? []).map((one, at) => el("details", {}, el("summary", {}, `Earlier answer ${at + 1}`), answerText(one.text ?? ""))));
}

function request(row) {
  const parts = [["System", row.system], ["Prompt", row.prompt]].filter(([, text]) => text);
  if (row.messages) parts.push(["Messages", JSON.stringify(row.messages, null, 2)]);
  if (!parts.length) return null;
  return el("section", {}, el("h3", {}, "Request"), parts.map(([name, text]) => el("details", { open: name !== "System" }, el("summary", {}, name), longText(typeof text === "string" ? text : JSON.stringify(text, null, 2), name))));
}

function attempts(row) {
  if (!row.attempts.length) return el("p", { class: "soft" }, "Nothing was sent for this row.");
  const lines = row.attempts.map((one) => el("tr", {},
    el("th", { scope: "row" }, number(one.number)),
    el("td", {}, one.started_at ? time(one.started_at, clock(one.started_at)) : "–"),
    el("td", {}, one.error_code ? el("span", { class: "failed" }, brief(one.error_code, 60)) : "answered", one.error ? el("div", { class: "soft prose" }, brief(one.error, 400)) : null),
    el("td", { class: "number" }, one.status ? String(one.status) : "–"),
    el("td", { class: "number" }, duration(one.time_to_first_token_s)),
    el("td", { class: "number" }, duration(one.duration_s)),
    el("td", { class: "number" }, `${digits(one.input_tokens)} / ${digits(one.output_tokens)}`),
    el("td", { class: "number" }, costOf(one))));
  return el("section", {}, el("h3", {}, plural(row.attempts.length, "attempt")),
    el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Attempts" }, el("table", {},
      el("caption", { class: "unseen" }, "Attempts of this row"),
      el("thead", {}, el("tr", {}, ["No.", "Sent", "Outcome", "HTTP", "First token", "Time", "Tokens in / out", "Cost"].map((name, at) => el("th", { scope: "col", class: at > 2 ? "number" : null }, name)))),
      el("tbody", {}, lines))));
}
