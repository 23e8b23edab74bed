// One prompt with the settings of a run, and its answer as it comes.

import { announce } from "./app.js";
import { el, mark, prose, visible, write } from "./dom.js";
import { money, number } from "./format.js";
import { proof } from "./key.js";
import { IDLE, reduce, stream } from "./runner-stream.js";

// how near to its end a text is scrolled that goes on scrolling
const NEAR = 40;

export class Ask {
  #state = IDLE;
  #answer = null;
  #asked = false;

  constructor(run) {
    this.run = run;
    this.prompt = el("textarea", { rows: 4, id: "ask-prompt", "aria-describedby": "ask-hint", onkeydown: (event) => this.#key(event) });
    this.most = el("input", { type: "number", min: 1, id: "ask-most", placeholder: "as in the run" });
    this.send = el("button", { type: "submit", class: "main" }, "Ask");
    this.stop = el("button", { type: "button", onclick: () => this.#answer?.cancel() }, "Stop");
    this.retry = el("button", { type: "button", onclick: () => this.#ask(this.last) }, "Retry");
    this.typing = el("span", { class: "typing", role: "img", "aria-label": "The model is writing" }, el("i"), el("i"), el("i"));
    this.thoughts = el("p", { class: "ask-text soft" });
    this.thinking = el("details", { hidden: true }, el("summary", {}, "Reasoning"), this.thoughts);
    this.text = el("p", { class: "ask-text", "aria-live": "polite", "aria-busy": "false" });
    this.box = el("div", { class: "ask-box", tabindex: "0", role: "group", "aria-label": "Text of the answer" }, this.text, this.typing);
    this.problem = el("p", { class: "problem", role: "alert", hidden: true });
    this.count = el("span", { class: "soft" });
    this.why = el("span", { class: "soft" });
    this.card = el("section", { class: "card ask-answer", "aria-label": "Answer", hidden: true },
      el("p", { class: "ask-foot" }, this.stop, this.retry, this.count, this.why), this.problem, this.thinking, this.box);
    this.node = el("div", { class: "stack" },
      el("form", { class: "ask", onsubmit: (event) => { event.preventDefault(); this.#ask(this.prompt.value); } },
        el("label", { for: "ask-prompt" }, "Ask one prompt with the settings of this run"), this.prompt,
        el("p", { class: "ask-foot" }, this.send, el("label", { for: "ask-most" }, "Most tokens"), this.most, el("span", { class: "soft", id: "ask-hint" }, "It is sent at once and paid like a row. It is no row of this run."))),
      this.card);
  }

  #key(event) {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      this.#ask(this.prompt.value);
    }
  }

  async #ask(prompt) {
    if (!prompt.trim()) { this.prompt.focus(); return; }
    this.#answer?.cancel();
    const most = Number(this.most.value);
    const mine = this.#answer = stream({ prompt, run: this.run, params: most ? { max_tokens: most } : {} }, { headers: { "X-Runner": proof } });
    this.last = prompt;
    this.#take({ ...IDLE, status: "waiting" });
    for await (const event of mine) {
      if (this.#answer !== mine) return;
      this.#take(reduce(this.#state, event));
    }
    const { status, error } = this.#state;
    if (status === "done") announce("The answer is whole.");
    else if (error?.code === "cancelled_by_user") announce("Stopped.");
  }

  #take(state) {
    this.#state = state;
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      this.#show();
    });
  }

  #show() {
    const { status, text, reasoning, tokens, estimated, waiting, error, done } = this.#state;
    const open = status === "waiting" || status === "streaming";
    this.card.hidden = false;
    const { scrollHeight, scrollTop, clientHeight } = this.box;
    const follows = scrollHeight - scrollTop - clientHeight < NEAR;
    grow(this.text, visible(text));
    grow(this.thoughts, visible(reasoning));
    mark(this.text, "aria-busy", open ? "true" : "false");
    this.thinking.hidden = !reasoning;
    this.typing.hidden = !open;
    this.box.hidden = !open && !text;
    // the button with the focus stays, under another name, so that a keyboard does not lose its place
    const held = document.activeElement === this.stop || document.activeElement === this.retry;
    this.stop.hidden = !open;
    this.retry.hidden = open;
    if (held) (open ? this.stop : this.retry).focus();
    const stopped = error?.code === "cancelled_by_user";
    this.problem.hidden = !error || stopped;
    if (error && !stopped) this.problem.replaceChildren(...prose(`${error.error}. ${error.todo ?? ""}`));
    const end = done ?? error;
    const cost = !end ? "" : typeof end.cost === "number" ? ` · ${money(end.cost)}` : " · cost unknown";
    const more = end?.cost_perhaps ? `, perhaps ${money(end.cost_perhaps)} more` : "";
    write(this.count, open && !tokens ? "waiting for the first token" : `${stopped ? "stopped · " : ""}${estimated ? "about " : ""}${number(tokens)} tokens${cost}${more}`);
    write(this.why, waiting ? visible(waiting) : "");
    if (follows) this.box.scrollTop = this.box.scrollHeight;
  }

  close() {
    this.#answer?.cancel();
    this.#answer = null;
  }
}

/** Write a text that grows: what is there stays, and with it what is selected. */
function grow(node, text) {
  const part = node.firstChild;
  if (part && text.length > part.data.length && text.startsWith(part.data)) part.appendData(text.slice(part.data.length));
  else write(node, text);
}
