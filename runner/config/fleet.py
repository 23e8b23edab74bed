"""Several endpoints of one job: base URLs, a file or a name in the DNS that lists them, ``[[endpoints]]``, and several keys."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import structs

from runner.config.fleet_tables import FILE, SRV, Member, is_list, listed
from runner.config.job import Job
from runner.errors import UsageError
from runner.model import Json
from runner.text import clean, plural

MOST = 1_000
"""Endpoints of a job, at most."""
_MOST_BYTES = 1 << 20
_SHOWN = 4


def found(job: Job, usual: str, mended: Callable[[Job], Job]) -> Job:
    """Return the job with all of its endpoints. Its base URL is the first of them.

    usual: the base URL where an endpoint has none of its own. mended: returns a job of one endpoint with its base URL checked.
    Raises UsageError.
    """
    if job.endpoints is not None:
        tables: Sequence[Mapping[str, Json]] = job.endpoints
    else:
        tables = [{"base_url": url} for url in addresses(job.base_urls or (job.base_url or usual,))]
    every = [member for table in tables for member in _of(job, table, usual, mended)]
    if not every:
        raise UsageError("the list has no endpoint; name at least one")
    if len(every) > MOST:
        raise UsageError(f"the job has {len(every):,} endpoints, and at most {MOST:,} can be used; leave some out")
    members = tuple(_named(every))
    return structs.replace(job, base_url=members[0].base_url, members=members)


def member_at(job: Job, url: str, known: Sequence[Member], mended: Callable[[Job], Job]) -> list[Member]:
    """Return the endpoints at a base URL that has come into the list of a job. known: those there are. Raises UsageError."""
    return _named([*known, *_of(job, {"base_url": url}, url, mended)])[len(known) :]


def alone(job: Job, url: str) -> Job:
    """Return the job with one base URL."""
    return structs.replace(job, base_url=url, base_urls=(), key_variables=(), endpoints=None, members=())


def _of(job: Job, table: Mapping[str, Json], usual: str, mended: Callable[[Job], Job]) -> list[Member]:
    """Return the endpoints of a table: one for each of its keys."""
    url = table.get("base_url", usual)
    base_url = mended(alone(job, url)).base_url
    assert base_url is not None
    variables = listed(table.get("api_key_env")) or job.key_variables or (job.api_key_env,)
    if len(set(variables)) < len(variables):
        raise UsageError("api_key_env names a variable twice; each key is an account of its own")
    more = {name: table[name] for name in ("model", "weight", "fallback", "prices") if name in table}
    shown = base_url.partition("?")[0]
    names = [f"{shown} ({variable})" if len(variables) > 1 else shown for variable in variables]
    return [
        Member(name=name, base_url=base_url, key_variable=variable, **more)
        for name, variable in zip(names, variables, strict=True)
    ]


def _named(members: Sequence[Member]) -> list[Member]:
    """Return the endpoints with names that tell them apart: by model or query where these are the same. Raises UsageError."""
    names = [member.name for member in members]
    fuller = [one if names.count(one.name) == 1 else _fuller(one) for one in members]
    seen = set[str]()
    for one in fuller:
        if one.name in seen:
            raise UsageError(f"the endpoint {one.name} is given twice; leave one out")
        seen.add(one.name)
    return fuller


def _fuller(member: Member) -> Member:
    query = member.base_url.partition("?")[2]
    words = [member.name, *([f"?{query}"] if query else []), *([clean(member.model, 60)] if member.model is not None else [])]
    return structs.replace(member, name=" ".join(words))


def seen_by(job: Job, member: Member) -> Job:
    """Return the job as one of its endpoints has it."""
    unvouched = job.unvouched
    if "endpoints" in unvouched:
        # who has written the table has named the server and the key
        unvouched |= {"base_url", "api_key_env"}
    return structs.replace(
        job,
        base_url=member.base_url,
        api_key_env=member.key_variable,
        model=member.model or job.model,
        base_urls=(),
        key_variables=(),
        endpoints=None,
        members=(),
        unvouched=unvouched,
    )


def headline(job: Job) -> str:
    """Return the first line of a session: where its requests go. It contains no secret."""
    names = [f"{member.name} (fallback)" if member.fallback else member.name for member in job.members]
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    file = f", job file {job.file}" if job.file is not None else ""
    return f"{plural(len(names), 'endpoint')}: {shown}, model {job.model}{file}"


def addresses(given: Sequence[str]) -> list[str]:
    """Return the base URLs for which a list stands, each once. Raises UsageError."""
    urls = [url for one in given for url in (_listed(one) if is_list(one) else (one,))]
    if len(given) == len(urls) and len(set(urls)) < len(urls):
        twice = next(url for url in urls if urls.count(url) > 1)
        raise UsageError(f"base_url has {clean(twice)} twice; leave one out")
    return list(dict.fromkeys(urls))


def _listed(given: str) -> Iterator[str]:
    if given.startswith(SRV):
        # imported here: few fleets are found in the DNS
        from runner.config.srv import addresses_of

        return iter(addresses_of(given.removeprefix(SRV)))
    return _in_file(Path(given.removeprefix(FILE)))


def _in_file(path: Path) -> Iterator[str]:
    """Yield the base URLs in a file: one on a line; what follows a # is not read. Raises UsageError."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
        lines = text.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"the list of endpoints {path} is not UTF-8 text (byte {error.start})") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"the list of endpoints {path} cannot be read: {reason}") from error
    if len(text) > _MOST_BYTES:
        raise UsageError(f"the list of endpoints {path} is larger than {_MOST_BYTES >> 20} MiB")
    urls = [url for line in lines if (url := line.partition("#")[0].strip())]
    if not urls:
        raise UsageError(f"the list of endpoints {path} has no base URL in it; write one on each line")
    if nested := next((url for url in urls if is_list(url)), None):
        raise UsageError(f"the list of endpoints {path} names another list, {clean(nested)}; write base URLs into it")
    yield from urls


def changing(job: Job) -> bool:
    """Return True if the endpoints of a job may change while it runs."""
    return job.endpoints is None and any(map(is_list, job.base_urls))
