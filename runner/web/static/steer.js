// What changes a run: its buttons, the questions before, and what is said about it.

import { path, post } from "./api.js";
import { attempt, say } from "./app.js";
import { brief, el, mark, place } from "./dom.js";
import { number, plural } from "./format.js";

/** Ask a running session for something, and say what it answered. id: the row that it is about. */
export async function steer(run, what, body = {}, id = undefined) {
  const reply = await post(path(run, `/${what}`), body);
  say(told(reply, id));
  return reply;
}

function told(reply, id) {
  const row = id === undefined ? null : reply.rows[id];
  return reply.done || (row ? `Row ${brief(id, 60)}: ${row}.` : "Done.");
}

/** Ask a question; resolves with true if the answer is yes. */
function confirm(title, text, yes, { bad = false } = {}) {
  return new Promise((resolve) => {
    const dialog = el("dialog", { class: "ask", "aria-labelledby": "ask-title" },
      el("form", { method: "dialog" },
        el("h2", { id: "ask-title" }, title), [text].flat().map((one) => el("p", {}, one)),
        el("div", { class: "actions end" }, el("button", { value: "" }, "Cancel"), el("button", { value: "yes", class: bad ? "bad" : "main" }, yes))));
    dialog.addEventListener("close", () => { resolve(dialog.returnValue === "yes"); dialog.remove(); });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Send rows of a run again that is not running, after saying what that may cost. what: {ids} or {class}. */
export const retry = (run, what) => begin(run, "/retry", what, (rows) => `Send ${rows} again?`, "Send again");

/** Send what is left of a run that is not running, after saying what that may cost. */
const resume = (run) => begin(run, "/resume", {}, () => "Resume this run?", "Resume");

async function begin(run, where, what, title, yes) {
  const told = await post(path(run, where), what);
  if (told.rows === 0) {
    say(`${told.sentence}.`, { bad: true });
    return;
  }
  if (!(await confirm(title(plural(told.rows, "row")), `It ${told.sentence}.`, yes))) return;
  const reply = await post(path(run, where), { ...what, confirm: true });
  say(`${reply.done}.`);
}

const LIMITS = [
  ["concurrency", "Requests in flight", "at most, at once", "1"],
  ["rpm", "Requests a minute", "rpm", "any"],
  ["tpm", "Tokens a minute", "tpm", "any"],
  ["max_cost", "Most dollars", "of the whole run", "any"],
];

function limitsDialog(run, now) {
  const fields = LIMITS.map(([name, label, about, step]) => {
    const input = el("input", { id: `set-${name}`, name, type: "number", min: step === "1" ? "1" : "0", step, inputmode: "decimal", placeholder: now[name] ? `now ${number(now[name])}` : "as it is", "aria-describedby": `about-${name}` });
    return el("div", { class: "field" }, el("label", { for: `set-${name}` }, label), input, el("span", { id: `about-${name}`, class: "soft" }, about));
  });
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const dialog = el("dialog", { class: "ask", "aria-labelledby": "set-title" }, el("form", {
    method: "dialog",
    onsubmit: async (event) => {
      event.preventDefault();
      const values = [...new FormData(event.target)].filter(([, value]) => value !== "").map(([name, value]) => [name, Number(value)]);
      if (!values.length) { dialog.close(); return; }
      try {
        await steer(run, "set", Object.fromEntries(values));
        dialog.close();
      } catch (error) {
        problem.hidden = false;
        problem.textContent = error.message;
      }
    },
  }, el("h2", { id: "set-title" }, "Limits"), el("p", { class: "soft" }, "They hold until this session ends. What is left empty stays as it is."), fields, problem,
  el("div", { class: "actions end" }, el("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), el("button", { class: "main" }, "Set"))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/** The buttons of a run. */
export class Controls {
  constructor(run) {
    this.run = run;
    const button = (text, act, kind = null) => {
      const made = el("button", { type: "button", class: kind, onclick: () => { if (made.getAttribute("aria-disabled") !== "true") attempt(() => act(made), made); } }, text);
      return made;
    };
    this.pause = button("Pause", () => steer(run, this.now.state === "paused" ? "continue" : "pause"), "main");
    this.limits = button("Limits…", async () => limitsDialog(run, this.set()));
    this.stop = button("Stop…", () => this.#stop());
    this.resume = button("Resume…", () => resume(run), "main");
    this.again = button("Retry failed…", () => retry(run, {}));
    this.node = el("div", { class: "actions", role: "group", "aria-label": "Steer this run" }, this.pause, this.limits, this.stop);
  }

  set() {
    const [lane] = this.now.limits;
    return { concurrency: this.now.ceiling || null, rpm: lane?.limits?.rpm, tpm: lane?.limits?.tpm };
  }

  async #stop() {
    const { inFlight, state } = this.now;
    const text = state === "stopping" ? "The run is stopping. This drops the open requests at once." : `No further request is sent. ${plural(inFlight, "open request")} may finish. The same command continues the run later.`;
    if (await confirm("Stop this run?", text, "Stop the run", { bad: true })) await steer(this.run, "stop");
  }

  /** now: the facts of the run. */
  draw(now) {
    this.now = now;
    const rest = [now.canResume ? this.resume : null, now.failed > 0 && now.canRetry ? this.again : null].filter(Boolean);
    place(this.node, now.isLive ? [this.pause, this.limits, this.stop] : rest);
    const words = now.state === "limited" ? "Run the rest…" : "Resume…";
    if (this.resume.textContent !== words) this.resume.textContent = words;
    const word = now.state === "paused" ? "Continue" : "Pause";
    if (this.pause.textContent !== word) this.pause.textContent = word;
    mark(this.pause, "disabled", now.state === "stopping");
  }
}
