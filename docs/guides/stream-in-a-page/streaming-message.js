import { createElement as h, useLayoutEffect, useRef } from "react";

const NEAR = 32;

// An answer that grows. It stays scrolled to its end, unless the reader has scrolled up. A screen reader hears it when it is whole,
// and not word by word.
export function StreamingMessage({ status, text, tokens, estimated, waiting, error, done, stop, retry }) {
  const box = useRef(null);
  const height = useRef(0);
  const open = status === "waiting" || status === "streaming";

  useLayoutEffect(() => {
    const { scrollHeight, scrollTop, clientHeight } = box.current;
    // it was at its end before this text came
    if (height.current - scrollTop - clientHeight < NEAR) box.current.scrollTop = scrollHeight;
    height.current = scrollHeight;
  }, [text]);

  if (status === "idle") return h("div", { ref: box });
  const cost = done?.cost == null ? "" : `, $${done.cost.toPrecision(2)}`;
  return h("section", { className: "message", "aria-label": "Answer" },
    h("div", { className: "text", ref: box, tabIndex: 0, role: "group", "aria-label": "Text of the answer" },
      h("p", { "aria-live": "polite", "aria-busy": open }, text),
      open && h("span", { className: "typing", role: "img", "aria-label": "The model is writing" }, h("i"), h("i"), h("i"))),
    error && h("p", { className: "error", role: "alert" }, `${error.error}. ${error.todo}`),
    h("footer", null,
      h("output", { "aria-live": "off" }, `${estimated && open ? "about " : ""}${tokens} tokens${cost}`),
      waiting && h("span", null, waiting),
      open ? h("button", { type: "button", onClick: stop }, "Stop") : h("button", { type: "button", onClick: retry }, "Retry")));
}
