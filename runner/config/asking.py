"""The templates of a job: which of ``prompt``, ``prompt_file`` and ``messages`` counts, and its schema. Files are read here.

What is relative in a source of settings, a template file or the folder of the rows' files, is made absolute here too.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from runner import databases
from runner.config import due, fleet_tables, schemas
from runner.config.settings import BY_NAME
from runner.errors import UsageError
from runner.model import SYSTEM_ROLES

_WAYS = ("prompt", "prompt_file", "messages")
_MOST_BYTES = 8 << 20


def settle(values: dict[str, Any], sources: dict[str, str], given: Collection[str], folder: Path, *, inside: bool) -> None:
    """Let the template of one source of settings replace that of the sources before it. Raises UsageError.

    given: the settings of this source. folder: where a relative path begins. inside: the file must lie in that folder, since a
    job file that somebody sent must not have other files sent to its server.
    """
    fleet_tables.settle(values, sources, given, folder)
    due.settle(values, sources, given)
    if "files_root" in given:
        values["files_root"] = str(folder / values["files_root"])
    inner = folder if inside else None
    schemas.settle(values, sources, given, lambda name: _text_of(folder / name, inner, "schema"))
    ways = [name for name in _WAYS if name in given]
    if not ways:
        return
    way = ways[0]
    if len(ways) > 1:
        raise UsageError(f"{way} and {ways[1]} exclude each other; choose one of them ({sources[way]})")
    for other in _WAYS:
        if other != way:
            values.pop(other, None)
            sources.pop(other, None)
    if way == "prompt_file":
        name = values.pop("prompt_file")
        values["prompt"] = _text_of(folder / name, inner, "prompt_file")
        sources["prompt"] = f"{name} ({sources.pop('prompt_file')})"


def refuse_two_systems(values: Mapping[str, Any], sources: Mapping[str, str]) -> None:
    """Raise UsageError for a system text beside messages that have one of their own: it would never be sent."""
    roles = {message.get("role") for message in values.get("messages") or ()}
    if values.get("system") is not None and not roles.isdisjoint(SYSTEM_ROLES):
        raise UsageError(
            f"messages have a message with the role system, so system ({sources['system']}) would not be sent; leave one out"
        )


def _text_of(path: Path, folder: Path | None, setting: str) -> str:
    """Return the text of a file that a setting names. folder: in which it must lie; None: anywhere."""
    what = "template" if setting == "prompt_file" else setting
    try:
        if folder is not None and not path.resolve().is_relative_to(folder.resolve()):
            option = BY_NAME[setting].option
            raise UsageError(f"{setting} must be in the folder of its job file; {path} is not. {option} may name any file")
        if databases.is_used(path):
            raise UsageError(f"the {what} {path} is a store, not a text")
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"the {what} {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not text.strip():
        raise UsageError(f"the {what} {path} is empty")
    if len(text) > _MOST_BYTES:
        raise UsageError(f"the {what} {path} is larger than {_MOST_BYTES >> 20} MiB")
    try:
        # an editor ends a file with a line end that nobody means to send
        return text.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise UsageError(f"the {what} {path} is not UTF-8 text (byte {error.start})") from error
