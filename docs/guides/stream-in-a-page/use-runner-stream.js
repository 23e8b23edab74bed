import { useCallback, useEffect, useRef, useState } from "react";
import { IDLE, reduce, stream } from "/static/runner-stream.js";

// The answer to one prompt, as it comes. Returns {status, text, reasoning, tokens, estimated, waiting, error, done}, and `ask`,
// `stop` and `retry`. options: those of `stream`. A component that goes away ends its request.
export function useRunnerStream(options) {
  const [state, setState] = useState(IDLE);
  const answer = useRef(null);
  const asked = useRef(null);
  const given = useRef(options);
  given.current = options;

  const ask = useCallback(async (prompt) => {
    answer.current?.cancel();
    const mine = stream(prompt, given.current);
    [answer.current, asked.current] = [mine, prompt];
    setState({ ...IDLE, status: "waiting" });
    for await (const event of mine) {
      // another prompt was asked meanwhile
      if (answer.current !== mine) return;
      setState((before) => reduce(before, event));
    }
  }, []);

  const stop = useCallback(() => answer.current?.cancel(), []);
  const retry = useCallback(() => asked.current && ask(asked.current), [ask]);

  useEffect(() => () => {
    const mine = answer.current;
    answer.current = null;
    mine?.cancel();
  }, []);

  return { ...state, ask, stop, retry };
}
