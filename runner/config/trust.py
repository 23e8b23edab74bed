"""What a job file may not decide alone: which server gets a secret, and which code is run.

A job file or a store may come from somebody else. So for each secret two things count: who named the server, and who named
the secret. An option, the environment and the default of the provider are the user's word; a file and a store are not.

    server                              secret                  it is sent
    the provider's own, or loopback     any                     yes
    named by the user                   named by the user       yes, and remembered
    any other way                                               if the pair is remembered, or the user allows it now

Code is the same with one question: a module that only a file names is imported if the user has allowed this module at this place.

What was named or allowed is remembered in a file of the user's configuration folder, and not in the store, which may come from
somebody else. A run whose pairs were named or allowed at its start is therefore not asked about when it is resumed.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp
from types import ModuleType
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, structs

from runner.config import address, plugins
from runner.config.job import Job
from runner.errors import UsageError
from runner.text import clean


class Grant(Struct, frozen=True, kw_only=True):
    """One thing that a job needs: the secret ``what`` at the server ``where``, or the module ``what`` in the file ``where``."""

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
        return f"{file} wants to send {clean(self.what)} to {clean(self.where)}"


class _Remembered(Struct):
    """The file: pairs of (secret, server) and of (module, place)."""

    keys: list[tuple[str, str]] = []
    code: list[tuple[str, str]] = []


def allowed(job: Job, yes: bool = True) -> Job:
    """Return a job whose user allows what its file asks for; the job itself without a yes."""
    return structs.replace(job, trusted=True) if yes else job


def code_grants(job: Job) -> list[Grant]:
    """Return the module that a job needs, if it is neither ours nor that of an installed plug-in."""
    if job.local_server is not None or plugins.registered("providers", job.provider) is not None:
        return []
    place = plugins.location(job.provider)
    if place is None:
        return []
    return [Grant(kind="code", what=job.provider, where=place, vouched="provider" not in job.unvouched)]


def key_grants(job: Job, module: ModuleType, environment: Mapping[str, str], key_variable: str | None) -> list[Grant]:
    """Return every secret that a job sends to a server that is neither the provider's own nor this machine.

    key_variable: the environment variable of the key; None if no key is sent.
    """
    assert job.base_url is not None
    where = address.origin(job.base_url)
    if where == address.origin(module.DEFAULT_BASE_URL) or address.is_loopback(urlsplit(where).hostname or ""):
        return []
    by_user = (environment.get(variable, "") for variable in ("RUNNER_BASE_URL", module.BASE_URL_ENV))
    host_vouched = "base_url" not in job.unvouched or where in {address.origin(url) for url in by_user if url}
    uses = [(key_variable, "api_key_env" not in job.unvouched, False)] if key_variable is not None else []
    for field in (*job.headers, *job.query):
        uses += [(variable, not field.unvouched, False) for variable in field.variables]
        if field in job.headers and field.text and not field.variables:
            uses.append((f"the header {field.name}", not field.unvouched, field.unvouched and field.file == _absolute(job.file)))
    return [
        Grant(kind="key", what=what, where=where, vouched=host_vouched and (named or own), own=own) for what, named, own in uses
    ]


def check(job: Job, grants: Iterable[Grant], environment: Mapping[str, str]) -> None:
    """Raise UsageError for the first grant that nobody has given."""
    missing = ungranted(job, grants, environment)
    if missing:
        hint = "add --trust (trust=True in Python)"
        raise UsageError(f"{missing[0].sentence(job)}, and you have not allowed that; if you trust it, {hint}")


def ungranted(job: Job, grants: Iterable[Grant], environment: Mapping[str, str]) -> list[Grant]:
    """Return the grants that nobody has given."""
    wanted = [grant for grant in grants if not (job.trusted or grant.vouched or grant.own)]
    if not wanted:
        return []
    known = _read(environment)
    # a server that the user names now may get a variable that the user has let go out before
    before = {what for what, _ in known.keys} if "base_url" not in job.unvouched else set()
    return [
        grant
        for grant in wanted
        if (grant.what, grant.where) not in (known.code if grant.kind == "code" else known.keys)
        and not (grant.kind == "key" and grant.what in before)
    ]


def remember(job: Job, grants: Iterable[Grant], environment: Mapping[str, str]) -> str | None:
    """Remember the grants that the user has named or allowed. Return a note if they cannot be written down."""
    given = [grant for grant in grants if grant.vouched or job.trusted or not grant.own]
    known = _read(environment)
    for grant in given:
        pairs = known.code if grant.kind == "code" else known.keys
        if (grant.what, grant.where) not in pairs:
            pairs.append((grant.what, grant.where))
    if known == _read(environment):
        return None
    path = remembered_in(environment)
    reason: str | None = "there is no home folder"
    if path is not None:
        try:
            _write(path, msgspec.json.format(msgspec.json.encode(known)))
        except OSError as error:
            reason = error.strerror
        else:
            return None
    return f"what this run may send could not be remembered ({reason}); `runner resume` will need --trust"


def remembered_in(environment: Mapping[str, str]) -> Path | None:
    """Return the file in the user's configuration folder; None if there is no such folder."""
    base = Path(environment.get("XDG_CONFIG_HOME", ""))
    if not base.is_absolute():
        try:
            home = Path.home()
        except RuntimeError:
            return None
        base = home / ".config"
        if sys.platform == "darwin":
            base = home / "Library" / "Application Support"
        elif sys.platform == "win32":
            base = Path(environment.get("APPDATA") or home / "AppData" / "Roaming")
    return base / "prompt-runner" / "trusted.json"


def _read(environment: Mapping[str, str]) -> _Remembered:
    """Return what is remembered: nothing if the file is missing or damaged, or if others may write to it."""
    path = remembered_in(environment)
    try:
        if path is None or (os.name == "posix" and _others_write(path.stat())):
            return _Remembered()
        return msgspec.json.decode(path.read_bytes(), type=_Remembered)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return _Remembered()


def _others_write(found: os.stat_result) -> bool:
    return bool(found.st_mode & 0o022) or found.st_uid not in (os.geteuid(), 0)


def _write(path: Path, data: bytes) -> None:
    """Replace the file at once, readable by its owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def _absolute(file: Path | None) -> Path | None:
    return file.absolute() if file is not None else None
