"""What a job file may not decide alone: which server gets a secret, and which code is run.

A job file or a store may come from somebody else. So for each secret two things count: who named the server, and who named
the secret. An option, the environment and the default of the provider are the user's word; a file and a store are not.

    server                              secret                  it is sent
    the provider's own, or loopback     any                     yes
    named by the user                   named by the user       yes, and remembered
    any other way                                               if the pair is remembered, or the user allows it now

Code is the same with one question: a module that only a file names is imported if the user has allowed this module at this place.
The user's word is for what was shown, and for nothing else.

What was named or allowed is remembered in a file of the user's configuration folder (``config.remembered``), and not in the
store, which may come from somebody else. A run whose pairs were named or allowed at its start is therefore not asked about when
it is resumed.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from msgspec import Struct, structs

from runner import origin
from runner.config import address, modules, plugins, remembered
from runner.config.job import Job
from runner.errors import UsageError
from runner.text import clean


class Grant(Struct, frozen=True, kw_only=True):
    """One thing that a job needs: the secret ``what`` at the server ``where``, the module ``what`` in the file ``where``.

    Or the engine ``what`` with the options ``where``: it starts programs in the name of the user.
    """

    kind: str
    what: str
    where: str
    # the user has named it, so nothing has to be asked
    vouched: bool = False
    # nothing has to be asked: it stands in the file that names the server
    own: bool = False

    def sentence(self, job: Job) -> str:
        """Return what the job wants, for a person."""
        file = clean(str(job.file or "the stored run"))
        if self.kind == "code":
            return f"{file} wants to run the module {clean(self.what)} ({clean(self.where)})"
        if self.kind == "engine":
            return f"{file} wants to start workers with {clean(self.what)} ({clean(self.where)})"
        return f"{file} wants to send {clean(self.what)} to {clean(self.where)}"

    @property
    def named(self) -> tuple[str, str, str]:
        """What it is, without who has named it."""
        return self.kind, self.what, self.where


def allowed(job: Job, yes: bool = True) -> Job:
    """Return a job whose user allows whatever its file asks for (--trust); the job itself without a yes."""
    return structs.replace(job, trusted=True) if yes else job


def granting(job: Job, grants: Iterable[Grant]) -> Job:
    """Return a job whose user allows these grants, which were shown, and no others."""
    return structs.replace(job, granted=job.granted | {grant.named for grant in grants})


def code_grants(job: Job) -> list[Grant]:
    """Return the modules that a job needs, if they are neither ours nor those of installed plug-ins, and its engine."""
    provider = [] if job.local_server is not None else _module_grants(job, "providers", "provider", job.provider)
    if job.engine is None:
        return provider
    given = (job.engine_options,) if isinstance(job.engine_options, str) else job.engine_options or ()
    where = ", ".join((*(() if job.engine_address is None else (f"address={job.engine_address}",)), *given))
    vouched = job.unvouched.isdisjoint(("engine", "engine_address", "engine_options"))
    engine = Grant(kind="engine", what=f"the engine {job.engine}", where=where or "without options", vouched=vouched)
    return [*provider, *_module_grants(job, "engines", "engine", job.engine), engine]


def _module_grants(job: Job, kind: str, setting: str, name: str) -> list[Grant]:
    if plugins.registered(kind, name) is not None:
        return []
    place = modules.location(name)
    if place is None or modules.of_python(name):
        return []
    return [Grant(kind="code", what=name, where=place, vouched=setting not in job.unvouched)]


def key_grants(job: Job, module: ModuleType, environment: Mapping[str, str], key_variable: str | None) -> list[Grant]:
    """Return every secret that a job sends to a server that is neither the provider's own nor this machine.

    So is an input that only a job file names, in another folder than its own.

    key_variable: the environment variable of the key; None if no key is sent.
    """
    assert job.base_url is not None
    where = address.origin(job.base_url)
    if _needs_no_word(where, module):
        return []
    host_vouched = _named_by_user(job, where, module, environment)
    uses = [(key_variable, "api_key_env" not in job.unvouched, False)] if key_variable is not None else []
    for field in (*job.headers, *job.query):
        uses += [(variable, not field.unvouched, False) for variable in field.variables]
        if field in job.headers and field.text and not field.variables:
            uses.append((f"the header {field.name}", not field.unvouched, field.unvouched and field.file == _absolute(job.file)))
    if "input" in job.unvouched:
        # any text file may be an input
        names = " and ".join(origin.names_of(job.input))
        uses.append((f"the file {names}" if origin.name_of(job.input) is None else f"the answers of {names}", True, False))
    return [
        Grant(kind="key", what=what, where=where, vouched=host_vouched and (named or own), own=own) for what, named, own in uses
    ]


def files_grant(job: Job, module: ModuleType, environment: Mapping[str, str], folder: Path) -> Grant | None:
    """Return what sending the files in a folder, which rows name, needs; None if nothing.

    A server that only a job file names may get prompts without a word, but not whatever pictures and PDFs lie beside them.
    """
    where = address.origin(job.base_url or "")
    if _needs_no_word(where, module):
        return None
    vouched = _named_by_user(job, where, module, environment) and "files_root" not in job.unvouched
    return Grant(kind="key", what=f"the files in {folder}", where=where, vouched=vouched)


def is_users(job: Job, module: ModuleType, environment: Mapping[str, str]) -> bool:
    """Return True if the user has named the server of a job, or any secret may go there.

    Else no advice may spell it as an option: whoever types that has named it.
    """
    where = address.origin(job.base_url or "")
    return _needs_no_word(where, module) or _named_by_user(job, where, module, environment)


def _needs_no_word(where: str, module: ModuleType) -> bool:
    return where == address.origin(module.DEFAULT_BASE_URL) or address.is_loopback(urlsplit(where).hostname or "")


def _named_by_user(job: Job, where: str, module: ModuleType, environment: Mapping[str, str]) -> bool:
    by_user = (environment.get(variable, "") for variable in ("RUNNER_BASE_URL", module.BASE_URL_ENV))
    return "base_url" not in job.unvouched or where in {address.origin(url) for url in by_user if url}


def check(job: Job, grants: Iterable[Grant], environment: Mapping[str, str]) -> None:
    """Raise UsageError for the first grant that nobody has given."""
    missing = ungranted(job, grants, environment)
    if missing:
        fault = remembered.fault(environment)
        hint = "add --trust (trust=True in Python)" + (f". {fault}" if fault is not None else "")
        raise UsageError(f"{missing[0].sentence(job)}, and you have not allowed that; if you trust it, {hint}")


def ungranted(job: Job, grants: Iterable[Grant], environment: Mapping[str, str]) -> list[Grant]:
    """Return the grants that nobody has given."""
    return [] if job.trusted else _unknown(job, (grant for grant in grants if not grant.own), environment)


def refusal(job: Job, grant: Grant | None, environment: Mapping[str, str]) -> str | None:
    """Return why a grant that the start of a run does not need is missing; None if it is not."""
    if grant is None or not ungranted(job, [grant], environment):
        return None
    return f"{grant.sentence(job)}, and you have not allowed that; if you trust it, add --trust (trust=True in Python)"


def notes(job: Job, grants: Iterable[Grant], environment: Mapping[str, str]) -> list[str]:
    """Return one sentence for each grant that --trust gives: the user has seen none of them, and they are remembered."""
    new = _unknown(job, grants, environment) if job.trusted else []
    return [f"--trust allows, now and in later runs: {grant.sentence(job)}" for grant in new]


def _unknown(job: Job, grants: Iterable[Grant], environment: Mapping[str, str]) -> list[Grant]:
    """Return the grants that the user has neither named nor allowed, now or earlier."""
    wanted = [grant for grant in grants if not (grant.vouched or grant.named in job.granted)]
    if not wanted:
        return []
    known = remembered.read(environment)
    # a server that the user names now may get a variable that the user has let go out before
    before = {what for what, _ in known.keys} if "base_url" not in job.unvouched else set()
    return [
        grant
        for grant in wanted
        if (grant.what, grant.where) not in (known.keys if grant.kind == "key" else known.code)
        and not (grant.kind == "key" and grant.what in before)
    ]


def remember(job: Job, grants: Iterable[Grant], environment: Mapping[str, str]) -> list[str]:
    """Remember the grants that the user has named or allowed. Return what the user should know of it, one sentence each."""
    given = [grant for grant in grants if grant.vouched or job.trusted or not grant.own]
    if not given:
        return []
    keys = [(grant.what, grant.where) for grant in given if grant.kind == "key"]
    # engines beside modules: both start programs
    code = [(grant.what, grant.where) for grant in given if grant.kind != "key"]
    return remembered.add(keys, code, environment)


def _absolute(file: Path | None) -> Path | None:
    return file.absolute() if file is not None else None
