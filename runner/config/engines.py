"""Makes the engine of a job: what places its workers."""

from collections.abc import Mapping
from typing import cast

from runner.config import plugins, trust
from runner.config.job import Job
from runner.config.trust import Grant
from runner.errors import UsageError
from runner.interfaces import Engine
from runner.text import clean, nearest


def engine_of(job: Job) -> Engine | None:
    """Return the engine that a job names, with its options; None if it names none.

    Raises UsageError for an unknown engine, for options that it does not take, for what its ``make`` refuses, and without a
    number of workers.
    """
    given = _given(job)
    if job.engine is None:
        if given:
            raise UsageError("--address and --engine-option are for an engine; name it: --engine NAME")
        return None
    if not job.workers:
        # auto is None here: it counts the processors of this machine
        raise UsageError(f"the engine {clean(job.engine, 60)} has to know how many workers to place; add --workers N")
    module = plugins.load("engines", job.engine)
    taken = tuple(getattr(module, "OPTIONS", ()))
    for name in given:
        if name not in taken:
            raise UsageError(_refusal(job.engine, name, taken))
    return cast("Engine", module.make(given))


def permitted(job: Job, environment: Mapping[str, str]) -> list[Grant]:
    """Return the code that a job runs, which the user has named or allowed. Raises UsageError if not, and as ``engine_of``."""
    code = trust.code_grants(job)
    trust.check(job, code, environment)
    engine_of(job)
    return code


def _given(job: Job) -> dict[str, object]:
    """Return the options of the engine by name. Raises UsageError for one without a value or with two."""
    texts = [job.engine_options] if isinstance(job.engine_options, str) else job.engine_options or []
    given: dict[str, object] = {} if job.engine_address is None else {"address": job.engine_address}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name and value):
            raise UsageError(f"--engine-option takes NAME=VALUE, not '{clean(text, 60)}'")
        if given.setdefault(name, value) != value:
            raise UsageError(f"the option {clean(name, 60)} of the engine has two values; give it once")
    return given


def _refusal(engine: str, name: str, taken: tuple[str, ...]) -> str:
    if name == "address":
        return f"the engine {engine} takes no --address"
    near = nearest(name, taken)
    names = ", ".join(taken) or "none"
    meant = f"did you mean {near}?" if near is not None else f"it takes: {names}"
    return f"the engine {engine} takes no option '{clean(name, 60)}'; {meant}"
