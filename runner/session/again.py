"""The command that does once more what a session did, and no more than that: with what was chosen for this session alone."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from runner import origin
from runner.config import endpoint
from runner.config.fields import Field
from runner.config.job import Job, load_job
from runner.config.settings import BY_NAME, SETTINGS, Setting
from runner.errors import UNKNOWN, RunnerError
from runner.inputs import spool
from runner.model import Json
from runner.session.naming import file_word, in_full, store_option
from runner.session.options import SessionOptions
from runner.text import as_text, shell_word

KEPT = (
    *("base_url", "api_key_env", "endpoints", "fallback_on", "max_cost", "max_cost_session", "max_tokens_total"),
    *("headers", "query", "prices", "answers"),
)
"""What a run keeps that ``resume`` or ``retry`` was given: the next session needs no word of it."""
_LEADS = ("api_key_env", "endpoints", "headers", "query")
"""Settings that name secrets."""
_CONTINUES = re.compile(r"`runner (?:resume|retry)((?: --[^`]*)?)`")
_UNFIT = re.compile(r"`|^\$'")
"""Words that no sentence can hold as they are typed."""
_MOST = 2_000
"""Characters of a command that are still of use to a person."""


class Again:
    """How a session is done once more. db: the store, for its commands; run: the number of the run."""

    def __init__(self, job: Job, options: SessionOptions, db: str | Path, run: int) -> None:
        self._job, self._options, self._db, self._run = job, options, options.db or db, run

    def raising(self, words: str = "") -> str:
        """Return the same command with other limits of a budget, as a sentence of the store has it. words: their options."""
        found = self._whole(words) if self._in_part else self._continued(words)
        return found or (f"the same command with {words}" if words else "the same command again")

    def kept(self, sentence: str) -> str:
        """Return a sentence as the store keeps it. After a sample, no command that it names may send the other rows."""
        if self._options.sample is None:
            return sentence
        return _CONTINUES.sub(lambda found: self.raising(found[1].strip()), sentence)

    def told(self, sentence: str) -> str:
        """Return a sentence as it is told, with the commands that it names complete."""
        return in_full(self.kept(sentence), self._run, self._db)

    @property
    def _in_part(self) -> bool:
        """Return True for a part of an input that no other command leaves it at."""
        return self._options.sample is not None or (self._options.limit is not None and self._options.run_id is None)

    def _continued(self, words: str) -> str | None:
        """Return the command that continues the run. ``run`` and ``retry`` store their settings, resume leaves those that are."""
        stored = self._options.run_id is None or self._options.retry_failed
        own = [] if stored else _chosen(self._job, KEPT)
        own = [] if own is None else [*own, *_flags(self._options)]
        if not _fits(own):
            return None
        return f"`{' '.join(['runner', 'resume', *own, *([words] if words else [])])}`"

    def _whole(self, words: str) -> str | None:
        """Return the command with its file and all its options; None if it cannot be typed."""
        job, options = self._job, self._options
        given = set(re.findall(r"--(\S+)", words))
        own = _chosen(job, [one.name for one in SETTINGS if one.option.removeprefix("--") in given])
        file = job.file if job.file is not None and job.file.with_suffix("") != job.input.with_suffix("") else job.input
        if own is None or spool.is_copy(job.input) or (file == job.input and len(origin.names_of(file)) > 1):
            return None
        number = ["--sample", str(options.sample)] if options.sample is not None else []
        number += ["--limit", str(options.limit)] if options.limit is not None else []
        typed = [*number, *own, *_flags(options), *([words] if words else [])]
        name = "estimate" if options.sample is not None else "run"
        text = f"runner {name} {file_word(file)} {' '.join(typed)}{store_option(self._db)}"
        return f"`{text}`" if _fits([file_word(file), *typed]) and len(text) <= _MOST else None


def anew(job: Job, store: str | Path) -> str:
    """Return the command of a new run like a job, with what the job file and the variables of today do not say.

    It spells no secret, and no address to which the user has not allowed secrets to go: that is the word URL.
    """
    names, users = origin.names_of(job.input), _may_lead(job)
    try:
        today = endpoint.with_base_url(load_job(names if len(names) > 1 else names[0], {}), os.environ).settings()
    except RunnerError:
        today = {setting.name: setting.default for setting in SETTINGS}
    now, words = job.settings(), list[str]()
    for setting in SETTINGS:
        value = _value(job, setting)
        if value is None or now[setting.name] == today[setting.name] or (not users and setting.name in _LEADS):
            continue
        typed = list(_typed(setting, value if users or setting.name != "base_url" else UNKNOWN))
        words += [word for word in typed if word is not None] if None not in typed else []
    return f"runner run {' '.join([file_word(job.input), *words])}{store_option(store)}"


def _may_lead(job: Job) -> bool:
    """Return True if the user has allowed secrets to go to the address of a job."""
    try:
        return endpoint.is_users(job, os.environ) or not endpoint.ungranted(job, os.environ)
    except RunnerError:
        return False


def plain(words: str = "") -> str:
    """Return the command that continues a run, as ``Again.raising`` does for a session without options of its own."""
    return f"`runner resume {words}`" if words else "`runner resume`"


Raising = Callable[[str], str]
"""Returns the command with other limits of a budget."""


def _fits(words: list[str]) -> bool:
    return not any(_UNFIT.search(word) for word in words)


def _flags(options: SessionOptions) -> list[str]:
    flags = ["--accept-changes"] if options.accept_changes else []
    return [*flags, *(word for output in options.outputs for word in ("--output", shell_word(output)))]


_WRITTEN = {
    name: [BY_NAME[other].option for other in others]
    for name, others in {"prompt": ["prompt_file"], "schema": ["schema", "fields"]}.items()
}
"""Options whose value becomes that of another setting. Its source then has what was typed."""


def _chosen(job: Job, without: "tuple[str, ...] | list[str]") -> list[str] | None:
    """Return the options that were typed, as a shell reads them; None if one of them is a secret. without: names left out."""
    found: list[str] = []
    for setting in SETTINGS:
        source = job.sources.get(setting.name, "")
        if setting.name in without:
            continue
        written = next((option for option in _WRITTEN.get(setting.name, ()) if source.endswith(f" (option {option})")), None)
        if written is not None:
            found += [written, shell_word(source.rpartition(" (")[0])]
        elif source.startswith("option"):
            value = _value(job, setting)
            if value is None and setting.kind != "slots":
                continue
            for word in _typed(setting, value):
                if word is None:
                    return None
                found.append(word)
    return found


def _value(job: Job, setting: Setting) -> Json | tuple[Field, ...]:
    if setting.name in ("base_url", "api_key_env"):
        # a job has one value of several in another field
        return job.settings()[setting.name]
    return getattr(job.params if setting.key.startswith("params.") else job, setting.name)


def _typed(setting: Setting, value: Json | tuple[Field, ...]) -> Iterator[str | None]:
    """Yield the words of one option. None stands for a secret."""
    if setting.kind == "bool":
        yield setting.option if value else f"--no-{setting.option.removeprefix('--')}"
        return
    several = value if isinstance(value, list | tuple) and setting.kind in ("texts", "headers", "query") else [value]
    for one in several:
        yield setting.option
        if isinstance(one, Field):
            text = one.text if setting.kind == "query" else one.kept
            yield None if text is None else shell_word(f"{one.name}{': ' if setting.kind == 'headers' else '='}{text}")
        else:
            yield "auto" if one is None else shell_word(as_text(one))
