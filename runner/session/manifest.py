"""The manifest of an export: what a paper or a colleague needs to know of a run, and to do it again. It holds no secrets.

``docs/reference/manifest.schema.json`` is its schema.
"""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import msgspec

from runner import origin
from runner.errors import UsageError
from runner.exports.file import is_special, open_output
from runner.inputs import content, spool
from runner.model import Json, Run
from runner.session.outputs import Output
from runner.store import reuse
from runner.store.reader import StoreReader
from runner.store.runs import KnownRun, known_run
from runner.store.totals import Totals
from runner.text import encodable_tree, json_text, redact
from runner.version import __version__

VERSION = 1
"""Of the manifest; a later one may have other keys."""
_PACKAGES = (
    *("aiohttp", "aiosqlite", "anyio", "genai-prices", "httpx", "jinja2", "jiter", "jsonschema-rs", "msgspec", "pyarrow"),
    *("python-calamine", "sqlalchemy", "xlsxwriter"),
)
"""Packages that take part in requests, rows, answers, prices and files."""
_TEMPLATE = ("prompt", "messages", "system")
_OF_THIS_MACHINE = ("input", origin.STORED, "files_root", "prompt_file", "system_file")
"""Settings that are paths."""
_TOKENS = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
_COST = (
    *("currency", "cost", "cost_failed_attempts", "cost_perhaps", "unpriced_attempts", "killed_requests"),
    "cost_open_requests",
)


class Written(NamedTuple):
    """What was exported: how many rows, with which columns, and by which flags of ``runner.export``."""

    rows: int
    columns: Sequence[str]
    flags: Mapping[str, Json]


def write(output: Output, reader: StoreReader, run_id: int, written: Written) -> None:
    """Write the manifest beside an export that is complete. Raises StoreError."""
    run, totals = reader.run(run_id), reader.totals(run_id)
    made: dict[str, Json] = {
        "manifest": VERSION,
        "created_at": _instant(datetime.now(UTC).timestamp()),
        "versions": versions(),
        "export": _export(output, written),
        "run": {
            "number": run.id,
            "name": run.name,
            "tags": run.tags,
            "created_at": _instant(run.created_at),
            "finished_at": _instant(run.finished_at),
            "stop_reason": run.stop_reason,
        },
        "settings": without_secrets(run.settings),
        "other_settings": _others(reader, run),
        "template_sha256": _template(run),
        "input": _input(run, known_run(reader.path, run.id)),
        "outcomes": _outcomes(run, totals),
        "attempts": {"all": totals.attempts, "failed": totals.failed_attempts},
        "tokens": {name: getattr(totals, name) for name in _TOKENS},
        "cost": {name: getattr(totals, name) for name in _COST},
    }
    text = json_text(msgspec.json.format(msgspec.json.encode(encodable_tree(made)), indent=2))
    with open_output(output.manifest) as file:
        file.write(f"{text}\n")


def versions() -> dict[str, Json]:
    """Return the versions of what takes part in a run."""
    found = {name: _version(name) for name in _PACKAGES}
    packages = {name: version for name, version in found.items() if version is not None}
    return {"runner": __version__, "python": platform.python_version(), "system": platform.system(), "packages": packages}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _export(output: Output, written: Written) -> dict[str, Json]:
    path = Path(output.place)
    flags = {name: value for name, value in written.flags.items() if name != "manifest" and value not in (None, False, [], ())}
    return {
        "file": path.name,
        "format": output.kind.replace("_", "-"),
        **_hashed(path),
        "rows": written.rows,
        "columns": None if output.is_whole else list(written.columns),
        "options": {name: list(value) if isinstance(value, tuple) else value for name, value in flags.items()},
    }


def _hashed(path: Path) -> dict[str, Json]:
    """Return size and hash of a file; both None if it cannot be read any more."""
    try:
        if is_special(path):
            return {"bytes": None, "sha256": None}
        with path.open("rb") as file:
            return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    except OSError:
        return {"bytes": None, "sha256": None}


def without_secrets(settings: Mapping[str, Json]) -> dict[str, Json]:
    """Return settings without paths of this machine, and without what looks like a key."""
    return {name: _without_keys(value) for name, value in settings.items() if name not in _OF_THIS_MACHINE}


def _others(reader: StoreReader, run: Run) -> list[dict[str, Json]]:
    """Return what was set otherwise for rows that a retry has sent, each set of settings by what differs in it."""
    decoded = map(msgspec.json.decode, reuse.variants(reader.fetch).get(run.id, {}).values())
    return [without_secrets({name: value for name, value in one.items() if run.settings.get(name) != value}) for one in decoded]


def _without_keys(value: Json) -> Json:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [_without_keys(part) for part in value]
    if isinstance(value, dict):
        return {name: _without_keys(part) for name, part in value.items()}
    return value


def _template(run: Run) -> str | None:
    """Return the hash of the texts from which requests are made; None if each row has its own."""
    texts = {name: run.settings.get(name) for name in _TEMPLATE}
    if not any(texts.values()):
        return None
    return hashlib.sha256(msgspec.json.encode(encodable_tree(texts), order="deterministic")).hexdigest()


def _input(run: Run, known: KnownRun) -> dict[str, Json]:
    """Return what a run has read, and whether it is still there as it was read."""
    other, files = origin.run_of(run.input), origin.files_in(run.settings)
    if other is not None:
        return {"of_run": other, "rows": run.rows, "unchanged": None, "files": []}
    path = Path(run.input)
    name = spool.display_name(path) if spool.is_copy(path) or spool.is_asked(run.input) else path.name
    paths = [(name, path)] if files is None else list(zip(files.names, map(Path, files.paths), strict=True))
    return {
        "of_run": None,
        "rows": run.rows,
        "unchanged": _unchanged([path for _, path in paths], known),
        "files": [{"file": shown, **_hashed(path)} for shown, path in paths],
    }


def _unchanged(paths: Sequence[Path], known: KnownRun) -> bool | None:
    """Return True if files begin with what the run has read of them; None if that cannot be told."""
    if known.input_digest is None or known.input_bytes is None:
        return None
    try:
        found = content.measure(((path, path.stat().st_size) for path in paths), (known.input_bytes,))
    except (OSError, UsageError):
        return None
    same_length = (found.size, found.digest) == (known.input_bytes, content.hash_of(known.input_digest))
    return same_length or found.begins_with(known.input_bytes, known.input_digest)


def _outcomes(run: Run, totals: Totals) -> dict[str, Json]:
    wanted = None if run.rows is None else run.rows * run.answers
    return {
        "rows": run.rows,
        "answers_of_a_row": run.answers,
        "done": run.done,
        "failed": run.failed,
        "left": None if wanted is None else max(0, wanted - run.done - run.failed),
        "broken": run.broken,
        "reused": run.reused,
        "shared": totals.shared,
        "failed_by_code": run.causes,
        "finish_reasons": totals.finish_reasons,
    }


def _instant(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
