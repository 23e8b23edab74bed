// Holds the stream of this browser, for all its tabs.

import { Hub } from "./hub.js";

const hub = new Hub("/api/events", location.hash.slice(1));

self.addEventListener("connect", (event) => {
  const [port] = event.ports;
  const leave = hub.join((message) => port.postMessage(message));
  port.addEventListener("message", ({ data }) => {
    if (data.leave) leave();
    // a tab holds the lock of this name as long as it lives: whoever gets it after that knows that it is gone
    if (data.lock && navigator.locks) navigator.locks.request(data.lock, leave);
  });
  port.start();
});
