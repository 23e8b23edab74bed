"""Before a session: which run a job belongs to, whether anything is to be done, and what a person should know first."""

from pathlib import Path
from typing import NamedTuple

from runner.config import plugins
from runner.config.job import Job
from runner.errors import UsageError
from runner.events import Quantiles, Summary
from runner.inputs import scan, spool
from runner.inputs.compression import bare
from runner.inputs.duplicates import Repeats
from runner.inputs.prompts import Template, item
from runner.model import Outcome, Run
from runner.session.options import Wish
from runner.store import database
from runner.store import runs as ledger
from runner.store.checkpoint import Known
from runner.store.reader import StoreReader

_SHOWN = 5
# broken rows that are kept to be shown
_KEPT = 1_000
_OTHER_FORMATS = ("csv", "tsv", "parquet", "arrow", "xls", "xlsx")


class Broken(NamedTuple):
    """The rows from which no request can be made: how many, and (line, why) of the first of them."""

    number: int
    first: list[tuple[int, str]]


def reader(path: Path) -> scan.Input:
    """Find how a prompt file is read, by its ending, that before ``.gz`` if it has one; an unknown ending is read as JSONL."""
    ending = bare(path).suffix.lower().lstrip(".")
    module = plugins.registered("inputs", ending or "jsonl")
    if module is None and ending in _OTHER_FORMATS:
        known = ", ".join(plugins.known("inputs"))
        raise UsageError(
            f"{path}: .{ending} files cannot be read yet (known: {known}); make it JSON lines, one object with a prompt a line"
        )
    module = module or plugins.load("inputs", "jsonl")
    try:
        # what is appended from here on belongs to the next session
        size = path.stat().st_size
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    return scan.Input(path, size, lambda: module.read(path, limit_bytes=size))


def scanned(given: scan.Input, store_path: Path, digest: str) -> scan.Scan:
    """Look through an input, unless it is the same to the byte as one that an earlier session has looked through."""
    if store_path.is_file() and store_path.stat().st_size:
        database.prepare(store_path, create=False)
        rows = ledger.rows_of(store_path, given.path, digest)
        if rows is not None:
            return scan.Scan(rows=rows, repeated=Repeats())
    return scan.scan(given)


def template_of(job: Job) -> Template:
    """Give what a job adds to every row."""
    return Template(model=job.model or "", system=job.system, params=job.params)


def broken_rows(given: scan.Input, template: Template) -> Broken:
    """Find every row from which no request can be made."""
    count = 0
    first: list[tuple[int, str]] = []
    for row in given.read():
        made = item(row, "", template)
        if isinstance(made, Outcome):
            count += 1
            if count <= _KEPT:
                first.append((made.position, made.error or ""))
    return Broken(count, first)


def refuse_broken(job: Job, given: scan.Input) -> None:
    """Raise UsageError when a row is broken."""
    broken = broken_rows(given, template_of(job))
    if broken.number:
        first = "; ".join(why for _, why in broken.first[:_SHOWN])
        more = f"; and {broken.number - _SHOWN:,} more" if broken.number > _SHOWN else ""
        raise UsageError(f"{job.input}: {broken.number:,} broken rows, and --strict was given: {first}{more}")


def finished_run(job: Job, store_path: Path, wish: Wish, digest: str) -> Run | None:
    """Find the job's run when nothing is to be done for it: it is finished, and the input is the same to the byte."""
    if wish.new or wish.retry_failed or wish.accept_changes:
        return None
    if not store_path.is_file() or not store_path.stat().st_size:
        return None
    database.prepare(store_path, create=False)
    if wish.run_id is not None:
        found: ledger.Opened | None = ledger.get_run(store_path, wish.run_id)
    else:
        found = ledger.find_run(store_path, job.input, job.answer())
    if found is None or not found.finished or found.input_digest != digest:
        return None
    with StoreReader(store_path) as reading:
        return reading.run(found.id)


def open_run(job: Job, store_path: Path, wish: Wish) -> ledger.Opened:
    """Find the job's run, or begin one."""
    if wish.run_id is not None:
        return ledger.get_run(store_path, wish.run_id)
    mark = spool.MARK if spool.MARK in job.input.name else None
    return ledger.open_run(store_path, job.input, job.settings(), job.answer(), new=wish.new, kept_mark=mark)


def notes(opened: ledger.Opened, wish: Wish, known: Known, found: scan.Scan, changed: int) -> list[str]:
    """Say what a person should know before a session begins.

    known: what the run holds. changed: settled rows that ask something else now.
    """
    said = []
    settled = known.done + known.failed
    if opened.differs_from is not None:
        changes = "; ".join(f"{name}: {_brief(then)} -> {_brief(now)}" for name, (then, now) in opened.differences.items())
        said.append(
            f"settings that change the answers differ from run {opened.differs_from} ({changes}), so this is a run of its own"
        )
    if opened.other_stdin is not None:
        said.append(
            f"standard input is other than that of run {opened.other_stdin}, so this is a run of its own and all rows are sent; "
            "to send only what is new, keep the prompts in a file"
        )
    if wish.retry_failed:
        said.append(f"run {opened.id}: failed rows that get another chance: {known.failed:,}")
    elif opened.finished:
        said.append(f"run {opened.id} was finished; the input has changed since")
    elif opened.existed and settled:
        said.append(f"going on with run {opened.id}: {settled:,} rows are settled already")
    if changed:
        they = "are sent again" if wish.accept_changes else "keep their answers, and --accept-changes sends them again"
        said.append(f"rows changed since their answers came: {changed:,}; they {they}")
    if found.identical:
        said.append(f"rows without an id that are identical to an earlier one: {found.identical:,}; each is sent on its own")
    if found.rows == 0:
        said.append("the prompt file has no rows")
    return said


def _brief(value: object) -> str:
    words = "unset" if value is None else str(value)
    return words if len(words) <= 40 else words[:39] + "\N{HORIZONTAL ELLIPSIS}"


def summary(run: Run) -> Summary:
    """Sum up a session that found everything settled."""
    settled = run.done + run.failed
    rows = run.rows if run.rows is not None else settled
    nothing = Quantiles(p50=None, p95=None)
    return Summary(
        run=run.id,
        finished=True,
        rows=rows,
        done=run.done,
        failed=run.failed,
        broken=run.broken,
        skipped=min(settled, rows),
        done_now=0,
        failed_now=0,
        kept=0,
        attempts_now=0,
        input_tokens=None,
        output_tokens=None,
        time_to_first_token=nothing,
        duration=nothing,
        elapsed_s=0.0,
        missing=0,
        changed=0,
        stop_reason=None,
    )
