// Requests to the server of this page.

import { proof } from "./key.js";

class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

const NO_SERVER = "The web server does not answer. Start it again with `runner web`, and keep its address.";
const NO_COOKIE = "This browser has no access any more. Open the address that `runner web` printed.";

async function ask(path, options) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", ...options, headers: { "X-Runner": proof, ...options.headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(NO_SERVER, 0);
  }
  const found = await answer.json().catch(() => null);
  if (answer.ok) return found;
  if (answer.status === 401) throw new ApiError(NO_COOKIE, 401);
  throw new ApiError(found?.error ?? `The web server answered ${answer.status}.`, answer.status);
}

export const get = (path, signal) => ask(path, { signal });

/** Change something. Returns what the server says about it. */
export const post = (path, body = {}) =>
  ask(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

/** The path of a run, with a query of those values that are not empty. */
export function path(run, rest = "", query = {}) {
  const used = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const text = new URLSearchParams(used).toString();
  return `/api/runs/${run}${rest}${text ? `?${text}` : ""}`;
}
