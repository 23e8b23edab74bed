// What is known of a running session: the frames of its feed, added up. The same in the worker and in each tab.

const NOTES = 50;
// half an hour
const SAMPLES = 3600;
const KEPT_MS = 20000;

/** Characters as the session counts them: an emoji is one, and two in a string here. */
function characters(text) {
  let count = text.length;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code >= 0xd800 && code <= 0xdbff && at + 1 < text.length) { count--; at++; }
  }
  return count;
}

function cut(text, most) {
  let at = 0;
  for (let count = 0; count < most && at < text.length; count++) {
    const code = text.charCodeAt(at);
    at += code >= 0xd800 && code <= 0xdbff && at + 1 < text.length ? 2 : 1;
  }
  return text.slice(0, at);
}

export const keyOf = (one) => `${one.answer_number ?? 1} ${one.id}`;

/** A text that grows. length: its characters; the first ones may be missing, where there were too many to send. */
export class Grown {
  text = "";
  length = 0;
  #from = 0;

  /** Begin with a text in front of which `from` characters are left out. */
  begin(from, text) {
    this.text = text;
    this.#from = from;
    this.length = from + characters(text);
  }

  /** Characters left out at the beginning. */
  get from() {
    return this.#from;
  }

  /** Add a piece that begins behind so many characters. Returns false if some before it are missing. */
  add(at, piece) {
    if (at > this.length) return false;
    if (at < this.length) {
      this.#from = Math.min(this.#from, at);
      this.text = at > this.#from ? cut(this.text, at - this.#from) : "";
      this.length = at;
    }
    this.text += piece;
    this.length += characters(piece);
    return true;
  }
}

/** One running session. `changed` rises with every frame. */
export class Live {
  constructor(run) {
    this.run = run;
    this.changed = 0;
    this.reset();
  }

  reset() {
    this.known = false;
    this.session = null;
    this.progress = null;
    this.paused = false;
    this.answers = new Map();
    this.notes = [];
    this.stopping = null;
    this.finished = null;
    this.gone = false;
    // requests in flight, each half second: [at, number]
    this.samples = [];
    // seconds by which the clock of the session is ahead of the one here
    this.skew = 0;
  }

  /** Take a frame. Returns false where one before it is missing, so that the state has to be asked for anew. */
  take(kind, data) {
    this.changed++;
    this.known = true;
    const taken = this[`_${kind}`];
    return taken ? taken.call(this, data) !== false : true;
  }

  _state(data) {
    // the notes come with the state
    const kept = data.session === this.session ? { samples: this.samples } : {};
    this.reset();
    Object.assign(this, { samples: data.samples ?? [] }, kept, { known: true, session: data.session ?? null });
    if (data.progress) this._progress(data.progress);
    this.paused = Boolean(data.paused ?? this.paused);
    for (const note of data.notes ?? []) this._note({ note });
    for (const one of data.answers ?? []) {
      const answer = this.#opened(one);
      answer.text.begin(one.text_at ?? 0, one.text ?? "");
      answer.reasoning.begin(one.reasoning_at ?? 0, one.reasoning ?? "");
    }
    if (data.stopping) this.stopping = data.stopping;
    if (data.finished) this._finished(data.finished);
  }

  _progress(data) {
    this.progress = data;
    const at = data.pace?.at;
    this.paused = Boolean(data.paused);
    if (!at) return;
    this.skew = at - Date.now() / 1000;
    if (at === this.samples.at(-1)?.[0]) return;
    this.samples.push([at, data.in_flight]);
    if (this.samples.length > SAMPLES) this.samples.shift();
  }

  #opened(one) {
    const answer = { ...one, text: new Grown(), reasoning: new Grown(), closed: null, changed: 0 };
    this.answers.set(keyOf(one), answer);
    return answer;
  }

  _open(data) {
    for (const one of data.answers) {
      const known = this.answers.get(keyOf(one));
      if (!known || known.closed || known.attempt !== one.attempt) this.#opened(one);
    }
  }

  _text(data) {
    let whole = true;
    for (const piece of data.pieces) {
      const answer = this.answers.get(keyOf(piece));
      // of an answer that is over, or of an earlier attempt, nothing is missing
      if (!answer || answer.closed || answer.attempt !== piece.attempt) continue;
      whole = answer[piece.kind === "reasoning" ? "reasoning" : "text"].add(piece.at, piece.text) && whole;
      answer.changed++;
    }
    return whole;
  }

  _closed(data) {
    for (const one of data.answers) {
      const answer = this.answers.get(keyOf(one));
      if (!answer || answer.attempt !== one.attempt) continue;
      answer.closed = { ...one, at: Date.now() };
      answer.changed++;
    }
    this.forget();
  }

  /** Leave out answers that have been over for a while. */
  forget() {
    const now = Date.now();
    for (const [key, answer] of this.answers) if (answer.closed && now - answer.closed.at > KEPT_MS) this.answers.delete(key);
  }

  _note(data) {
    this.notes = [...this.notes, data.note].slice(-NOTES);
  }

  _stopping(data) {
    this.stopping = data;
  }

  _finished(data) {
    this.finished = data;
    for (const answer of this.answers.values()) answer.closed ??= { at: Date.now(), error_code: null, finish_reason: null, ended: true };
  }

  /** The process has ended without saying so. */
  _gone() {
    this.gone = true;
    for (const answer of this.answers.values()) answer.closed ??= { at: Date.now(), error_code: null, finish_reason: null, ended: true };
  }

  /** The session has ended while nobody listened. */
  _ended() {
    this._gone();
    this.gone = false;
    this.known = false;
  }

  /** The requests that are under way. */
  get open() {
    let count = 0;
    for (const answer of this.answers.values()) if (!answer.closed) count++;
    return count;
  }

  /** All of it as one frame of kind `state`, for a tab that comes later. */
  frame() {
    const answers = [...this.answers.values()].filter((one) => !one.closed);
    return {
      run: this.run, session: this.session, progress: this.progress, paused: this.paused, notes: this.notes,
      stopping: this.stopping, finished: this.finished, samples: this.samples,
      answers: answers.map((one) => ({
        ...one, closed: undefined, text: one.text.text, text_at: one.text.from, reasoning: one.reasoning.text, reasoning_at: one.reasoning.from,
      })),
    };
  }
}
