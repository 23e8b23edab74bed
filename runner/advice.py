"""One sentence of advice for every error code: the one place where a code meets a person."""

ADVICE = {
    "address": "Check base_url: it must be a full address such as https://host/v1.",
    "auth": "Check the key in the environment, then run the same command again.",
    "bad_http": "Something between you and the model breaks HTTP; look at the proxy or gateway.",
    "bad_request": "Correct the rows, then `runner retry`; or the settings, then `runner run` again.",
    "bad_row": "Correct the line in the prompt file, then run the same command again.",
    "billing": "Add credit or raise the spending limit at the provider, then run the same command again.",
    "cancelled": "Nothing to do: the run was stopped while this request was out; it will be sent again.",
    "closed": "The server drops connections; lower --concurrency, then run `runner retry`.",
    "connect": "Check that the server runs and that base_url is right, then run the same command again.",
    "content_policy": "The provider refuses the prompt; change it, or leave the row failed.",
    "context_length": "Shorten the prompt, lower max_tokens, or use a model with a larger context.",
    "cut": "The connection breaks in mid-answer; look at the proxy or gateway, then run `runner retry`.",
    "deadline": "What is finished is kept; the same command goes on.",
    "dns": "Check the host name in base_url and the network, then run the same command again.",
    "internal": "This is a bug in runner; please report it with the text of the error.",
    "malformed_stream": "The server sends broken events; run `runner retry`, and report it to whoever runs the server.",
    "not_an_api": "Check base_url: it does not point at an LLM API.",
    "not_found": "Check the model's name and base_url (openai: up to and including /v1; anthropic: without it).",
    "overloaded": "The provider is overloaded; run `runner retry` later.",
    "proxy": "Check the proxy in HTTPS_PROXY / HTTP_PROXY, or add the host to NO_PROXY.",
    "rate_limited": "Set --rpm or lower --concurrency, then run `runner retry`.",
    "redirect": "Set base_url to the address it redirects to, if you trust it.",
    "server_error": "The server fails; run `runner retry` later.",
    "size_cap": "The answer is larger than runner takes; lower max_tokens.",
    "timeout_attempt": "Answers take longer than --attempt-s; raise it or lower max_tokens, then run `runner retry`.",
    "timeout_connect": "The server does not accept connections; check base_url and the network.",
    "timeout_first_byte": "The server is slow to begin; lower --concurrency or raise --first-byte-s, then run `runner retry`.",
    "timeout_silence": "Streams stall; lower --concurrency or raise --silence-s, then run `runner retry`.",
    "tls": "The connection is not secure and was not used; check the host name, its certificate and the clock.",
    "too_large": "Shorten the prompt: the server does not take requests of this size.",
    "truncated": "Answers end without a finish reason; look at the server or the gateway, then run `runner retry`.",
}

_OTHER = "Run `runner retry`; if it stays, look the provider's words up."


def advice(code: str) -> str:
    """Say what to do about an error code."""
    return ADVICE.get(code, _OTHER)
