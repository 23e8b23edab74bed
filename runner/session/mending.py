"""What went wrong in a run, by cause, with the command that asks such rows once more."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from runner.errors import advice
from runner.inputs import spool
from runner.model import Run
from runner.money import PICO
from runner.providers.finish import EMPTY
from runner.session import naming, only, spelling, unpriced
from runner.store.causes import Cause, CauseReader, reading
from runner.store.reader import StoreReader
from runner.store.retrying import open_retry

_MORE = {"unsupported_tier": ("--tier", "default"), "unsupported_parameter": ("--no-strict-params",)}
"""By error code: the options with which such rows need not fail again."""
_BAD_ROW, _CUT = "bad_row", "length"


class Found(NamedTuple):
    """What a run has that can be asked again: failed rows, and answers of doubtful shape. retry_left: of an interrupted retry."""

    run: Run
    failed: list[Cause]
    answered: list[Cause]
    reader: CauseReader
    retry_left: int


@contextmanager
def found(run_id: int | None, store: str) -> Iterator[Found]:
    """Yield the causes of a run, by default of the newest. Raises UsageError, StoreError."""
    path = naming.store_path(store)
    with StoreReader(path) as reader:
        run = spelling.told(reader.run(run_id), store)
        reasons, retry = only.doubtful(reader, run), open_retry(path, run.id)
    with reading(path, run.id, run.answers) as causes:
        yield Found(run, causes.failed(), causes.answered(reasons, EMPTY), causes, retry.pending if retry else 0)


def name_of(cause: Cause) -> str:
    """Return the name of a cause as ``--class`` takes it."""
    status = "failed" if cause.code is not None else "done"
    return only.kind_of(status, cause.code, cause.finish_reason, cause.notes)


def command(cause: Cause, run: Run, db: str) -> str | None:
    """Return the command that asks the rows of a cause once more; None for those of a program, which asks itself."""
    if spool.is_asked(run.input):
        return None
    name, most = name_of(cause), run.settings.get("max_tokens")
    more = _MORE.get(name, ())
    if name == _CUT and isinstance(most, int):
        more = ("--max-tokens", str(2 * most))
    return naming.command("retry", run.id, db, "--class", name, *more)


def to_do(cause: Cause, run: Run, db: str) -> str:
    """Return what to do about a cause, in one sentence or two."""
    asked, code = spool.is_asked(run.input), cause.code
    if code is None:
        return _OF_ANSWERS[name_of(cause)]
    words = "Correct what was asked, and ask it in a new Session." if asked and code == _BAD_ROW else advice(code, failed=True)
    if code == unpriced.UNPRICED and not asked:
        words = unpriced.advice(cause.example)
    return naming.in_full(words, run.id, db, asked=asked)


_OF_ANSWERS = {
    _CUT: "The answer was cut at a limit of its length: raise --max-tokens, or ask for shorter answers.",
    "content_filter": "A filter of the provider ended the answer: change the prompt, or keep what there is.",
    EMPTY: "The answer has no text: ask again, or change the prompt.",
}


def told(cause: Cause, found: Found, db: str) -> Mapping[str, Any]:
    """Return a cause as ``errors --json`` tells it, without its ids."""
    failed, every, spent = cause.code is not None, found.run.done + found.run.failed, cause.spent
    return {
        "status": "failed" if failed else "done",
        "code": name_of(cause),
        "count": cause.count,
        "share_of_failed": cause.count / found.run.failed if failed and found.run.failed else None,
        "share": cause.count / every if every else None,
        "example_id": cause.example_id,
        "example": cause.example,
        "attempts": spent.attempts,
        "input_tokens": spent.input_tokens,
        "output_tokens": spent.output_tokens,
        "cost": spent.cost / PICO if spent.priced else None,
        "cost_perhaps": spent.perhaps / PICO if spent.priced and spent.perhaps is not None else None,
        "unpriced_attempts": spent.unpriced,
        "advice": to_do(cause, found.run, db),
        "command": command(cause, found.run, db),
    }
