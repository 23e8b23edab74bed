// The rows of a run: searched, filtered, page by page.

import { get, path } from "./api.js";
import { href, onFrame, route, rowHref } from "./app.js";
import { brief, el, mark, place, sentence, visible, write } from "./dom.js";
import { digits, duration, money, number, plural } from "./format.js";

const PAGE = 50;
// a search is asked again after so long while not all rows have been looked at
const AGAIN_MS = 1500;
const FILTERS = ["q", "status", "code", "finish", "field", "value"];

const indexed = ({ rows }) => `(searched so far: ${plural(rows, "row")})`;

export class Rows {
  #asked = null;
  #timer = null;
  #news = 0;
  #waits = null;
  #lines = new Map();

  constructor(run) {
    this.run = run;
    const field = (label, input) => el("div", { class: "field" }, el("label", { for: input.id }, label), input);
    this.inputs = {
      q: el("input", { id: "q", type: "search", name: "q", autocomplete: "off", spellcheck: "false" }),
      status: el("select", { id: "status", name: "status" }, el("option", { value: "" }, "any"), el("option", { value: "done" }, "done"), el("option", { value: "failed" }, "failed")),
      code: el("input", { id: "code", name: "code", list: "codes", autocomplete: "off", spellcheck: "false", placeholder: "any" }),
      finish: el("input", { id: "finish", name: "finish", list: "finishes", autocomplete: "off", spellcheck: "false", placeholder: "any" }),
      field: el("input", { id: "field", name: "field", list: "names", autocomplete: "off", spellcheck: "false", placeholder: "name" }),
      value: el("input", { id: "value", name: "value", autocomplete: "off", spellcheck: "false", placeholder: "value" }),
    };
    this.lists = Object.fromEntries(["codes", "finishes", "names"].map((id) => [id, el("datalist", { id })]));
    mark(this.inputs.value, "aria-label", "Value of the field");
    this.form = el("form", { role: "search", class: "filters", "aria-label": "Find rows", onsubmit: (event) => { event.preventDefault(); this.#apply(); }, oninput: () => this.#soon() },
      field("Search", this.inputs.q), field("Status", this.inputs.status), field("Cause", this.inputs.code), field("Finish reason", this.inputs.finish),
      el("div", { class: "field pair-field" }, el("label", { for: "field" }, "Own field"), el("div", {}, this.inputs.field, el("span", { "aria-hidden": "true" }, "="), this.inputs.value)),
      el("button", { type: "button", class: "plain", onclick: () => { location.hash = href(run, "rows"); } }, "Clear"), Object.values(this.lists));
    this.count = el("p", { class: "soft", role: "status" });
    this.news = el("button", { type: "button", class: "small", hidden: true, onclick: () => this.#load() });
    this.body = el("tbody");
    this.table = el("div", { class: "scroll card flush", tabindex: "0", role: "group", "aria-label": "Rows" }, el("table", { class: "rows" },
      el("caption", { class: "unseen" }, "Rows of this run"),
      el("thead", {}, el("tr", {}, [["Line", 1], ["Id"], ["Status"], ["Answer"], ["Tokens in / out", 1], ["Cost", 1], ["Time", 1]].map(([name, right]) => el("th", { scope: "col", class: right ? "number" : null }, name)))), this.body));
    this.empty = el("p", { class: "empty" }, "Loading…");
    this.prev = el("button", { type: "button", onclick: () => history.back() }, "Previous page");
    this.next = el("button", { type: "button", onclick: () => this.#page(this.found.next) }, "Next page");
    this.node = el("section", { "aria-labelledby": "rows-title" }, el("h2", { id: "rows-title", class: "unseen" }, "Rows"), this.form,
      el("div", { class: "title" }, this.count, this.news), this.table, this.empty, el("div", { class: "actions pages" }, this.prev, this.next));
    this.stop = onFrame((kind, at, data) => {
      if (at !== run || kind !== "rows") return;
      // where there is nothing to be read, nothing is pushed away
      if (!this.#lines.size) {
        this.#waits ??= setTimeout(() => { this.#waits = null; this.#load(); }, AGAIN_MS);
        return;
      }
      this.#news += data.rows.length;
      this.news.hidden = false;
      write(this.news, `${plural(this.#news, "more row")} saved: show`);
    });
  }

  go({ query }) {
    for (const name of FILTERS) if (document.activeElement !== this.inputs[name]) this.inputs[name].value = query.get(name) ?? "";
    const { after } = Object.fromEntries(query);
    const filters = FILTERS.map((name) => query.get(name) ?? "");
    const key = JSON.stringify([filters, after ?? ""]);
    if (key === this.key) return;
    this.key = key;
    this.after = after ?? "";
    mark(this.prev, "disabled", !this.after);
    this.#load();
  }

  draw(now, live, info) {
    const codes = Object.keys(info?.run?.causes ?? {});
    const finishes = Object.keys(info?.books?.finish_reasons ?? {});
    for (const [id, values] of [["codes", codes], ["finishes", finishes]]) {
      const key = JSON.stringify(values);
      if (this.lists[id].key !== key) { this.lists[id].key = key; place(this.lists[id], values.map((value) => el("option", { value }))); }
    }
  }

  #soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#apply(), 300);
  }

  // The address says what is shown, so that a link to it, and "back", work.
  #apply() {
    clearTimeout(this.#timer);
    const values = Object.fromEntries(FILTERS.map((name) => [name, this.inputs[name].value]));
    if (!values.field || !values.value) { delete values.field; delete values.value; }
    const to = href(this.run, "rows", values);
    if (to !== location.hash) history.replaceState(null, "", to);
    this.go(route());
  }

  #page(after) {
    const { query } = route();
    query.set("after", after);
    location.hash = href(this.run, "rows", query);
    this.table.scrollIntoView({ block: "nearest" });
  }

  async #load() {
    this.#asked?.abort();
    const asked = new AbortController();
    this.#asked = asked;
    this.#news = 0;
    this.news.hidden = true;
    const { query } = route();
    const values = Object.fromEntries(["q", "status", "code", "finish", "after"].map((name) => [name, query.get(name)]));
    if (query.get("field")) values[`field.${query.get("field")}`] = query.get("value") ?? "";
    mark(this.table, "aria-busy", "true");
    try {
      this.found = await get(path(this.run, "/rows", { ...values, limit: PAGE }), asked.signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.#show([], sentence(error.message));
      return;
    } finally {
      if (this.#asked === asked) mark(this.table, "aria-busy", null);
    }
    const filtered = FILTERS.some((name) => query.get(name));
    if (this.found.index && !this.found.index.complete) {
      this.#waits ??= setTimeout(() => { this.#waits = null; this.#load(); }, AGAIN_MS);
      this.#show(this.found.rows, "Searching…");
    } else this.#show(this.found.rows, filtered ? "No row is like that." : this.after ? "There are no more rows." : "No row has an outcome yet.");
  }

  #show(rows, empty) {
    // a line that says the same stays, and with it the focus
    const before = this.#lines;
    this.#lines = new Map(rows.map((row) => {
      const key = JSON.stringify([location.hash, row]);
      return [key, before.get(key) ?? this.#line(row)];
    }));
    place(this.body, [...this.#lines.values()]);
    this.table.hidden = !rows.length;
    this.empty.hidden = rows.length > 0;
    write(this.empty, empty);
    mark(this.next, "disabled", !this.found?.next);
    const index = this.found?.index;
    const words = rows.length ? `${plural(rows.length, "row")}${this.found.next || this.after ? " on this page" : ""}` : "";
    write(this.count, index && !index.complete ? `${words} ${indexed(index)}`.trim() : words);
    const names = [...new Set(rows.flatMap((row) => Object.keys(row.fields ?? {})))];
    place(this.lists.names, names.slice(0, 100).map((value) => el("option", { value })));
  }

  #line(row) {
    const id = row.id ?? row.key;
    const tokens = row.input_tokens === null && row.output_tokens === null ? "–" : `${digits(row.input_tokens)} / ${digits(row.output_tokens)}`;
    const text = row.status === "failed" ? el("span", {}, el("code", { class: "failed" }, visible(row.error_code ?? "")), " ", brief(row.error ?? "", 200)) : brief(row.text ?? "", 240);
    return el("tr", {},
      el("td", { class: "number" }, number(row.line)),
      el("th", { scope: "row" }, el("a", { href: rowHref(this.run, id) }, brief(id, 60)), row.answer_number > 1 ? el("span", { class: "soft" }, ` answer ${row.answer_number}`) : null),
      el("td", {}, el("span", { class: `state ${row.status === "done" ? "done" : "failed"}` }, row.status), row.finish_reason && row.finish_reason !== "stop" ? el("div", { class: "soft" }, brief(row.finish_reason, 30)) : null),
      el("td", { class: "text" }, el("div", { class: "clamp" }, text)),
      el("td", { class: "number", "data-name": "tokens" }, tokens),
      el("td", { class: "number", "data-name": "cost" }, row.cost === null || row.cost === undefined ? "–" : money(row.cost)),
      el("td", { class: "number", "data-name": "time" }, duration(row.duration_s)));
  }

  close() {
    this.stop();
    this.#asked?.abort();
    clearTimeout(this.#timer);
    clearTimeout(this.#waits);
  }
}
