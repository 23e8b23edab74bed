"""What an attempt costs, as SQL: picodollars, from its tokens and the rates by which it is billed. Used by views and exports.

An attempt that never reached the server, or was refused by its HTTP status, is not billed and costs 0.
"""

from collections.abc import Mapping

from runner.money import Rates

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
_HIGHEST = {
    **{kind: rate.replace("{p}.", "{p}.most_") for kind, rate in _RATES.items()},
    "unsplit": "max({p}.most_output, {p}.most_reasoning)",
}
"""The same at the highest rates, for an attempt whose tier is not known."""


def most_of(rate: str) -> str:
    """Return the name of the column of ``prices`` with the highest that a rate may be."""
    return f"most_{rate}"


def billed(a: str) -> str:
    """Return the condition that an attempt was billed, or may have been. a: the name of ``attempts`` in the statement."""
    return f"({a}.sent AND ({a}.status IS NULL OR {a}.status BETWEEN 200 AND 299))"


def unknown(a: str) -> str:
    """Return the condition that the usage of an attempt is not known as a whole, so that it has bounds."""
    return f"({a}.input_bound IS NOT NULL)"


def at_an_end(a: str) -> str:
    """Return the condition that an attempt of unknown usage was open when its session ended, by a kill or a stop.

    So is one whose batch was lost, or did not bring its result. That says nothing of the row, and so nothing of others.
    """
    return f"(coalesce({a}.error_code, '') IN ('killed', 'cancelled', 'batch_gone', 'batch_missing') AND {unknown(a)})"


def kinds(a: str) -> dict[str, str]:
    """Return the tokens of an attempt by their kinds, as ``money.Tokens`` has them. Some are NULL if the tokens are not known."""
    cached, stored = f"coalesce({a}.cached_tokens, 0)", f"coalesce({a}.cache_write_tokens, 0)"
    hour = f"coalesce(min({a}.cache_write_1h_tokens, {a}.cache_write_tokens), 0)"
    reasoning, untold = f"min({a}.reasoning_tokens, {a}.output_tokens)", f"{a}.reasoning_tokens IS NULL"
    return {
        # a server that counts its caches beside the input may tell more of them than input
        "fresh": f"{a}.input_tokens - CASE WHEN {cached} + {stored} > {a}.input_tokens THEN 0 ELSE {cached} + {stored} END",
        "cached": cached,
        "cache_write": f"({stored} - {hour})",
        "cache_write_1h": hour,
        "plain": f"CASE WHEN {untold} THEN 0 ELSE {a}.output_tokens - {reasoning} END",
        "reasoning": f"coalesce({reasoning}, 0)",
        "unsplit": f"CASE WHEN {untold} THEN {a}.output_tokens ELSE 0 END",
    }


def cost(a: str, p: str) -> str:
    """Return the known cost of a billed attempt; NULL if its tokens or its rates are not known. p: the name of ``prices``."""
    return _at(_RATES, a, p)


def _at(rates: Mapping[str, str], a: str, p: str) -> str:
    parts = (f"({tokens}) * {rates[kind].format(p=p)}" for kind, tokens in kinds(a).items())
    return f"({' + '.join(parts)})"


def bounds(a: str) -> dict[str, str]:
    """Return the most tokens of a bounded attempt: input, output, and in a cache that is kept for an hour.

    What was reported may be more, so that no sum of bounds is below that of what is known.
    """
    of, in_caches = kinds(a), f"coalesce({a}.cached_tokens, 0) + coalesce({a}.cache_write_tokens, 0)"
    return {
        "most_in": f"max({a}.input_bound, coalesce({of['fresh']}, 0) + {in_caches})",
        "most_out": f"max(coalesce({a}.output_bound, 0), coalesce({a}.output_tokens, 0))",
        "most_hour": f"max(coalesce({a}.cache_1h_bound, 0), {of['cache_write_1h']})",
    }


def held(r: str, p: str) -> str:
    """Return the most that a request can cost for which there is a reservation. r: the name of ``reservations``."""
    return _most(f"{r}.input_bound", f"{r}.output_bound", f"coalesce({r}.cache_1h_bound, 0)", p)


def waiting(b: str, p: str) -> str:
    """Return the most that the requests of a batch can cost that have no result yet. b: the name of ``batches``."""
    return _most(f"{b}.left_input", f"{b}.left_output", f"{b}.left_1h", p)


def perhaps(a: str, p: str) -> str:
    """Return what a billed attempt may cost beyond its known cost; NULL if that has no limit, 0 if its usage is whole."""
    unsplit = f"({a}.reasoning_tokens IS NULL AND {a}.input_tokens IS NOT NULL)"
    unsure = f"CASE WHEN {unsplit} THEN coalesce({a}.output_tokens, 0) * abs({p}.reasoning - {p}.output) ELSE 0 END"
    beyond = f"CASE WHEN {p}.most_input IS NULL THEN {unsure} ELSE coalesce({_at(_HIGHEST, a, p)} - {cost(a, p)}, 0) END"
    of = bounds(a)
    most = f"CASE WHEN {a}.output_bound IS NOT NULL THEN {_most(of['most_in'], of['most_out'], of['most_hour'], p)} END"
    return f"CASE WHEN {a}.input_bound IS NULL THEN {beyond} ELSE {most} - coalesce({cost(a, p)}, 0) END"


def _most(read: str, written: str, hour: str, p: str) -> str:
    top = {name: f"coalesce({p}.{most_of(name)}, {p}.{name})" for name in Rates.__struct_fields__}
    highest = f"max({top['input']}, {top['cached_input']}, {top['cache_write']})"
    for_hour = f"min({hour}, {read}) * max(0, {top['cache_write_1h']} - {highest})"
    return f"({read} * {highest} + {for_hour} + {written} * max({top['output']}, {top['reasoning']}))"
