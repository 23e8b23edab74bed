"""What a person can do about each error code, one sentence each."""

ADVICE = {
    "address": "Correct base_url, which is a full URL such as https://host/v1: `runner resume --base-url URL`.",
    "attachment": "Put the file there, make it smaller, or correct its name in the row; then run `runner retry`.",
    "auth": "Put a valid key there, or name another environment variable by --api-key-env; then run `runner resume`.",
    "bad_http": "The answers are not valid HTTP; check the proxy or gateway between you and the model.",
    "bad_request": "Fix the rows, then run `runner retry`; or give it the right settings as options.",
    "bad_row": "Fix the line in the prompt file, then run `runner resume`.",
    "batch_cancelled": "Nothing to do: the batch was cancelled before it came to the request, which was not billed.",
    "batch_expired": "The provider had no time for the request, which was not billed; `runner retry --mode live` asks it live.",
    "batch_missing": "The provider lost the answer, and may have billed it; if that comes again, set mode to live.",
    "batch_not_found": "The key or project may not be the one that sent the batch; set that again, then run `runner resume`.",
    "batch_quota": "Nothing to do: the batch is sent once others at the provider have ended.",
    "batch_refused": "Correct what the provider says, or set mode to live; then run `runner resume`.",
    "batch_too_large": "The provider takes smaller files than runner knows of; set mode to live, then run `runner resume`.",
    "batch_unsupported": "There is no batch API at base_url; correct that or set mode to live, then run `runner resume`.",
    "billing": "Add credit or raise the spending limit at the provider, then run `runner resume`.",
    "budget": "Raise --max-cost, or --max-tokens-total if that was reached: `runner resume --max-cost X`.",
    "cancelled": "Nothing to do: the run was stopped while this request was open; it will be sent again.",
    "cancelled_by_user": "Somebody has cancelled the row while the session ran; `runner retry` asks it again.",
    "closed": "The server drops connections; lower --concurrency, then run `runner retry`.",
    "connect": "Check that the server is running and that base_url has its host and port, then run `runner resume`.",
    "content_policy": "The provider refuses the prompt; change the prompt, or leave the row failed.",
    "context_length": "Shorten the prompt, lower max_tokens, or use a model with a larger context.",
    "cut": "The connection breaks in the middle of answers; check the proxy or gateway, then run `runner retry`.",
    "deadline": "Finished rows are kept; `runner resume` continues.",
    "dns": "Check the host name in base_url and the network, then run `runner resume`.",
    "gave_up": "The server ends answers before the model does; run `runner retry` later, or set what they mean in [finish].",
    "internal": "This is a bug in runner; please report it with the text of the error.",
    "invalid_output": "Answers do not fit the schema. If they end at the limit of their length: `runner retry --max-tokens N`. "
    "Else say in the prompt what is wanted, or raise --repairs; then `runner retry`.",
    "killed": "Nothing to do: the process was killed while this request was open; it was sent again, and may be billed twice.",
    "no_capacity": "The flex tier had no room for so long; run `runner retry` later, or with --tier default.",
    "no_reason": "Ask the operator of the server, then run `runner resume`; or without streams: `runner resume --no-stream`.",
    "wrong_dialect": "Continue with that --provider, and with --base-url if the address changes with it.",
    "malformed_stream": "The server sends malformed events; run `runner retry`, and report this to the operator of the server.",
    "not_an_api": "Check base_url: it does not point at an LLM API.",
    "not_found": "Correct model or base_url: `runner resume --model NAME` or `runner resume --base-url URL`.",
    "no_workers": "See why the workers have ended (memory, network), then run `runner resume`; --workers 0 does without them.",
    "overloaded": "The provider is overloaded; run `runner retry` later.",
    "proxy": "Check the proxy in HTTPS_PROXY / HTTP_PROXY, or add the host to NO_PROXY.",
    "rate_limited": "Set --rpm or lower --concurrency, then run `runner retry`.",
    "stopped_by_rule": "The setting stop_when finds its text; change that or the prompt, then run `runner retry`.",
    "redirect": "If you trust the address that the server redirects to, set base_url to it.",
    "refused": "Ask the operator of the server why, then run `runner resume`; with --patience-s 0 such rows fail.",
    "server_error": "The server reports an error on its side; run `runner retry` later.",
    "size_cap": "The answer is larger than runner accepts; lower max_tokens.",
    "timeout_attempt": "Answers take longer than --attempt-s; raise it or lower max_tokens, then run `runner retry`.",
    "timeout_connect": "The server does not accept connections; check base_url and the network.",
    "timeout_first_byte": "The server is slow to answer; lower --concurrency or raise --first-byte-s, then run `runner retry`.",
    "timeout_silence": "Answers stall; lower --concurrency or raise --silence-s, then run `runner retry`.",
    "worker_lost": "Nothing to do: the request was with a worker that was lost; it was sent again, and may be billed twice.",
    "tls": "Nothing was sent, as the connection is not secure; check base_url, the server's certificate and the system clock.",
    "too_large": "Shorten the prompt or lower max_tokens: the server does not accept requests of this size.",
    "truncated": "Answers end without a finish reason; check the server or the gateway, then run `runner retry`.",
    "unbounded": "A budget needs a limit of every answer: `runner retry --max-tokens N`.",
    "unpriced": "State the price of that model: `runner retry --prices JSON`.",
    "unsupported_tier": "To go on without it: `runner resume --tier default`.",
    "unsupported_parameter": "To go on without it: `runner resume --no-strict-params`.",
}
"""One sentence of advice for every error code. No other module words advice."""

