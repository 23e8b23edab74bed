// Streams the answer to one prompt from runner's API, POST /api/stream. An ES module without dependencies, for any page.
//
//   import { stream } from "/static/runner-stream.js";
//   for await (const event of stream({ prompt: "Why is the sky blue?" })) {
//     if (event.type === "token") show(event.text);
//   }
//
// Events: "metadata", "token", "done", "error" as docs/reference/stream-api.md has them, and "retry" before a prompt is asked once
// more. The last one is always "done" or "error". Nothing is read ahead: a page that takes its time holds up the provider.

/** Seconds before the second, third and fourth try. */
export const WAITS_S = [1, 2, 4];
const LONGEST_LINE = 8 << 20;
const PASSING = new Set([408, 425, 429, 500, 502, 503, 504]);
// codes of answers that broke off
const BREAKS = new Set(["network", "cut", "truncated", "overloaded", "server_error", "timeout_silence"]);

/** Turns the bytes of a stream of server-sent events into events, however they are split. */
export class EventDecoder {
  // takes one byte order mark away at the beginning, and puts characters together that were split
  #utf8 = new TextDecoder();
  #parts = [];
  #size = 0;
  #afterCR = false;
  #data = [];
  #event = "";
  #id = "";
  #longest;

  constructor(longest = LONGEST_LINE) {
    this.#longest = longest;
  }

  /** Returns the events that end in these bytes: {event, data, id}. */
  push(bytes) {
    const text = this.#utf8.decode(bytes, { stream: true });
    const events = [];
    let begin = this.#afterCR && text.startsWith("\n") ? 1 : 0;
    if (text) this.#afterCR = false;
    const ends = /\r\n?|\n/g;
    ends.lastIndex = begin;
    for (let end = ends.exec(text); end !== null; end = ends.exec(text)) {
      this.#parts.push(text.slice(begin, end.index));
      begin = ends.lastIndex;
      // the line feed of this carriage return may come with the next bytes
      this.#afterCR = end[0] === "\r" && begin === text.length;
      this.#line(this.#parts.join(""), events);
      this.#parts = [];
      this.#size = 0;
    }
    if (begin < text.length) {
      this.#parts.push(text.slice(begin));
      this.#size += text.length - begin;
      if (this.#size > this.#longest) throw new Error("a line of the stream is too long");
    }
    return events;
  }

  #line(line, events) {
    if (line === "") {
      if (this.#data.length) events.push({ event: this.#event || "message", data: this.#data.join("\n"), id: this.#id });
      this.#data = [];
      this.#event = "";
      return;
    }
    const colon = line.indexOf(":");
    // a comment, such as a heartbeat
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    const rest = colon < 0 ? "" : line.slice(colon + 1);
    const value = rest.startsWith(" ") ? rest.slice(1) : rest;
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#event = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
  }
}

/**
 * Asks a prompt, and returns what streams its answer: an async iterable of events, with `cancel()`.
 *
 * prompt: {prompt}, {messages} or {row}, with {run, model, params}. Options: url, of the API; token, for a program, as a page has
 * its cookie; headers; signal, an AbortSignal; waits, seconds before each further try, [] for none; retryShown: ask once more also
 * when some of the answer has been shown (an event "retry" says that it starts over).
 */
export function stream(prompt, options = {}) {
  return new Answer(prompt, options);
}

class Answer {
  #prompt;
  #options;
  #abort = new AbortController();
  /** Its id at the server, once it has one. */
  id = null;

  constructor(prompt, options) {
    this.#prompt = prompt;
    this.#options = { url: "/api/stream", waits: WAITS_S, headers: {}, retryShown: false, ...options };
  }

