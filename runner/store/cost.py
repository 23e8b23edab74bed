"""What an attempt costs, as SQL: picodollars, from its tokens and the rates by which it is billed. Used by views and exports.

An attempt that never reached the server, or was refused by its HTTP status, is not billed and costs 0.
"""


def billed(a: str) -> str:
    """Return the condition that an attempt was billed, or may have been. a: the name of ``attempts`` in the statement."""
    return f"({a}.sent AND ({a}.status IS NULL OR {a}.status BETWEEN 200 AND 299))"


def cost(a: str, p: str) -> str:
    """Return the cost of a billed attempt; NULL if its tokens or its rates are not known. p: the name of ``prices``."""
    cached, stored = f"coalesce({a}.cached_tokens, 0)", f"coalesce({a}.cache_write_tokens, 0)"
    reasoning = f"min(coalesce({a}.reasoning_tokens, 0), {a}.output_tokens)"
    return (
        f"(max(0, {a}.input_tokens - {cached} - {stored}) * {p}.input + {cached} * {p}.cached_input"
        f" + {stored} * {p}.cache_write + ({a}.output_tokens - {reasoning}) * {p}.output + {reasoning} * {p}.reasoning)"
    )


def perhaps(a: str, p: str) -> str:
    """Return what a billed attempt may cost beyond its known cost; NULL if that has no limit, 0 if its usage is whole."""
    most_in = f"{a}.input_bound * max({p}.input, {p}.cached_input, {p}.cache_write)"
    most_out = f"{a}.output_bound * max({p}.output, {p}.reasoning)"
    known = f"coalesce({cost(a, p)}, 0)"
    return f"CASE WHEN {a}.input_bound IS NULL THEN 0 ELSE max(0, {most_in} + {most_out} - {known}) END"
