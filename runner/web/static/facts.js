// What is known of a run, from its session if that is running, else from the store: the same words for both.

import { money } from "./format.js";

// Rows that are done, failed and left; they add up to those that are wanted.
function settled({ all_done: done, all_failed: failed, left }) {
  return { wanted: done + failed + left, done, failed, left };
}

// the reasons with which a session ends where it was asked to
const AS_ASKED = /^(as asked by|after the sample) /, WAITS = /^rows wait at /;

const ASKED = /-asked-in-[\w-]+\.session$/;

const STATES = {
  running: { word: "running", tone: "accent" },
  paused: { word: "paused", tone: "wait" },
  waiting: { word: "waiting", tone: "wait" },
  stopping: { word: "stopping", tone: "wait" },
  finished: { word: "finished", tone: "done" },
  interrupted: { word: "interrupted", tone: "wait" },
  limited: { word: "limited", tone: "quiet" },
  gone: { word: "process gone", tone: "failed" },
};

function stateOf(run, live, lanes) {
  const { finished, stop_reason: why } = live?.finished ?? {};
  if (live?.finished) return finished ? "finished" : WAITS.test(why) ? "waiting" : why ? "interrupted" : "limited";
  if (live?.gone) return "gone";
  if (live?.known) {
    if (live.stopping) return "stopping";
    if (live.paused) return "paused";
    return lanes.length && lanes.every((lane) => lane.blocked) ? "waiting" : "running";
  }
  if (run?.active) return "running";
  if (run?.finished_at) return "finished";
  return WAITS.test(run?.stop_reason) ? "waiting" : AS_ASKED.test(run?.stop_reason) ? "limited" : "interrupted";
}

/** run: as `runner list --json` has it, or null. books: its totals, or null. live: its session, or undefined. */
export function facts(run, books, live) {
  const progress = live?.progress ?? null;
  const lanes = progress?.pace?.lanes ?? [];
  const isLive = Boolean(live?.known && !live.finished && !live.gone);
  const state = stateOf(run, live, lanes);
  const wanted = (run?.rows ?? 0) * (run?.answers ?? 1);
  const summary = live?.finished ?? null;
  // the server of a run ends with it, so the last word of its session may be newer than the store was when it was read
  const last = summary ?? run, done = last?.done ?? 0, failed = last?.failed ?? 0;
  const stored = { wanted, done, failed, left: Math.max(0, wanted - done - failed) };
  const counts = isLive && progress ? settled(progress) : stored;
  const sum = (name) => lanes.reduce((all, lane) => all + (lane[name] ?? 0), 0);
  return {
    ...STATES[state], state, isLive, ...counts,
    inFlight: isLive ? (progress?.in_flight ?? live.open) : 0,
    slots: sum("slots"), ceiling: sum("ceiling"), waitingRows: sum("waiting_rows"),
    reused: run?.reused ?? 0,
    rowsPerS: isLive ? progress?.rows_per_s ?? null : null,
    tokensPerS: isLive ? progress?.tokens_per_s ?? null : null,
    leftS: isLive && !live.paused ? progress?.left_s ?? null : null,
    cost: (isLive ? progress?.cost : null) ?? summary?.cost ?? books?.cost ?? run?.cost ?? null,
    projected: (isLive ? progress?.cost_projected : null) ?? summary?.cost_projected ?? books?.cost_projected ?? null,
    // null: more than anybody knows, as answers had no limit
    perhaps: (summary ?? books ?? {}).cost_perhaps,
    outputTokens: books?.output_tokens ?? null, inputTokens: books?.input_tokens ?? null,
    reason: summary?.stop_reason ?? (isLive ? live.stopping?.reason : run?.stop_reason) ?? null,
    why: isLive ? whys(live, lanes, progress) : [],
    // prompts that were asked one by one have no input that could be read again
    canResume: (["interrupted", "limited", "gone"].includes(state) || (state === "waiting" && !isLive)) && !ASKED.test(run?.input), canRetry: state !== "running" && !ASKED.test(run?.input),
    limits: lanes, time: (isLive ? progress?.time : null) ?? summary?.time ?? null,
    workers: progress?.pace?.workers ?? null,
  };
}

/** What stands beside the cost: what it will be, or what may come on top of it. */
export function besideCost(now) {
  if (now.cost === null) return "no price is known";
  if (now.projected !== null && now.isLive) return `about ${money(now.projected)} in all`;
  if (now.perhaps === null) return "perhaps more: answers had no limit";
  return now.perhaps ? `perhaps ${money(now.perhaps)} more` : "";
}

// Why requests wait, one sentence each.
function whys(live, lanes, progress) {
  const found = live.paused ? ["Paused: no new request is sent. Continue sends them again."] : [];
  for (const lane of lanes) if (lane.waiting && !live.paused) found.push(lanes.length > 1 ? `${lane.model}: ${lane.waiting}` : lane.waiting);
  const retrying = progress?.pace?.retrying;
  if (retrying) found.push(retrying);
  return found;
}
