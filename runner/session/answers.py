"""The answers of a run as an input, ``run:12``: each answered row with its own fields and its answer."""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import msgspec

from runner import origin
from runner.answer_shape import FieldKind, fields_in
from runner.errors import UsageError
from runner.exports.answer_fields import values
from runner.inputs.choosing import Rows
from runner.inputs.content import Content
from runner.inputs.keys import whole
from runner.inputs.own_names import ANSWER, NUMBER, added, free
from runner.model import Json, Row, Run
from runner.origin import Files
from runner.session.naming import command
from runner.several import amount, number_of, row_of, unit
from runner.store import database, labelling
from runner.store.answered import Answered, AnsweredRows
from runner.store.reader import StoreReader
from runner.text import plural


class Answers(NamedTuple):
    """The answered rows of a run as they were when it was opened.

    files: those that the run has read, if several. about: what a person should know of it, one sentence each. several: its rows
    have more than one answer, and each is a row here. named: the fields of the answers, each with its name as a field of a row.
    kinds: what each of them holds.
    """

    run: Run
    rows: AnsweredRows
    files: Files | None
    store: Path
    about: tuple[str, ...]
    several: bool = False
    named: Mapping[str, str] = {}
    kinds: Mapping[str, FieldKind] = {}

    @property
    def places(self) -> tuple[str, ...]:
        """What stands before the line of a row, for each file that the run has read."""
        named = f"run {self.run.id}"
        return tuple(f"{named}, {name}" for name in (*self.files.names, *self.files.gone)) if self.files is not None else (named,)

    def read(self) -> Rows:
        """Yield the rows, in the order of the run's input. A row keeps its id, its line and its fields."""
        places = [f"{place}, line" for place in self.places]
        for row in self.rows:
            index = min(row.position // origin.LINES, len(places) - 1)
            size = len(row.fields or "") + len(row.text or "")
            yield Row(line=row.position, fields=self._of_row(row), size=size, place=places[index])

    def _of_row(self, row: Answered) -> dict[str, Json]:
        """Return the fields of a row: its id, its own, and the answer. What it set for its own request is not passed on.

        Of several answers, the first keeps the id of the row, as it had it when it was the only one.
        """
        own, number = _stored(self.store, row), number_of(row.key)
        given = whole(own.pop("id", None))
        id_ = row_of(row.key) if given is None else given
        fields = {"id": id_ if number == 1 else f"{id_}#{number}", **own}
        fields.pop("params", None)
        ours: dict[str, Json] = {ANSWER: row.text, **({NUMBER: number} if self.several else {})}
        return added(fields, {**ours, **dict(zip(self.named.values(), values(row.text, self.kinds), strict=True))})

    def measured(self) -> Content:
        """Hash the rows. Two runs with the same rows and answers have the same content."""
        hashed, size = blake2b(digest_size=16), 0
        for row in self.rows:
            block = msgspec.json.encode((row.position, row.key, row.fields, row.text))
            hashed.update(block)
            size += len(block)
        digest = hashed.hexdigest()
        return Content(size=size, digest=digest, whole=0, lines=0, whole_digest=digest)


def opened(source: Path, store: Path) -> Answers:
    """Return the answers of a run that a source names. Raises UsageError if there are none, or no such run."""
    number = origin.run_of(source)
    with StoreReader(store) as reader:
        run = reader.run(number)
        several, *_ = reader.shares(run.id)
    rows = AnsweredRows(store, run.id, several=several)
    if not len(rows):
        raise UsageError(
            f"run {run.id} has no answers yet, so there is nothing to send; `{command('status', run.id, store)}` shows it"
        )
    first, names = next(iter(rows), None), _field_names(run)
    ours = (ANSWER, *((NUMBER,) if several else ()), *names.values())
    about = (*_remarks(run, len(rows)), *(_own_answer(run, _stored(store, first), ours) if first is not None else ()))
    return Answers(run, rows, origin.files_in(run.settings), store, about, several, names, fields_in(run.settings))


def numbered(source: Path, store: Path) -> Path:
    """Return an input that is the answers of a run by the number of that run. Raises UsageError if none has its name."""
    called = origin.name_of(source)
    if called is None or origin.run_of(source) is not None:
        return source
    number = labelling.number_of(store, called)
    if number is None:
        raise UsageError(f"no run of {store} has the name {called}; `runner list` shows the runs")
    return Path(f"run:{number}")


def folder_of_files(source: Path, store: Path) -> str:
    """Return the folder of the files that the rows of a run name, as that has it. Raises UsageError if there is no such run."""
    with StoreReader(store) as reader:
        run = reader.run(origin.run_of(source), counted=False)
    root = run.settings.get("files_root")
    if isinstance(root, str):
        return root
    return str(origin.folder_of(run.input))


def _remarks(run: Run, answered: int) -> Iterator[str]:
    if run.active or run.finished_at is None:
        of = f" of {amount(run.rows, run.answers)}" if run.rows is not None else ""
        yield (
            f"run {run.id} is not finished: {answered:,}{of} are answered so far, and these are used; "
            "the same command continues with the others once they are answered"
        )
    if run.failed:
        yield f"{plural(run.failed, f'failed {unit(run.answers)}')} of run {run.id} {'is' if run.failed == 1 else 'are'} left out"
    if run.settings.get("keep_rows") is False:
        yield f"run {run.id} has not kept what its rows asked (keep_rows = false), so only their other fields are there"


def _own_answer(run: Run, fields: Mapping[str, Json], names: Iterable[str]) -> Iterator[str]:
    for ours in names:
        if ours in fields:
            yield f"the rows of run {run.id} have a field {ours} of their own, which is called {free(fields, ours)} here"


def _stored(store: Path, row: Answered) -> dict[str, Json]:
    try:
        return msgspec.json.decode(row.fields, type=dict[str, Json]) if row.fields is not None else {}
    except database.DAMAGE as error:
        raise database.store_error(store, "read", error) from error


def _field_names(run: Run) -> dict[str, str]:
    """Return the fields of the answers of a run, each with the name of the row's field that it becomes: ``answer_NAME``."""
    names: dict[str, str] = {}
    for field in fields_in(run.settings):
        name = f"{ANSWER}_{field}"
        names[field] = f"{ANSWER}_{name}" if name == NUMBER else name
    return names
