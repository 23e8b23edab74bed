"""Several answers for one row: the keys under which each is kept, how many are wanted, and how they are counted in words. Pure.

Answer 1 has the key of its row. The key of each other one is that, a mark, and its number. No row's own id holds the mark.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from runner.text import plural

MARK = "\ufdd0"
"""Stands between the key of a row and the number of an answer. Unicode keeps this character for such internal use."""

SEED_NAMES = ("seed", "random_seed")
"""Names of a seed in the body of a request."""

_SEEDS = 2**31 - 2


def key_of(row: str, number: int) -> str:
    """Return the key of one answer of a row. row: the key of the row."""
    return row if number == 1 else f"{row}{MARK}{number}"


def keys_of(rows: Sequence[str], answers: int) -> list[str]:
    """Return the keys of all answers of rows, row by row."""
    if answers == 1:
        return list(rows)
    return [key_of(row, number) for row in rows for number in range(1, answers + 1)]


def row_of(key: str) -> str:
    """Return the key of the row to which an answer belongs."""
    return key.partition(MARK)[0] if number_of(key) > 1 else key


def number_of(key: str) -> int:
    """Return which answer of its row has this key, counted from 1."""
    if MARK not in key:
        return 1
    number = key.partition(MARK)[2]
    # a store of an older version may have rows whose own ids hold the mark
    return int(number) if number.isdecimal() else 1


def seed_of(key: str, used: Sequence[int] = ()) -> int | None:
    """Return the seed with which an answer is asked for if the user has set none; None for the first of a row.

    The same key has the same seed in each session, attempt and run, but for ``used``: seeds that the run has under other keys,
    in rising order, which are passed over. It is between 1 and 2**31 - 2, which nearly every server takes: to some 0 or the
    highest number means any seed.
    """
    if number_of(key) == 1:
        return None
    seed = int.from_bytes(blake2b(key.encode(errors="surrogatepass"), digest_size=8).digest(), "big") % _SEEDS + 1
    while (place := bisect_left(used, seed)) < len(used) and used[place] == seed:
        seed = seed % _SEEDS + 1
    return seed


def spoken(key: str) -> str:
    """Return a key as a person may read it."""
    number = number_of(key)
    return f"{row_of(key)} (answer {number})" if number > 1 else key


def answers_in(settings: Mapping[str, Any]) -> int:
    """Return how many answers of each row a run wants, by its settings."""
    answers = settings.get("answers")
    return answers if type(answers) is int and answers > 1 else 1


def unit(answers: int) -> str:
    """Return what a run counts: rows, or answers where it wants several of each row."""
    return "row" if answers == 1 else "answer"


def amount(rows: int, answers: int) -> str:
    """Return how much is wanted: ``1,000 rows``, or ``3,000 answers of 1,000 rows``."""
    of = plural(rows, "row")
    return of if answers == 1 else f"{plural(rows * answers, 'answer')} of {of}"