ROW_WITHOUT_MODEL = (
    "If the row names its model, correct that in the prompt file: then `runner retry` sends a row with an id, and "
    "`runner resume` one without. For the other rows name another model: `runner retry --model NAME`. "
    "If base_url is wrong, name another: `runner retry --base-url URL`."
)
"""What to do about a model that is not found, for rows that failed while the run went on."""

_AGAIN = "Ask again in a moment; if it comes again, look at the server, and at the proxy or gateway between you and the model."
_ADDRESS = "Correct base_url of the job, or see that its server is running and can be reached."
_SLOW = "Ask again; if it comes again, the server is too slow for the timeouts of the job."

OF_A_PROMPT = {
    **dict.fromkeys(("bad_http", "closed", "cut", "malformed_stream", "overloaded", "rate_limited", "server_error"), _AGAIN),
    **dict.fromkeys(("gave_up", "no_capacity", "truncated", "no_reason", "refused"), _AGAIN),
    **dict.fromkeys(("address", "connect", "dns", "not_an_api", "redirect", "timeout_connect", "tls", "wrong_dialect"), _ADDRESS),
    **dict.fromkeys(("timeout_attempt", "timeout_first_byte", "timeout_silence"), _SLOW),
    "attachment": "Put the file into the prompt as a data: URL.",
    "auth": "Put a valid key into the environment of `runner web`, and start it again.",
    "bad_request": "Correct the prompt or its params: the sentence says what the provider does not accept.",
    "bad_row": "Correct the fields of the row.",
    "billing": "Add credit or raise the spending limit at the provider, then ask again.",
    "budget": "Ask for less (max_tokens bounds what an answer can cost), or start `runner web` with a higher --max-cost-ask.",
    "cancelled": "Ask again: the session was stopped while this prompt was open.",
    "cancelled_by_user": "Nothing to do; ask again if you want the answer.",
    "content_policy": "The provider refuses the prompt; change it.",
    "context_length": ADVICE["context_length"],
    "internal": ADVICE["internal"],
    "invalid_output": "Say in the prompt what is wanted, or raise max_tokens if the answer ends at the limit of its length.",
    "not_found": "Correct the model of the prompt, or the model or base_url of the job.",
    "proxy": ADVICE["proxy"],
    "size_cap": ADVICE["size_cap"],
    "stopped_by_rule": "The setting stop_when finds its text; change that or the prompt.",
    "store": "See that the disk has room and that the store can be written, then ask again.",
    "too_large": ADVICE["too_large"],
    "unbounded": "Set max_tokens: what prompts may cost is bounded, and that needs a limit of every answer.",
    "unpriced": "State the price of that model in [prices] of the job file, or start `runner web` with --max-cost-ask none.",
    "unsupported_parameter": "Leave out the parameter that the sentence names.",
    "unsupported_tier": "Leave out the tier in the job.",
    "usage": "Correct what the sentence names, then ask again.",
}
"""What to do about one prompt that somebody has asked by itself: there is no run to resume, and there are no rows to retry."""
OTHERWISE = "Ask again; if it comes again, look up the provider's message."
"""The same for any other code."""
