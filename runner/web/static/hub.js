// The one stream of this browser. It runs in the shared worker, or in one of the tabs where there is none.

import { Live } from "./live.js";
import { Source } from "./sse.js";

export class Hub {
  #runs = new Map();
  #clients = new Set();
  #link = { state: "connecting" };

  constructor(url, proof) {
    this.source = new Source(url, proof, (event) => this.#told(event), (link) => this.#linked(link));
  }

  /** Send what comes to one more tab, what is known first. Returns how it leaves. */
  join(send) {
    // whoever opens the page may have come by its address, and then there is access again
    if (this.#link.state === "refused") this.source.open();
    send({ link: this.#link });
    for (const live of this.#runs.values()) if (live.known) send({ kind: "state", run: live.run, data: live.frame() });
    this.#clients.add(send);
    return () => this.#clients.delete(send);
  }

  close() {
    this.source.close();
  }

  #all(message) {
    for (const send of this.#clients) send(message);
  }

  #linked(link) {
    this.#link = link;
    this.#all({ link });
  }

  #told({ event: kind, data: text }) {
    const data = JSON.parse(text);
    if (kind === "runs") this.#ended(data.running);
    this.#frame(kind, data.run ?? null, data);
  }

  // Sessions whose last word nobody has heard.
  #ended(running) {
    for (const run of this.#runs.keys()) if (!running.includes(run)) this.#frame("ended", run, { run });
  }

  #frame(kind, run, data) {
    if (run === null) {
      this.#all({ kind, run, data });
      return;
    }
    if (!this.#runs.has(run)) this.#runs.set(run, new Live(run));
    const live = this.#runs.get(run);
    const whole = live.take(kind, data);
    this.#all({ kind, run, data });
    if (["finished", "gone", "ended"].includes(kind)) this.#runs.delete(run);
    if (!whole) this.source.again();
  }
}
