"""The rows that ``--only`` and ``--class`` name: by how they ended, by error code or group of codes, or by how answers are."""

from collections.abc import Iterable, Sequence

from msgspec import structs

from runner.errors import INVALID_OUTPUT, UsageError
from runner.model import Run
from runner.providers.finish import CUT, EMPTY, ENDS, end_of, normal
from runner.remedies import ADVICE
from runner.session.options import Choice
from runner.store.reader import StoreReader
from runner.store.selection import EVERY, Cut, Order, Selection
from runner.text import nearest

GROUPS = {
    "timeout": frozenset(code for code in ADVICE if code.startswith("timeout_")),
    "network": frozenset({"closed", "connect", "cut", "dns", "proxy", "tls"}),
    "server": frozenset({"bad_http", "gave_up", "malformed_stream", "no_reason", "overloaded", "server_error", "truncated"}),
    "rate_limit": frozenset({"no_capacity", "rate_limited"}),
    "policy": frozenset({"content_policy"}),
    "shape": frozenset({"invalid_output"}),
}
"""Names for several error codes."""
_STATUSES = ("done", "failed")
LENGTH = "length"
FINISH_LENGTH = frozenset(f"finish_{name}" for name in CUT)
"""Error codes of answers that were cut, where the setting finish makes failures of them."""
CUT_CODES = frozenset({INVALID_OUTPUT, *FINISH_LENGTH})
"""Error codes of rows that may have failed because their answers were cut."""
WHOLE = "whole"
"""The name for done rows that are neither cut, nor filtered, nor empty."""
OWN_LIMIT = "own_limit"
"""The name for rows, done or failed, whose answers were cut at a limit that they set themselves: no option changes it."""
NAMES = (*_STATUSES, WHOLE, *ENDS, OWN_LIMIT, EMPTY, *GROUPS)
BUT = "-"
"""Stands before the name of rows that are left out."""
ORDERS: tuple[Order, ...] = ("input", "finished")


def selection(words: Iterable[str], order: str, reader: StoreReader, run: Run, *, option: str = "--only") -> Selection:
    """Return the results of a run that words name, all of them if there are none. Raises UsageError for an unknown word.

    A word behind a minus names results that are left out. option: which option has the words.
    """
    found = next((one for one in ORDERS if one == order), None)
    if found is None:
        raise UsageError(f"the order is {' or '.join(ORDERS)}, not {order!r}")
    named = [word.strip().lower() for word in words if word.strip()]
    chosen = _named([word for word in named if not word.startswith(BUT)], reader, run, option)
    left_out = [word.removeprefix(BUT).strip() for word in named if word.startswith(BUT)]
    but = _named(left_out, reader, run, option) if left_out else None
    return structs.replace(chosen, order=found, but=but)


def _named(words: Sequence[str], reader: StoreReader, run: Run, option: str) -> Selection:
    """Return the results that words name, all of them if there are none."""
    names = [word.replace("-", "_") for word in words]
    if not names:
        return EVERY
    reasons = reader.finish_reasons(run.id)
    ends = {name: frozenset(reason for reason in reasons if normal(reason) in among) for name, among in ENDS.items()}
    return Selection(
        every=False,
        statuses=frozenset(name for name in names if name in _STATUSES),
        codes=_codes(names, reader, run, option),
        reasons=frozenset().union(*(ends[name] for name in names if name in ends)),
        cut=_cut(run, ends[LENGTH]) if LENGTH in names else None,
        own_limit=_cut(run, ends[LENGTH]) if OWN_LIMIT in names else None,
        notes=frozenset(name for name in names if name == EMPTY),
        without=(frozenset().union(*ends.values()), frozenset({EMPTY})) if WHOLE in names else None,
    )


def listed(words: str | Sequence[str] | None, option: str) -> list[str]:
    """Return the names that were given: a list of them, or a text in which commas are between them.

    Raises UsageError where none has a letter, such as the text of a shell variable that is not set, or a list that a program has
    left empty: it is no wish for everything.
    """
    if words is None:
        return []
    names = [word.strip() for word in words.split(",") if word.strip()] if isinstance(words, str) else [*words]
    if not any(map(str.strip, names)):
        raise UsageError(f"{option} names nothing; name what you want, or leave {option} out")
    return names


def again(choice: Choice, reader: StoreReader, run: Run) -> Selection:
    """Return the results of a run that a retry chooses, apart from ids. Raises UsageError for an unknown word."""
    if choice.all_rows and choice.classes:
        raise UsageError("--all sends every row again, and --class some of them: give one of the two")
    if choice.classes:
        # names of what is left out alone leave it out of the failed rows
        of = () if any(one and not one.startswith(BUT) for one in map(str.strip, choice.classes)) else ("failed",)
        return selection((*of, *choice.classes), ORDERS[0], reader, run, option="--class")
    if choice.all_rows or choice.ids is not None:
        return EVERY
    return Selection(every=False, statuses=frozenset({"failed"}))


def doubtful(reader: StoreReader, run: Run) -> tuple[Cut, frozenset[str]]:
    """Return the rows of a run whose answers are cut, and the finish reasons of answers that are filtered."""
    reasons = reader.finish_reasons(run.id)
    cut, filtered = (frozenset(one for one in reasons if normal(one) in among) for among in ENDS.values())
    return _cut(run, cut), filtered


def _cut(run: Run, reasons: frozenset[str]) -> Cut:
    return Cut(codes=CUT_CODES, reasons=reasons, plain=run.settings.get("row_settings") is False)


def kind_of(status: str, code: str | None, reason: str | None, notes: str | None) -> str:
    """Return the name of what a result is: its error code, or what is unusual about its answer."""
    if status == "failed":
        return code or "unknown"
    return end_of(reason or "") or (EMPTY if EMPTY in (notes or "").split(",") else WHOLE)


def _codes(names: Sequence[str], reader: StoreReader, run: Run, option: str) -> frozenset[str]:
    """Return the error codes among names, those of groups too. Raises UsageError for a name that means nothing."""
    codes, known = set[str](), {*ADVICE}
    if not known.issuperset(name for name in names if name not in GROUPS and name not in NAMES):
        known |= reader.run(run.id).causes.keys()
    for name in names:
        if name in GROUPS:
            codes |= GROUPS[name]
        elif name in known:
            codes.add(name)
        elif name not in NAMES:
            close = nearest(name, [*NAMES, *known])
            meant = f" (did you mean {close!r}?)" if close else ""
            raise UsageError(f"{option} knows no {name!r}{meant}; it takes error codes, and {', '.join(NAMES)}")
    return frozenset(codes)
