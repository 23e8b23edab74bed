// The page: what the address says is shown, and what the stream brings is taken.

import { announce, changed, href, link, onDraw, onFrame, route, take } from "./app.js";
import { el, mark, place, write } from "./dom.js";
import { Run } from "./run.js";
import { Runs } from "./runs.js";
import { RowPanel } from "./row.js";
import { listen } from "./stream.js";

const main = document.getElementById("main");
const crumbs = document.getElementById("crumbs");
const linkWord = document.getElementById("link");
const alert = document.getElementById("alert");
const panel = new RowPanel();
let page = null;

function show() {
  const at = route();
  const same = page && (page.run ?? null) === at.run;
  if (!same) {
    page?.close();
    page = at.run === null ? new Runs() : new Run(at.run);
    main.replaceChildren(page.node);
    scrollTo(0, 0);
    crumb(at.run);
  }
  page.go?.(at);
  panel.go(at);
  changed();
}

function crumb(run) {
  if (run === null) place(crumbs, []);
  else place(crumbs, [el("a", { href: "#/" }, "Runs"), el("span", { class: "soft", "aria-hidden": "true" }, "/"), el("a", { href: href(run), "aria-current": "page" }, `Run ${run}`)]);
}

const WORDS = {
  connecting: ["connecting", "Connecting to the web server."],
  open: ["live", ""],
  lost: ["connection lost", "The connection to the web server is lost. What is shown may be old. Trying again"],
  refused: ["no access", "This browser has no access any more. Open the address that `runner web` printed."],
};
let linked = "";

function drawLink() {
  const [word, sentence] = WORDS[link.state];
  write(linkWord, word);
  mark(linkWord, "data-state", link.state);
  const wait = link.again ? Math.max(0, Math.ceil((link.again - Date.now()) / 1000)) : 0;
  alert.hidden = !sentence || link.state === "connecting";
  write(alert, sentence ? `${sentence}${link.state === "lost" ? (wait ? ` in ${wait} s.` : "…") : ""}` : "");
  if (linked === "lost" && link.state === "open") announce("The connection is back.");
  linked = link.state === "connecting" ? linked : link.state;
  const title = `${page?.title ?? "Runs"} · runner`;
  if (document.title !== title) document.title = title;
}

// a link to a place within this page is none to another part of it
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", show);
onDraw(drawLink);
onFrame((kind, run, data) => {
  if (kind === "finished") announce(`Run ${run} has ended: ${data.done} done, ${data.failed} failed.`);
  if (kind === "gone") announce(`The process of run ${run} is gone.`);
});
listen(take);
show();
