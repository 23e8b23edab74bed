// A JSON value as a list of names and values.

import { el, visible, whole } from "./dom.js";

const ITEMS = 100;
const TEXT = 4000;

/** value: with Map for objects, as `partial` returns them, or as JSON.parse does. undefined: it is still to come. */
export function tree(value, depth = 0) {
  if (value === undefined) return el("span", { class: "soft" }, "…");
  if (value === null || typeof value !== "object") return leaf(value);
  const entries = value instanceof Map ? [...value] : Array.isArray(value) ? value.map((one, at) => [at + 1, one]) : Object.entries(value);
  const isList = Array.isArray(value);
  if (!entries.length) return el("span", { class: "soft" }, isList ? "[ ]" : "{ }");
  const shown = entries.slice(0, ITEMS).map(([name, one]) =>
    el("li", {}, el("span", { class: "name" }, isList ? `${name}.` : visible(String(name).slice(0, 200))), " ", depth > 6 ? leaf(plain(one)) : tree(one, depth + 1)));
  if (entries.length > ITEMS) shown.push(el("li", { class: "soft" }, `and ${entries.length - ITEMS} more`));
  return el("ul", { class: "tree" }, shown);
}

function leaf(value) {
  const kind = value === null ? "null" : typeof value;
  const text = String(value);
  return el("span", { class: `value ${kind}` }, visible(text.length > TEXT ? `${whole(text.slice(0, TEXT))}…` : text));
}

// Deep inside, a value is its JSON.
function plain(value) {
  return JSON.stringify(value, (_, one) => (one instanceof Map ? Object.fromEntries(one) : one)) ?? "…";
}
