"""Chooses the run that a session continues, and settles what the session may change about it.

The address and the key of a run may move at any time, and stay so. What makes the answers may be another one for the rows that a
retry sends, which is noted with each attempt; or for the whole run, as long as it has no answer.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from runner import origin
from runner.config import endpoint
from runner.config.job import Job
from runner.errors import StoreError, UsageError
from runner.inputs import spool
from runner.model import Json, Run
from runner.money import COSTS, Money, exact, picodollars
from runner.session import identity, overlap, raising, refusing
from runner.session.identity import Given
from runner.session.naming import command
from runner.session.options import SessionOptions
from runner.session.refusing import plain
from runner.store import database, runs
from runner.store.changes import Changes, noted
from runner.store.places import is_same_place, place_of
from runner.store.reader import StoreReader
from runner.store.runs import FoundRun, KnownRun
from runner.text import shell_word

_KEPT = ("api_key_env", "max_cost", "max_cost_session", "max_tokens_total", "headers", "query", "prices", "fallback_on")
"""What belongs to an address, the budget and the prices: if it is given to ``resume`` or ``retry``, the run keeps it."""


class Chosen(Struct, frozen=True, kw_only=True):
    """The run that a session continues (None: a new one), what it changes about that run, and what a person should know of it.

    newest: number of the newest run that was looked at. alike: of a new run, those that may have answered its rows too. raised:
    more answers of each row are wanted than before.
    """

    run: KnownRun | None = None
    changes: Changes = Changes()
    about: tuple[str, ...] = ()
    newest: int = 0
    alike: tuple[KnownRun, ...] = ()
    raised: bool = False


class Idle(Struct, frozen=True, kw_only=True):
    """A run that is finished, what a person should know of it, and what it has cost."""

    run: Run
    about: tuple[str, ...]
    money: Money = Money()


def known_runs(store: Path) -> list[KnownRun]:
    """Return the runs of a store, newest first; none if there is no store yet."""
    if not store.is_file() or not store.stat().st_size:
        return []
    database.prepare(store, create=False)
    # the rows of a program's session are in no file
    return [run for run in runs.known_runs(store) if not spool.is_asked(run.input)]


def choose(job: Job, given: Given, known: Sequence[KnownRun], options: SessionOptions) -> Chosen:
    """Choose the run of a session: the one that was named, or the one that the file and the settings belong to.

    known: all runs, newest first. Raises UsageError if the run cannot take what was asked for, or the user has to decide.
    """
    chosen = _chosen(job, given, known, options)
    if chosen.run is not None and raising.is_raised(job, chosen.run):
        # the beginning in which all was settled is looked at again
        chosen = structs.replace(chosen, run=structs.replace(chosen.run, head=None), raised=True)
    files, run = given.prompts.files, chosen.run
    if files is None and run is not None and origin.files_in(run.settings) is not None:
        # rows of other files may still be there
        files = origin.files_of([given.path])
    if files is None:
        return chosen
    single = run.input if run is not None else None
    of_a_run = origin.run_of(given.path) is not None
    return structs.replace(chosen, changes=structs.replace(chosen.changes, files=files, single=single, taken_over=of_a_run))


def _chosen(job: Job, given: Given, known: Sequence[KnownRun], options: SessionOptions) -> Chosen:
    newest = max((run.id for run in known), default=0)
    if options.run_id is not None:
        run = runs.known_run(given.store, options.run_id)
        changes = changes_of(job, given, run, options)
        identity.refuse_other_rows(given, run)
        return Chosen(run=run, changes=changes, about=tuple(_changed(run, changes)), newest=newest)
    if options.new:
        return Chosen(newest=newest)
    fingerprint = runs.answer_fingerprint(job.answer_settings())
    alike = [run for run in known if run.fingerprint == fingerprint]
    if origin.run_of(job.input) is not None:
        # no run may come to read its own answers, on whatever way
        alike = [run for run in alike if run.input == str(job.input)]
    found = identity.find(given, alike)
    if found is not None:
        refuse_other_address(job, given.store, found)
        return Chosen(run=found, about=(*_elsewhere(job, given, found), *raising.told(job, found)), newest=newest)
    here = next((run for run in alike if identity.is_at(given, run)), None)
    about = [f"{_name(given.path)} holds none of the rows of run {here.id}, so this starts a new run"] if here is not None else []
    return Chosen(about=tuple(about), newest=newest, alike=tuple(_not_taken_over(job, given, alike)))


def chooses_otherwise(job: Job, then: Mapping[str, Json]) -> bool:
    """Return True if a job chooses its rows (``where``, ``sample``) in another way than what it continues. then: its settings."""
    now = job.settings()
    names = ("where", "sample", "sample_seed") if job.sample is not None else ("where", "sample")
    return any(then.get(name) != now.get(name) for name in names)


def nothing_left(given: Given, chosen: Chosen, options: SessionOptions) -> bool:
    """Return True if the run is finished, and its input still has the same content."""
    run = chosen.run
    if run is None or chosen.raised or run.look_again or options.retry_failed or options.accept_changes:
        return False
    return run.finished and run.input_digest == given.digest


def idle(job: Job, given: Given, chosen: Chosen) -> Idle:
    """Return a run in which nothing is left to do. Its input stays what it was, unless that cannot be read any more."""
    run, changes, about = chosen.run, chosen.changes, chosen.about
    assert run is not None
    if not changes.columns and (lowered := raising.lowered(job, run)).columns:
        # as below: what cannot be written is counted by the number of before
        with suppress(StoreError):
            runs.change(given.store, run.id, lowered)
    if changes.columns:
        runs.change(given.store, run.id, changes)
    elif not identity.is_at(given, run):
        if identity.is_incomplete(given, run):
            moved = noted({"input": run.input}, {"input": str(job.input)})
            # a store that cannot be written has all the results, and they are what is asked for
            with suppress(StoreError):
                runs.change(given.store, run.id, Changes(columns=runs.input_values(given.store, job.input), noted=moved))
        else:
            stays = f"run {run.id} read the same rows from {_name(Path(run.input))}, and resume and retry still do"
            about = (stays, *(words for words in about if words not in _elsewhere(job, given, run)[:1]))
    with StoreReader(given.store) as reader:
        return Idle(run=reader.run(run.id), about=about, money=reader.money(run.id))


def open_run(job: Job, given: Given, options: SessionOptions, chosen: Chosen) -> FoundRun:
    """Return the run to work on; create it if there is none."""
    if chosen.run is not None and options.run_id is not None:
        return runs.found(chosen.run)
    return runs.open_run(
        given.store,
        runs.Input(path=job.input, digest=given.digest, size=given.content.size),
        job.stored(),
        job.answer_settings(),
        new=options.new,
        continues=chosen.run,
        looked_at=chosen.newest,
        kept_mark=spool.MARK if spool.MARK in job.input.name else None,
    )


def refuse_other_address(job: Job, store: Path, run: KnownRun) -> None:
    """Raise UsageError if a run that `runner run` would continue has answers from another address."""
    place = place_of(job.settings())
    if is_same_place(run.base_url, place) or not runs.has_answers(store, run.id):
        return
    # nothing is advised that sends a secret, before the user has allowed where it goes
    endpoint.refuse_ungranted(job, os.environ)
    moved = _moved(job)
    resume = command("resume", run.id, store, *moved)
    if not moved:
        raise UsageError(
            f"run {run.id} has answers to these rows from {run.base_url}, and {job.file or 'a file'} names {place}: "
            f"`{resume}` continues that run at {run.base_url}, and --new starts a new run that sends all rows to {place}"
        )
    raise UsageError(
        f"run {run.id} has answers to these rows from {run.base_url}, and base_url is {place} now: "
        f"`{resume}` continues that run there, and --new starts a new run that sends all rows again"
    )


def changes_of(job: Job, given: Given, run: KnownRun, options: SessionOptions) -> Changes:
    """Return what ``resume`` or ``retry`` changes about its run. Raises UsageError if the run cannot take it.

    job: the run's own, with what was given on the command line.
    """
    store, answer = given.store, job.answer_settings()
    different = runs.differences(run.settings, answer)
    settings, names, columns = {**run.settings}, ["base_url", *_KEPT[:4], "endpoints"], dict[str, Json]()
    now = job.settings()
    settings |= {name: now[name] for name in ("base_url", "endpoints") if now[name] is not None or name in settings}
    settings |= {name: value for name, value in now.items() if name in _KEPT and is_option(job, name)}
    if different and options.retry_failed:
        refusing.other_provider(job, store, run, different)
        refusing.other_template(job, store, run, different)
    elif different:
        refusing.answered(job, store, run, different)
        settings |= answer
        names += different
        columns["fingerprint"] = runs.answer_fingerprint(answer)
    answers, more = raising.changes(job, run)
    settings, names, columns = settings | answers, [*names, *answers], columns | more
    if settings != run.settings:
        columns["settings"] = msgspec.json.encode(settings).decode()
    if str(job.input) != run.input:
        columns |= runs.input_values(store, job.input)
    after = {name: settings.get(name) for name in names} | ({"input": str(job.input)} if "input" in columns else {})
    return Changes(
        columns=columns,
        noted=noted({**run.settings, "input": run.input}, after),
        variant=answer if different and options.retry_failed else None,
    )


def _elsewhere(job: Job, given: Given, run: KnownRun) -> list[str]:
    """Say where the rows of a run are now, if not where they were, and where they are sent now."""
    about = []
    if not identity.is_at(given, run):
        about.append(f"run {run.id} read these rows from {_name(Path(run.input))}; it continues with {_name(given.path)}")
    elif identity.is_elsewhere(given, run):
        about.append(f"run {run.id} read these rows from {run.target or run.input}; it continues with {given.path.resolve()}")
    if run.base_url != (place := place_of(job.settings())):
        about.append(f"run {run.id} continues at {place} (before: {run.base_url})")
    return about


def _not_taken_over(job: Job, given: Given, alike: Sequence[KnownRun]) -> list[KnownRun]:
    """Return the runs whose answers a new run does not take over: then its rows may be bought a second time."""
    return [run for run in alike if not (job.reuse and run.base_url == given.base_url and overlap.can_be_asked_again(run))]


def answered_elsewhere(job: Job, given: Given, chosen: Chosen, options: SessionOptions, own: int) -> list[str]:
    """Say which rows of a new run another run has answered, and how to have only the others sent.

    own: number of the new run. The rows to which it has taken over answers are not sent, so nothing is said of them.
    """
    found = overlap.find(given, chosen.alike, limit=options.limit, own=own)
    if found is None:
        return []
    moved = _moved(job) if found.run.base_url != given.base_url else []
    resume = command("resume", found.run.id, given.store, *moved)
    export = command("export", found.run.id, given.store, "-o", "answers.csv")
    return [overlap.sentence(_name(given.path), found, resume=resume, export=export)]


def _changed(run: KnownRun, changes: Changes) -> list[str]:
    """Say what ``resume`` or ``retry`` changes about its run."""
    about = [
        f"run {run.id} goes on with {what} {_written(what, new)} (before: {_written(what, old) or 'unset'})"
        for what, old, new in changes.noted
    ]
    if changes.variant is not None:
        different = runs.differences(run.settings, changes.variant).items()
        words = ", ".join(f"{name} {plain(now)} (the run: {plain(then)})" for name, (then, now) in different)
        about.append(f"the rows that are retried get {words}")
    return about


def _written(what: str, value: str | None) -> str | None:
    """Return the text of a setting as a person reads it."""
    if value is None or what not in (*COSTS, "max_tokens_total"):
        return value
    return exact(picodollars(float(value))) if what in COSTS else f"{int(value):,}"


def _name(path: Path) -> str:
    name = spool.display_name(path)
    return origin.shown(path) if name == path.name else name


def is_option(job: Job, name: str) -> bool:
    """Return True if a setting was given to this session, and not by a file or a variable."""
    return job.sources.get(name, "").startswith("option")


def _moved(job: Job) -> list[str]:
    """Return the option that moves a run to the address of a job, as words; none if only a file names that address.

    Whoever types an address has named it, and a key may go there then.
    """
    if not endpoint.is_users(job, os.environ) or job.endpoints:
        return []
    return [word for url in job.base_urls or (job.base_url,) for word in ("--base-url", shell_word(str(url)))]
