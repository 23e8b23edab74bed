// JSON that is still coming: the value as far as it is known.

/** Where JSON begins in an answer: at once, or behind a code fence. Returns the text from there, or null. */
export function jsonIn(text) {
  const found = /^\s*(?:```(?:json)?\s*)?(?=[{[])/.exec(text);
  return found ? text.slice(found[0].length) : null;
}

class Unfinished extends Error {}

/** Return {value, whole}, or null for what is no JSON. Texts and lists may end in the middle; a number at the end is left out. */
export function partial(text) {
  const state = { text, at: 0, depth: 0 };
  try {
    return read(state);
  } catch (error) {
    if (error instanceof Unfinished || error instanceof SyntaxError) return null;
    throw error;
  }
}

function space(state) {
  while (/\s/.test(state.text[state.at] ?? "x")) state.at++;
}

function read(state) {
  space(state);
  const first = state.text[state.at];
  if (first === undefined) throw new Unfinished();
  if (first === '"') return string(state);
  if (first === "{" || first === "[") {
    if (++state.depth > 100) throw new SyntaxError("too deep");
    const found = first === "{" ? object(state) : list(state);
    state.depth--;
    return found;
  }
  return plain(state);
}

function plain(state) {
  const found = /^[-+.\w]+/.exec(state.text.slice(state.at, state.at + 400))?.[0];
  if (!found) throw new SyntaxError("no value");
  if (state.at + found.length >= state.text.length) throw new Unfinished();
  state.at += found.length;
  return { value: JSON.parse(found), whole: true };
}

function string(state) {
  const { text } = state;
  let end = state.at + 1;
  while (end < text.length && text[end] !== '"') end += text[end] === "\\" ? 2 : 1;
  const whole = end < text.length;
  let raw = text.slice(state.at + 1, Math.min(end, text.length));
  // an escape at the end may be a part of one
  if (!whole) raw = raw.replace(/\\(?:u[0-9a-fA-F]{0,3})?$/, (cutOff, at) => (/(?:^|[^\\])(?:\\\\)*$/.test(raw.slice(0, at)) ? "" : cutOff));
  // as may be the second half of a character
  if (!whole) raw = raw.replace(/(?:[\ud800-\udbff]|\\u[dD][89abAB][0-9a-fA-F]{2})$/, "");
  state.at = whole ? end + 1 : text.length;
  // a line break within a text is no JSON, and models write it
  const value = JSON.parse(`"${raw.replace(/[\u0000-\u001f]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`)}"`);
  return { value, whole };
}

function list(state) {
  const value = [];
  state.at++;
  for (;;) {
    space(state);
    if (state.text[state.at] === "]") { state.at++; return { value, whole: true }; }
    if (state.text[state.at] === ",") { state.at++; continue; }
    const found = unless(() => read(state));
    if (!found) return { value, whole: false };
    value.push(found.value);
    if (!found.whole) return { value, whole: false };
  }
}

function object(state) {
  const value = new Map();
  state.at++;
  for (;;) {
    space(state);
    if (state.text[state.at] === "}") { state.at++; return { value, whole: true }; }
    if (state.text[state.at] === ",") { state.at++; continue; }
    if (state.text[state.at] === undefined) return { value, whole: false };
    if (state.text[state.at] !== '"') throw new SyntaxError("no key");
    const key = string(state);
    space(state);
    if (!key.whole || state.text[state.at] === undefined) return { value, whole: false };
    if (state.text[state.at] !== ":") throw new SyntaxError("no colon");
    state.at++;
    const found = unless(() => read(state));
    value.set(key.value, found ? found.value : undefined);
    if (!found || !found.whole) return { value, whole: false };
  }
}

function unless(act) {
  try {
    return act();
  } catch (error) {
    if (error instanceof Unfinished) return null;
    throw error;
  }
}
