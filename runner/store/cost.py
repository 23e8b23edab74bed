"""What an attempt costs, as SQL: picodollars, from its tokens and the rates by which it is billed. Used by views and exports.

An attempt that never reached the server, or was refused by its HTTP status, is not billed and costs 0.
"""

_RATES = {
    "fresh": "{p}.input",
    "cached": "{p}.cached_input",
    "cache_write": "{p}.cache_write",
    "cache_write_1h": "{p}.cache_write_1h",
    "plain": "{p}.output",
    "reasoning": "{p}.reasoning",
    # so much is certain
    "unsplit": "min({p}.output, {p}.reasoning)",
}
"""By kind of token, as ``money.Tokens`` has them."""


def billed(a: str) -> str:
    """Return the condition that an attempt was billed, or may have been. a: the name of ``attempts`` in the statement."""
    return f"({a}.sent AND ({a}.status IS NULL OR {a}.status BETWEEN 200 AND 299))"


def kinds(a: str) -> dict[str, str]:
    """Return the tokens of an attempt by their kinds, as ``money.Tokens`` has them. Some are NULL if the tokens are not known."""
    cached, stored = f"coalesce({a}.cached_tokens, 0)", f"coalesce({a}.cache_write_tokens, 0)"
    hour = f"coalesce(min({a}.cache_write_1h_tokens, {a}.cache_write_tokens), 0)"
    reasoning, untold = f"min({a}.reasoning_tokens, {a}.output_tokens)", f"{a}.reasoning_tokens IS NULL"
    return {
        "fresh": f"max(0, {a}.input_tokens - {cached} - {stored})",
        "cached": cached,
        "cache_write": f"({stored} - {hour})",
        "cache_write_1h": hour,
        "plain": f"CASE WHEN {untold} THEN 0 ELSE {a}.output_tokens - {reasoning} END",
        "reasoning": f"coalesce({reasoning}, 0)",
        "unsplit": f"CASE WHEN {untold} THEN {a}.output_tokens ELSE 0 END",
    }


def cost(a: str, p: str) -> str:
    """Return the known cost of a billed attempt; NULL if its tokens or its rates are not known. p: the name of ``prices``."""
    parts = (f"({tokens}) * {_RATES[kind].format(p=p)}" for kind, tokens in kinds(a).items())
    return f"({' + '.join(parts)})"


def most(a: str, p: str) -> str:
    """Return the most that an attempt or a reservation can cost by its bounds; NULL if that has no limit."""
    highest = f"max({p}.input, {p}.cached_input, {p}.cache_write)"
    hour = f"coalesce(min({a}.cache_1h_bound, {a}.input_bound), 0) * max(0, {p}.cache_write_1h - {highest})"
    return f"({a}.input_bound * {highest} + {hour} + {a}.output_bound * max({p}.output, {p}.reasoning))"


def perhaps(a: str, p: str) -> str:
    """Return what a billed attempt may cost beyond its known cost; NULL if that has no limit, 0 if its usage is whole."""
    known = f"coalesce({cost(a, p)}, 0)"
    unsplit = f"({a}.reasoning_tokens IS NULL AND {a}.input_tokens IS NOT NULL)"
    unsure = f"CASE WHEN {unsplit} THEN coalesce({a}.output_tokens, 0) * abs({p}.reasoning - {p}.output) ELSE 0 END"
    return f"CASE WHEN {a}.input_bound IS NULL THEN {unsure} ELSE max({unsure}, {most(a, p)} - {known}) END"
