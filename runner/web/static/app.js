// What all parts of the page share: the running sessions, the address, what is said, and when things are drawn.

import { el, mark, write } from "./dom.js";
import { Live } from "./live.js";

/** Sessions that run, by run. */
export const lives = new Map();
export let link = { state: "connecting" };

const drawn = new Set();
let asked = false;

/** Call a function at most once a frame, when something has changed. Returns how that ends. */
export function onDraw(draw) {
  drawn.add(draw);
  return () => drawn.delete(draw);
}

/** Something has changed. Nothing is drawn while the tab is not seen. */
export function changed() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    for (const draw of drawn) draw();
  });
}

const heard = new Set();

/** Hear frames that are about more than what is under way: rows, steered, finished, gone, state. Returns how that ends. */
export function onFrame(hear) {
  heard.add(hear);
  return () => heard.delete(hear);
}

/** Take what the stream of this browser has brought. */
export function take(message) {
  if (message.link) link = message.link;
  else {
    const { kind, run, data } = message;
    if (run !== null && !lives.has(run)) lives.set(run, new Live(run));
    lives.get(run)?.take(kind, data);
    for (const hear of heard) hear(kind, run, data);
  }
  changed();
}

/** The address: #/runs/1/rows?status=failed&row=a is {run: 1, view: "rows", query}. */
export function route(hash = location.hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [first, run, view] = path.split("/");
  return { run: first === "runs" && /^\d+$/.test(run ?? "") ? Number(run) : null, view: view || "overview", query: new URLSearchParams(query) };
}

/** The address of a part of the page. query: an object or URLSearchParams. */
export function href(run, view = "overview", query = {}) {
  const used = [...(query instanceof URLSearchParams ? query : Object.entries(query))].filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(used).toString();
  return `#/runs/${run}${view === "overview" ? "" : `/${view}`}${text ? `?${text}` : ""}`;
}

/** The address of a row, beside what is shown. */
export function rowHref(run, id) {
  const { view, query, run: shown } = route();
  const kept = new URLSearchParams(shown === run ? query : "");
  kept.set("row", id);
  return href(run, shown === run ? view : "rows", kept);
}

const toasts = document.getElementById("toasts");
const polite = document.getElementById("polite");

/** Say what came of something. It is read out, and stays for a while. */
export function say(text, { bad = false } = {}) {
  const close = el("button", { type: "button", class: "plain", "aria-label": "Close this message", onclick: () => toast.remove() }, "×");
  const toast = el("div", { class: `toast${bad ? " bad" : ""}` }, el("p", {}, text), close);
  toasts.append(toast);
  while (toasts.children.length > 4) toasts.firstChild.remove();
  announce(text);
  setTimeout(() => toast.remove(), bad ? 20000 : 7000);
}

/** Read something out. */
export function announce(text) {
  write(polite, text);
}

/** Do something that may fail, and say so if it does. button: it cannot be pressed meanwhile. Returns what act returns. */
export async function attempt(act, button) {
  mark(button ?? polite, "aria-disabled", button ? "true" : null);
  try {
    return await act();
  } catch (error) {
    say(error.message, { bad: true });
    return null;
  } finally {
    if (button) mark(button, "aria-disabled", null);
  }
}

// seconds pass, also when nothing else happens
setInterval(() => { if (!document.hidden) changed(); }, 1000);
document.addEventListener("visibilitychange", changed);
