"""``python -m benchmarks.million``: how much memory, time and disk a million rows need. See ``benchmarks/README.md``."""

import argparse
import asyncio
import gzip
import json
import platform
import shutil
import signal
import sqlite3
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from benchmarks import bulk, child
from benchmarks.child import Ran
from benchmarks.process import interrupted, say
from benchmarks.stub import Stub
from benchmarks.table import Figure, missed, render

STORE, NEW = "runner.db", "new.db"
_NOWHERE = "http://127.0.0.1:9/v1"
_GROWTH_MB = 32.0
_MB = 1_000_000


class Made(NamedTuple):
    """A folder with a prompt file of ``rows`` rows, and the store of a run in which all of them are done."""

    folder: Path
    rows: int
    # bytes of the store; and those of them that are answers' texts and rows' own fields
    stored: int
    texts: int


def main() -> int:
    """Parse the command line, measure, print the table; return 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.million", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the large file (1,000,000)")
    parser.add_argument("--runs", type=int, default=1, help="how often everything is measured; the table shows medians (1)")
    parser.add_argument(
        "--sent",
        type=int,
        default=200_000,
        help="rows that are sent to see memory grow; a second run sends three times as many",
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="one scenario, by its name in the table")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupted)
    figures_of: dict[str, list[list[Figure]]] = {}
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as folder:
        large, small = (_make(Path(folder) / str(rows), rows) for rows in (args.rows, args.rows // 10))
        scenarios = _scenarios(large, small, args.sent)
        for name in args.only or scenarios:
            for number in range(1, args.runs + 1):
                figures = scenarios[name]()
                figures_of.setdefault(name, []).append(figures)
                say(f"{name}, run {number}: {', '.join(f'{figure.what} {figure.text(figure.value)}' for figure in figures)}")
    where = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    print(f"{where}, {args.rows:,} rows, median of {args.runs}\n")
    print(render(figures_of))
    return int(any(missed(runs) for runs in figures_of.values()))


def _scenarios(large: Made, small: Made, sent: int) -> dict[str, Callable[[], list[Figure]]]:
    store = Figure("bytes a row beyond the texts", (large.stored - large.texts) / large.rows, "bytes", at_most=250)
    return {
        "finished": lambda: _both(large, small, _finished, cpu_s=4, peak=140),
        "first request": lambda: _both(large, small, _first, cpu_s=3),
        "first request, no ids": lambda: _both(large, small, _first_without_ids),
        "first request, pairs": lambda: _both(large, small, _first_in_pairs),
        "first request, gzip": lambda: _both(large, small, _first_compressed),
        "first request, stdin": lambda: _both(large, small, _first_from_stdin),
        "one open row": lambda: _both(large, small, _one_open),
        "one new row": lambda: _both(large, small, _one_new),
        "check": lambda: _both(large, small, lambda made: _ended(made, "check", "prompts.jsonl", *_to(_NOWHERE))),
        "export csv": lambda: _export(large, small, "answers.csv", at_least=80_000),
        "export jsonl": lambda: _export(large, small, "answers.jsonl"),
        # pyarrow alone takes most of its peak
        "export parquet": lambda: _export(large, small, "answers.parquet", peak=350),
        "export sqlite": lambda: _export(large, small, "answers.sqlite"),
        "export xlsx": lambda: _export(large, small, "answers.xlsx"),
        "report": lambda: _both(large, small, lambda made: _ended(made, "report", "--db", STORE), cpu_s=20, peak=120),
        "store": lambda: [store],
        "--help": lambda: _help(small),
        "sent": lambda: _sent(large, min(sent, large.rows // 3)),
    }


def _both(
    large: Made,
    small: Made,
    measure: Callable[[Made], Ran],
    *,
    cpu_s: float | None = None,
    peak: float | None = None,
) -> list[Figure]:
    """Measure both files; the difference in memory is due to the rows. Wall time has no target, as the machine may be shared."""
    most, least = measure(large), measure(small)
    grown = (most.peak_mib - least.peak_mib) * 1.048576 / (large.rows - small.rows) * _MB
    return [
        Figure("CPU", most.cpu_s, "s", at_most=cpu_s),
        Figure("wall", most.wall_s, "s"),
        Figure("peak", most.peak_mib * 1.048576, "MB", at_most=peak),
        Figure("growth per million rows", max(0.0, grown), "MB", at_most=_GROWTH_MB),
    ]


def _export(large: Made, small: Made, name: str, *, at_least: float | None = None, peak: float = 120) -> list[Figure]:
    cpu, *rest = _both(large, small, lambda made: _ended(made, "export", "-o", name, "--db", STORE), peak=peak)
    (large.folder / name).unlink()
    return [Figure("rows per CPU second", large.rows / cpu.value, "", at_least=at_least), *rest]


def _help(made: Made) -> list[Figure]:
    """Compare start-ups, alternately and several times."""
    pairs = [
        (child.spawn(made.folder, (sys.executable, "-c", "import click")).cpu_s, child.run(made.folder, "--help").cpu_s)
        for _ in range(15)
    ]
    click, shown = (statistics.median(times) for times in zip(*pairs, strict=True))
    return [Figure("CPU", shown * 1000, "ms"), Figure("CPU / `import click`", shown / click, "", at_most=2)]


def _finished(made: Made) -> Ran:
    return _ended(made, "run", "prompts.jsonl", "--db", STORE, *_to(_NOWHERE))


def _first(made: Made, name: str = "prompts.jsonl", stdin: Path | None = None) -> Ran:
    """Start a run of new rows, and kill it at its first request."""
    with Stub(silent=True) as stub:
        ran = child.run(
            made.folder, "run", name, "--db", NEW, *_to(stub.base_url), until=lambda: stub.first_at is not None, stdin=stdin
        )
    _delete_store(made.folder, NEW)
    return _reached(made, stub, ran)


def _first_without_ids(made: Made) -> Ran:
    return _first_of(made, (line.replace('"id"', '"name"') for line in map(bulk.line, range(made.rows))))


def _first_in_pairs(made: Made) -> Ran:
    """Every row occurs twice: the most that runner must remember about duplicates."""
    return _first_of(made, (f'{{"prompt":"number {number // 2}"}}\n' for number in range(made.rows)))


def _first_of(made: Made, lines: Iterable[str]) -> Ran:
    path = made.folder / "others.jsonl"
    with path.open("w", encoding="utf-8") as file:
        file.writelines(lines)
    try:
        return _first(made, path.name)
    finally:
        path.unlink()


def _first_compressed(made: Made) -> Ran:
    path = made.folder / "prompts.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as compressed, (made.folder / "prompts.jsonl").open("rb") as plain:
        shutil.copyfileobj(plain, compressed, 1 << 20)
    try:
        return _first(made, path.name)
    finally:
        path.unlink()


def _first_from_stdin(made: Made) -> Ran:
    return _first(made, "-", stdin=made.folder / "prompts.jsonl")


def _one_open(made: Made) -> Ran:
    """Resume a run whose last row has no outcome, and kill it at its first request."""

    def reopen(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM items WHERE position = (SELECT max(position) FROM items)")
        connection.execute("DELETE FROM attempts WHERE id = (SELECT max(id) FROM attempts)")

    return _resumed(made, reopen)


def _one_new(made: Made) -> Ran:
    """Resume a finished run after a row was appended to its file, and kill it at its first request."""
    path = made.folder / "prompts.jsonl"
    size = path.stat().st_size
    with path.open("a", encoding="utf-8") as file:
        file.write(bulk.line(made.rows))
    try:
        return _resumed(made, lambda _: None)
    finally:
        with path.open("r+b") as whole:
            whole.truncate(size)


def _resumed(made: Made, change: Callable[[sqlite3.Connection], None]) -> Ran:
    shutil.copy(made.folder / STORE, made.folder / NEW)
    with Stub(silent=True) as stub:
        with closing(sqlite3.connect(made.folder / NEW)) as connection, connection:
            change(connection)
            ((settings,),) = connection.execute("SELECT settings FROM runs").fetchall()
            moved = json.dumps({**json.loads(settings), "base_url": stub.base_url})
            connection.execute("UPDATE runs SET finished_at = NULL, settings = ?", (moved,))
        ran = child.run(made.folder, "resume", "--db", NEW, until=lambda: stub.first_at is not None)
    _delete_store(made.folder, NEW)
    return _reached(made, stub, ran)


def _sent(made: Made, rows: int) -> list[Figure]:
    """Send ``rows`` rows to a server, then three times as many: by then the number of requests in flight is constant."""
    peaks = []
    for limit in (rows, 3 * rows):
        with Stub() as stub:
            ran = _ended(made, "run", "prompts.jsonl", "--db", NEW, "--limit", str(limit), "-q", *_to(stub.base_url))
        _delete_store(made.folder, NEW)
        peaks.append(ran.peak_mib * 1.048576)
    grown = max(0.0, peaks[1] - peaks[0]) / (2 * rows) * _MB
    return [
        Figure("rows per CPU second", 3 * rows / ran.cpu_s),
        Figure("peak", peaks[1], "MB"),
        Figure("growth per million rows", grown, "MB", at_most=_GROWTH_MB),
    ]


def _to(base_url: str) -> tuple[str, ...]:
    return ("--provider", "openai", "--model", "m", "--base-url", base_url)


def _ended(made: Made, *arguments: str) -> Ran:
    ran = child.run(made.folder, *arguments)
    if ran.code != 0:
        raise RuntimeError(f"runner {' '.join(arguments)} ended with {ran.code}: {child.output(made.folder)[-2000:]}")
    return ran


def _reached(made: Made, stub: Stub, ran: Ran) -> Ran:
    if stub.first_at is None:
        raise RuntimeError(f"no request came: {child.output(made.folder)[-2000:]}")
    return ran._replace(wall_s=stub.first_at - ran.started)


def _delete_store(folder: Path, store: str) -> None:
    for path in folder.glob(f"{store}*"):
        path.unlink()


def _make(folder: Path, rows: int) -> Made:
    folder.mkdir()
    path = bulk.prompts(folder / "prompts.jsonl", rows)
    asyncio.run(bulk.finished(folder / STORE, path, _NOWHERE))
    with closing(sqlite3.connect(folder / STORE)) as connection:
        query = "SELECT sum(length(CAST(text AS BLOB)) + length(CAST(coalesce(metadata, '') AS BLOB))) FROM items"
        ((texts,),) = connection.execute(query).fetchall()
    return Made(folder, rows, (folder / STORE).stat().st_size, texts)


if __name__ == "__main__":
    sys.exit(main())
