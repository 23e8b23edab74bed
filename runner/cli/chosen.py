"""Finds the run that was named: by its number, its name, or its prompt file or job file."""

from pathlib import Path

from runner import origin
from runner.config.job import load_job
from runner.errors import UsageError
from runner.inputs.patterns import as_given
from runner.labels import spelt
from runner.model import Run
from runner.session.answers import numbered
from runner.session.identity import resolved
from runner.session.naming import file_word, store_option
from runner.session.overlap import MOST_RUNS, same_rows
from runner.store import database, labelling
from runner.store.reader import StoreReader
from runner.store.runs import known_runs
from runner.text import nearest, shell_word


class _LedElsewhereError(UsageError):
    """A run has read another file by the name that was given."""


def run_number(name: int | str | None, db: str, *, unfinished: bool = False) -> int | None:
    """Return the number of the run that was named; None stands for the default. Raises UsageError.

    unfinished: of the runs over a file, rather one that is not finished.
    """
    if not isinstance(name, str):
        return name
    store, called = Path(db).resolve(), labelling.names_in(Path(db).resolve())
    number = called.get(spelt(name))
    is_file = Path(name).exists() or origin.is_pattern(name)
    if number is None and not is_file:
        # without a store, that is what is to be said
        database.prepare(store, create=False)
        close = nearest(name, called)
        meant = f"; did you mean {close!r}?" if close else ""
        raise UsageError(
            "RUN is the number or the name of a run (`runner list` shows them), or its prompt file, and "
            f"{name!r} is none of these{meant}"
        )
    if number is None:
        return _run_over(name, db, unfinished=unfinished)
    over = _run_over(name, db, unfinished=unfinished) if is_file and _is_input(name, db) else number
    if over != number:
        raise UsageError(
            f"{name} is the name of run {number}, and the prompt file of run {over} of {store}; name the run by its number"
        )
    return number


def export_names(words: tuple[int | str, ...], outputs: tuple[str, ...], db: str) -> tuple[int | None, list[str]]:
    """Return the run and the outputs that ``export`` was called with: ``[RUN] -o FILE``, ``[RUN] FILE``, or both the other way.

    Raises UsageError.
    """
    runs, files = [word for word in words if isinstance(word, int)], [word for word in words if isinstance(word, str)]
    named: int | None = runs[0] if runs else None
    found = list(outputs)
    called = labelling.names_in(Path(db).resolve())
    for word in files:
        if named is None and (spelt(word) in called or (Path(word).exists() and _is_input(word, db))):
            named = run_number(word, db)
        elif not found:
            found.append(word)
        else:
            both = " ".join(f"-o {shell_word(name)}" for name in (*found, word))
            raise UsageError(
                f"RUN is the number, the name or the prompt file of a run, and {word} is none of these; to write several files: "
                f"`runner export {both}`"
            )
    if len(runs) > 1:
        raise UsageError(f"one run at a time, not both {runs[0]} and {runs[1]}")
    if not found:
        raise UsageError("name the file to write with --output, as in `runner export -o answers.csv`")
    return named, found


def exported(number: int | None, db: str) -> tuple[Run, Run | None]:
    """Return a run, by default the newest, and an older one over the same rows that has more done; None if none has."""
    store = Path(db).resolve()
    with StoreReader(store) as reader:
        run = reader.run(number)
        older = [other for other in reader.runs() if other.id < run.id and other.done > run.done]
    if not older:
        return run, None
    known = {each.id: each for each in known_runs(store)}
    most_first = sorted(older, key=lambda other: -other.done)[:MOST_RUNS]
    return run, next((other for other in most_first if same_rows(store, known[run.id], known[other.id])), None)


def _run_over(file: str, db: str, *, unfinished: bool = False) -> int:
    """Return the number of the newest run over a prompt file, or over that of a job file. Raises UsageError if there is none."""
    path = Path(file)
    given = load_job(path, {}, {}).input if path.suffix.lower() == ".toml" else as_given(path)
    given = numbered(given, Path(db).resolve())
    source = resolved(given)
    with StoreReader(Path(db).resolve()) as reader:
        runs = reader.runs(counted=False)
    read = _read(runs, Path(db).resolve())
    over = [run for run in runs if run.input == str(given)] if _is_no_file(given) else _over_file(runs, read, source)
    if not over:
        here = next((run for run in reversed(runs) if run.id in read and run.input == str(given)), None)
        if here is not None:
            raise _LedElsewhereError(
                f"run {here.id} read {read[here.id]} by the name {file}, which leads to {source} now; "
                f"name the run by its number, {here.id}"
            )
        store = store_option(db)
        raise UsageError(
            f"{db} has no run over {file}; `runner list{store}` shows its runs, "
            f"`runner run {file_word(file)}{store}` starts one, or continues that of a file that has moved"
        )
    still_open = [run for run in over if run.finished_at is None] if unfinished else []
    return (still_open or over)[-1].id


def _is_no_file(given: Path) -> bool:
    return origin.is_several(given) or origin.run_of(given) is not None


def _over_file(runs: list[Run], read: dict[int, Path], source: Path) -> list[Run]:
    """Return the runs over a file; if there is none, those that have read it among others."""
    alone = [run for run in runs if run.id in read and resolved(read[run.id]) == source]
    if alone:
        return alone
    several = [(run, origin.files_in(run.settings)) for run in runs]
    return [run for run, files in several if files is not None and any(resolved(Path(one)) == source for one in files.paths)]


def _read(runs: list[Run], store: Path) -> dict[int, Path]:
    """Return the file that each run has read: where a link led then, and not where it leads now."""
    known = {run.id: run for run in known_runs(store)}
    # a store that was moved or copied together with its inputs reads those beside it
    return {
        run.id: Path(known[run.id].target or run.input if known[run.id].input == run.input else run.input)
        for run in runs
        if run.id in known
    }


def _is_input(word: str, db: str) -> bool:
    try:
        _run_over(word, db)
    except _LedElsewhereError:
        raise
    except UsageError:
        return False
    return True
