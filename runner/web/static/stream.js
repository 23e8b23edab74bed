// How a tab gets at the one stream of its browser: by the shared worker, else from the tab that leads, else by its own.

import { Hub } from "./hub.js";
import { proof } from "./key.js";

const NAME = "runner-events";

/** Hear everything: take({link}) or take({kind, run, data}). */
export function listen(take) {
  if (window.SharedWorker) byWorker(take);
  else if (navigator.locks && window.BroadcastChannel) byLeader(take);
  else new Hub("/api/events", proof).join(take);
}

function byWorker(take) {
  const connect = () => {
    // a worker has no storage; what stands behind # is sent to nobody
    const worker = new SharedWorker(`/static/worker.js#${proof}`, { type: "module", name: NAME });
    worker.addEventListener("error", () => take({ link: { state: "lost" } }));
    worker.port.addEventListener("message", ({ data }) => take(data));
    worker.port.start();
    const lock = `${NAME}-${Math.random()}`;
    // the worker asks for it as well, and gets it when this tab is gone; so it hears of it when this tab has it, and not before
    navigator.locks?.request(lock, () => new Promise((free) => {
      release = free;
      worker.port.postMessage({ lock });
    }));
    return worker.port;
  };
  let release = null;
  let port = connect();
  addEventListener("pagehide", () => { port.postMessage({ leave: true }); release?.(); });
  // a page that the browser had put aside begins anew
  addEventListener("pageshow", (event) => { if (event.persisted) port = connect(); });
}

// Whoever has the lock has the stream, and passes on what it hears. When that tab is closed, the next one gets both.
function byLeader(take) {
  const channel = new BroadcastChannel(NAME);
  const me = Math.random();
  let leads = false;
  channel.addEventListener("message", ({ data }) => {
    if (!leads && data.message && (data.to === undefined || data.to === me)) take(data.message);
  });
  navigator.locks.request(NAME, () => new Promise(() => {
    leads = true;
    const hub = new Hub("/api/events", proof);
    hub.join(take);
    hub.join((message) => channel.postMessage({ message }));
    channel.addEventListener("message", ({ data }) => {
      if (data.join) hub.join((message) => channel.postMessage({ message, to: data.join }))();
    });
  }));
  channel.postMessage({ join: me });
}