  /** Ends the answer, and the request at the provider. The last event is then an error with the code "cancelled_by_user". */
  cancel() {
    if (this.#abort.signal.aborted) return;
    this.#abort.abort();
    // the connection ends too; a proxy between here and there may keep its own open
    if (this.id !== null) {
      const url = `${this.#options.url}/${encodeURIComponent(this.id)}`;
      fetch(url, { method: "DELETE", headers: this.#headers(), keepalive: true }).catch(() => {});
    }
  }

  async *[Symbol.asyncIterator]() {
    const outer = this.#options.signal;
    const leave = () => this.cancel();
    outer?.addEventListener("abort", leave, { once: true });
    if (outer?.aborted) this.cancel();
    let over = false;
    try {
      for (let tries = 0; ; tries++) {
        const wait = this.#options.waits[tries];
        let shown = false;
        let last = null;
        for await (const event of this.#once()) {
          if (event.type === "token") shown = true;
          if (event.type === "error") last = event;
          else yield event;
          if (event.type === "done") over = true;
        }
        if (over) return;
        // a server that says so is not asked again behind what was shown
        const again = wait !== undefined && (shown ? this.#options.retryShown && BREAKS.has(last.code) : last.retry);
        if (!again || this.#abort.signal.aborted) {
          over = true;
          yield this.#abort.signal.aborted && last.code !== "cancelled_by_user" ? cancelled() : last;
          return;
        }
        const waits = Math.max(wait, last.retry_after_s ?? 0);
        yield { type: "retry", try: tries + 2, wait_s: waits, error: last.error };
        await this.#sleep(waits);
      }
    } finally {
      outer?.removeEventListener("abort", leave);
      // whoever has left the loop wants no more
      if (!over) this.cancel();
    }
  }

  #headers() {
    const token = this.#options.token;
    const own = token ? { Authorization: `Bearer ${token}` } : {};
    return { "Content-Type": "application/json", "X-Runner": "1", ...own, ...this.#options.headers };
  }

  /** Asks once. Yields events, of which the last is "done" or "error". */
  async *#once() {
    this.id = null;
    const signal = this.#abort.signal;
    let reader = null;
    try {
      const body = JSON.stringify(this.#prompt);
      const response = await fetch(this.#options.url, { method: "POST", headers: this.#headers(), body, signal });
      if (!response.ok) {
        yield await refusal(response);
        return;
      }
      reader = response.body.getReader();
      const decoder = new EventDecoder();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        for (const event of joined(decoder.push(value))) {
          if (event.id && event.type === "metadata") this.id = event.id;
          yield event;
          if (event.type === "done" || event.type === "error") return;
        }
      }
      yield broken("the connection ended before the answer did");
    } catch (error) {
      yield signal.aborted ? cancelled() : broken(`the server was not reached, or the connection broke: ${error.message}`);
    } finally {
      reader?.cancel().catch(() => {});
    }
  }

  #sleep(seconds) {
    const signal = this.#abort.signal;
    return new Promise((resolve) => {
      const timer = setTimeout(end, seconds * 1000);
      function end() {
        clearTimeout(timer);
        signal.removeEventListener("abort", end);
        resolve();
      }
      if (signal.aborted) end();
      else signal.addEventListener("abort", end);
    });
  }
}

/** Returns events as they are told; pieces that came together and follow on each other are one. */
function joined(events) {
  const told = [];
  // where the last piece ends; `at` counts characters, and not the units of a JavaScript string
  let end = 0;
  for (const { event, data } of events) {
    const next = { ...JSON.parse(data), type: event };
    const last = told[told.length - 1];
    if (next.type !== "token") {
      told.push(next);
      continue;
    }
    const follows = last?.type === "token" && last.kind === next.kind && last.attempt === next.attempt && end === next.at;
    if (follows) last.text += next.text;
    else told.push(next);
    end = next.at + length(next.text);
  }
  return told;
}

async function refusal(response) {
  let said = {};
  try {
    said = await response.json();
  } catch {
    // a proxy may answer with a page
  }
  const after = Number(response.headers.get("Retry-After"));
  return {
    type: "error",
    code: said.code ?? `http_${response.status}`,
    error: said.error ?? `the server answered ${response.status}`,
    todo: said.todo ?? (response.status === 401 ? "Open the address that runner printed." : "Correct what the sentence names."),
    retry: PASSING.has(response.status),
    retry_after_s: Number.isFinite(after) ? after : 0,
  };
}

function broken(error) {
  return { type: "error", code: "network", error, todo: "See that `runner web` is running, then ask again.", retry: true };
}

function cancelled() {
  return { type: "error", code: "cancelled_by_user", error: "cancelled by the one who asked", todo: "Ask again if you want the answer.", retry: false };
}

function length(text) {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

/** What is known of an answer before anything has come. */
export const IDLE = Object.freeze({
  status: "idle", text: "", reasoning: "", tokens: 0, estimated: true, model: null, waiting: null, error: null, done: null,
  // characters of both
  ends: Object.freeze({ text: 0, reasoning: 0 }),
});

/** Returns what is known of an answer after an event. status: "idle", "waiting", "streaming", "done" or "error". */
export function reduce(state, event) {
  switch (event.type) {
    case "metadata": {
      const status = state.text || state.reasoning ? "streaming" : "waiting";
      const tokens = event.output_tokens ?? state.tokens;
      return { ...state, status, tokens, model: event.model, waiting: event.waiting ?? null };
    }
    case "token": {
      const name = event.kind === "reasoning" ? "reasoning" : "text";
      // a piece that begins before the end starts over there, as when a model is asked to repair its answer
      const before = state.ends[name] === event.at ? state[name] : [...state[name]].slice(0, event.at).join("");
      const ends = { ...state.ends, [name]: event.at + length(event.text) };
      return { ...state, status: "streaming", waiting: null, [name]: before + event.text, ends };
    }
    case "retry":
      return { ...IDLE, status: "waiting", waiting: `${event.error}; asked again in ${event.wait_s} s` };
    case "done": {
      const counted = event.usage?.output_tokens ?? null;
      const count = counted === null ? {} : { tokens: counted, estimated: false };
      return { ...state, ...count, status: "done", text: event.text ?? state.text, waiting: null, done: event };
    }
    case "error":
      return { ...state, status: "error", waiting: null, error: event };
    default:
      return state;
  }
}
