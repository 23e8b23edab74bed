// Elements are made here. What came from outside becomes a text node, never markup.

/** Make an element. props: attributes; a function is a listener, null and false are left out. children: elements, texts, lists, null. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === "function") node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, String(value));
  }
  node.append(...children.flat(3).filter((one) => one !== null && one !== undefined && one !== false));
  return node;
}

/** Write a text, if it is another one: a text that stays is not announced, and not selected anew. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Set an attribute, if it is another one; null takes it away. */
export function mark(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

/** Show exactly these elements and texts, and leave those alone that are there already: focus and selection stay. */
export function place(parent, children) {
  let next = parent.firstChild;
  for (const one of children) {
    const child = typeof one === "string" ? document.createTextNode(one) : one;
    if (child === next) next = next.nextSibling;
    else parent.insertBefore(child, next);
  }
  while (next) {
    const after = next.nextSibling;
    next.remove();
    next = after;
  }
}

/** An instant in the zone of the viewer. */
export function time(seconds, text) {
  const at = new Date(seconds * 1000);
  return el("time", { datetime: at.toISOString(), title: FULL.format(at) }, text);
}

const FULL = new Intl.DateTimeFormat("en-GB", { dateStyle: "full", timeStyle: "long" });

const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g;

/** Foreign text with those characters named that cannot be seen, or that turn the order of others around. */
export function visible(text) {
  return String(text).replace(HIDDEN, (one) => {
    const code = one.charCodeAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    return `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
  });
}

/** A sentence with commands between backticks, as elements. */
export const prose = (text) => String(text).split("`").map((part, at) => (at % 2 ? el("code", {}, visible(part)) : visible(part)));

/** A message as a sentence. */
export const sentence = (text) => visible(`${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?…]$/.test(text) ? "" : "."}`);

/** Foreign text on one line, at most so long. */
export function brief(text, most = 160) {
  const part = String(text).slice(0, most * 2).replace(/\s+/g, " ").trim();
  const short = part.length > most || text.length > most * 2 ? `${whole(part.slice(0, most))}…` : part;
  return visible(short);
}

/** A text that was cut, without the half of a character at its begin or end. */
export function whole(text) {
  return text.replace(/^[\udc00-\udfff]/, "").replace(/[\ud800-\udbff]$/, "");
}
