// Numbers, money and times as people read them.

export const number = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en"));

/** "1 row", "2 rows". */
export const plural = (count, word) => `${number(count)} ${word}${count === 1 ? "" : word.endsWith("s") ? "es" : "s"}`;

/** A number with three digits: 0.123, 12.3, 12,345. */
export function digits(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) >= 100 || Number.isInteger(value) ? number(value) : String(Number(value.toPrecision(3)));
}

/** The same in the width of an axis. */
export function short(value) {
  const size = Math.abs(value);
  if (size >= 1e9) return `${digits(value / 1e9)}G`;
  if (size >= 1e6) return `${digits(value / 1e6)}M`;
  return size >= 1e4 ? `${digits(value / 1e3)}k` : digits(value);
}

/** Dollars. null is a price that is not known, and never 0. */
export function money(value) {
  if (value === null || value === undefined) return "unknown";
  if (value === 0) return "$0";
  if (value >= 100) return `$${Math.round(value).toLocaleString("en")}`;
  return `$${value >= 0.0995 ? value.toFixed(2) : Number(value.toPrecision(2))}`;
}

/** A length of time: 0.42 s, 12 s, 4 min 10 s, 2 h 5 min, 3 d 4 h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0.0995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${Number(seconds.toPrecision(2))} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  const whole = Math.round(seconds);
  for (const [size, unit, part, name] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    if (whole < size) continue;
    const rest = Math.floor((whole % size) / part);
    return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${name}` : ""}`;
  }
  return `${whole} s`;
}

/** A share, without ever rounding to 0 % or to 100 % what is neither. */
export function percent(part, whole) {
  if (!whole) return "0 %";
  const share = (100 * part) / whole;
  if (part > 0 && share < 0.1) return "< 0.1 %";
  if (part < whole && share > 99.9) return "> 99.9 %";
  return `${share >= 9.95 ? (share > 99 && part < whole ? share.toFixed(1) : Math.round(share)) : Number(share.toPrecision(2))} %`;
}

const two = (value) => String(value).padStart(2, "0");

/** An instant in the zone of the viewer: the time today, else the day too. */
export function clock(seconds, { second = true, now = Date.now() } = {}) {
  const at = new Date(seconds * 1000);
  const text = `${two(at.getHours())}:${two(at.getMinutes())}${second ? `:${two(at.getSeconds())}` : ""}`;
  if (at.toDateString() === new Date(now).toDateString()) return text;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${text}`;
}

/** "12 s ago". */
export function ago(seconds, now = Date.now() / 1000) {
  const since = Math.max(0, now - seconds);
  return since < 1 ? "now" : `${duration(Math.floor(since))} ago`;
}

/** The name of a file, without its folders; of prompts that were asked on this page, what they are. */
export function base(path) {
  const asked = /-asked-in-page-(?:job|run-(\d+))/.exec(path);
  if (asked) return `prompts asked on this page, with the settings of ${asked[1] ? `run ${asked[1]}` : "the job file"}`;
  return String(path).split(/[\\/]/).pop() || String(path);
}

/** What the statuses of rows and the states of runs are called. */
export const by = { terminal: "a terminal", page: "this page", api: "a program", agent: "an agent" };
