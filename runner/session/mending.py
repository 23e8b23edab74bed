"""What went wrong in a run, by cause, with the command that asks such rows once more."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from runner.errors import BAD_ROW, INVALID_OUTPUT, advice
from runner.inputs import spool
from runner.model import Run
from runner.money import PICO
from runner.providers.finish import EMPTY
from runner.session import naming, only, spelling, unpriced, ways
from runner.session.only import LENGTH
from runner.session.ways import Ways, name_of
from runner.store.batch_reading import in_batches
from runner.store.causes import Cause, CauseReader
from runner.store.reader import StoreReader
from runner.store.retrying import open_retry


class Found(NamedTuple):
    """What a run has that can be asked again: failed rows, and answers of doubtful shape.

    retry_left: of an interrupted retry. ways: how the failed rows and the answers are sent again. waiting: rows in batches at the
    provider.
    """

    run: Run
    failed: list[Cause]
    answered: list[Cause]
    reader: CauseReader
    retry_left: int
    ways: Ways
    waiting: int = 0


@contextmanager
def found(run_id: int | None, store: str) -> Iterator[Found]:
    """Yield the causes of a run, by default of the newest. Raises UsageError, StoreError."""
    # a run may go on meanwhile: all that is told is of one state of the store
    with StoreReader(naming.store_path(store)) as reader, reader.snapshot() as connection:
        yield found_in(spelling.told(reader.run(run_id), store), reader, connection)


def found_in(run: Run, reader: StoreReader, connection: Any) -> Found:
    """Return the causes of a run. connection: that of the snapshot of the reader. Raises StoreError."""
    (cut, filtered), retry = only.doubtful(reader, run), open_retry(reader.fetch, run.id)
    causes = CauseReader(connection, run.id, run.answers, cut)
    failed, answered = causes.failed(), causes.answered(cut.reasons | filtered, EMPTY)
    its_ways = ways.of(run, failed, answered, causes, reader)
    waiting = in_batches(reader.fetch, run.id)["waiting"]
    return Found(run, failed, answered, causes, retry.pending if retry else 0, its_ways, waiting)


def command(cause: Cause, found: Found, db: str) -> str | None:
    """Return the command that asks the rows of a cause once more; None for those of a program, which asks itself."""
    run = found.run
    if spool.is_asked(run.input):
        return None
    return naming.command("retry", run.id, db, "--class", ",".join(found.ways.classes(cause)), *found.ways.options(cause))


def to_do(cause: Cause, found: Found, db: str) -> str:
    """Return what to do about a cause, in one sentence or two. Of commands, it names those that are about the run in full."""
    run, asked = found.run, spool.is_asked(found.run.input)
    words = advised(cause, asked=asked)
    if found.ways.differ and not asked:
        # a retry of all failed rows would send some of them as they failed
        words = words.replace("run `runner retry`", "send these rows again")
        words = words.replace("Run `runner retry`", "Send these rows again")
    words = naming.in_full(words, run.id, db, asked=asked)
    if cause.code == INVALID_OUTPUT and found.ways.options(cause) and not ways.is_cut(cause):
        return f"{words} The command also sends those that were cut, with more room."
    return words


def advised(cause: Cause, *, asked: bool = False) -> str:
    """Return what to do about a cause. asked: the rows are those of a program."""
    code = cause.code
    if ways.is_cut(cause):
        return _OWN_LIMITS if ways.is_own(cause) else _OF_ANSWERS[LENGTH]
    if code is None:
        return _OF_ANSWERS[name_of(cause)]
    if code == INVALID_OUTPUT:
        return _MISSHAPEN
    if code == unpriced.UNPRICED and not asked:
        return unpriced.advice(cause.example)
    return "Correct what was asked, and ask it in a new Session." if asked and code == BAD_ROW else advice(code, failed=True)


_OF_ANSWERS = {
    LENGTH: "Answers were cut at a limit of their length: raise --max-tokens, or ask for shorter answers.",
    "content_filter": "A filter of the provider ended the answer: change the prompt, or keep what there is.",
    EMPTY: "The answer has no text: ask again, or change the prompt.",
}
_OWN_LIMITS = "Answers were cut at the max_tokens that their rows set: raise it in the prompt file, then send these rows again."
_MISSHAPEN = "Answers do not fit the schema: say in the prompt what is wanted, or raise --repairs; then run `runner retry`."


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
        "advice": to_do(cause, found, db),
        "command": command(cause, found, db),
        "command_rows": found.ways.rows(cause),
    }
