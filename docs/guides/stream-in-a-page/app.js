import { createElement as h, useState } from "react";
import { createRoot } from "react-dom/client";
import { StreamingMessage } from "./streaming-message.js";
import { useRunnerStream } from "./use-runner-stream.js";

function Ask() {
  const [prompt, setPrompt] = useState("Why is the sky blue?");
  const answer = useRunnerStream();
  const submit = (event) => {
    event.preventDefault();
    answer.ask({ prompt, params: { max_tokens: 400 } });
  };
  return h("main", null,
    h("h1", null, "Ask"),
    h("form", { onSubmit: submit },
      h("label", null, "Prompt ", h("textarea", { value: prompt, onChange: (event) => setPrompt(event.target.value) })),
      h("button", { type: "submit" }, "Ask")),
    h(StreamingMessage, answer));
}

createRoot(document.getElementById("root")).render(h(Ask));
