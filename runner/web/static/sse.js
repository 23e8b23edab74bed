// Server-sent events over fetch: the place in the stream is kept, and a lost connection comes back after 1, 2, 4, 8 s.

import { EventDecoder } from "./runner-stream.js";

const WAITS_MS = [1000, 2000, 4000, 8000];
// the server says something every 15 s; a connection that has been silent for three times as long is dead
const SILENT_MS = 45000;
// characters of a line: all that is open when a page begins
const LONGEST = 256 << 20;

/** A stream that is always there. told(event) gets its events, linked({state, at}) "connecting", "open", "lost" or "refused". */
export class Source {
  #last = null;
  #tries = 0;
  #stop = null;
  #wake = null;
  #closed = false;

  constructor(url, proof, told, linked) {
    this.url = url;
    this.proof = proof;
    this.told = told;
    this.linked = linked;
    addEventListener("online", () => this.#wake?.());
    this.open();
  }

  /** Begin, also once it was refused. */
  open() {
    this.#run();
  }

  /** Begin with the present state, not behind what was seen. */
  again() {
    this.#last = null;
    this.#stop?.abort();
  }

  close() {
    this.#closed = true;
    this.#stop?.abort();
    this.#wake?.();
  }

  async #run() {
    this.linked({ state: "connecting" });
    while (!this.#closed) {
      const refused = await this.#read();
      if (this.#closed) return;
      if (refused) {
        // the next server may have other runs under the same numbers
        this.#last = null;
        this.linked({ state: "refused" });
        return;
      }
      const wait = WAITS_MS[Math.min(this.#tries++, WAITS_MS.length - 1)];
      this.linked({ state: "lost", again: Date.now() + wait });
      await new Promise((done) => {
        const timer = setTimeout(done, wait);
        this.#wake = () => { clearTimeout(timer); done(); };
      });
      this.#wake = null;
    }
  }

  // Returns true where another try would be refused as well.
  async #read() {
    this.#stop = new AbortController();
    let timer;
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.#stop.abort(), SILENT_MS);
    };
    alive();
    try {
      const headers = { Accept: "text/event-stream", "X-Runner": this.proof, ...(this.#last ? { "Last-Event-ID": this.#last } : {}) };
      const answer = await fetch(this.url, { headers, cache: "no-store", signal: this.#stop.signal });
      if (answer.status === 401 || answer.status === 403) return true;
      if (!answer.ok || !answer.body) return false;
      this.linked({ state: "open" });
      const parser = new EventDecoder(LONGEST);
      const reader = answer.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return false;
        alive();
        this.#tries = 0;
        for (const event of parser.push(value)) {
          this.told(event);
          // something before it is missing: whoever took it wants the state, so it is no place to go on behind
          if (this.#stop.signal.aborted) return false;
          // what was taken is behind us, and not before
          if (event.id) this.#last = event.id;
        }
      }
    } catch {
      // the network, or the end of waiting: the loop tries again, and says so meanwhile
      return false;
    } finally {
      clearTimeout(timer);
    }
  }
}
