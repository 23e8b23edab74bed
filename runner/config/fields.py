"""Headers and parts of the query that a job adds to every request. A value may name environment variables, as ``${NAME}``. Pure.

The value of a header may be a secret, so it is shown and stored only where it consists of variables: ``Bearer ${TOKEN}``.
``$${NAME}`` stands for the text ``${NAME}``.
"""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from runner import origin
from runner.errors import StoreError, UsageError
from runner.model import Json

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_REFERENCE = re.compile(r"\$(\$?)\{([^{}]*)(\}?)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# what may stand beside the variables of a value that is stored: the name of a scheme, such as Bearer
_SCHEME = re.compile(r"([A-Za-z]{1,12} )?")
_OURS = (
    "accept-encoding", "connection", "content-length", "content-type", "expect", "host", "keep-alive", "proxy-authorization",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
)  # fmt: skip
_KEY_HEADERS = ("authorization", "api-key", "x-api-key", "x-goog-api-key", "ocp-apim-subscription-key")
_SECRET_WORDS = re.compile(r"auth|key|token|secret|passw|cookie|credential|signature|^sig$|^code$|session", re.IGNORECASE)
# a value that looks drawn at random: one word of 16 characters or more with a digit
_DRAWN = re.compile(r"(?=\S*\d)\S{16,}")


class Field(Struct, frozen=True, kw_only=True):
    """One header, or one part of the query.

    text: the value as it was written; None if the store has not kept it. unvouched: only a job file or a store says so, and not
    the user. file: the job file that it stands in.
    """

    name: str
    text: str | None
    unvouched: bool = False
    file: Path | None = None

    def __repr__(self) -> str:
        return f"Field({self.name!r})"

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that the value names."""
        return tuple(name for escape, name, _ in _REFERENCE.findall(self.text or "") if not escape)

    @property
    def kept(self) -> str | None:
        """The value as the store may keep it; None if a part of it may be a secret."""
        text = self.text or ""
        return text if self.variables and _SCHEME.fullmatch(_REFERENCE.sub("", text)) else None

    @property
    def carries_key(self) -> bool:
        """True for a header that carries the API key, whatever the dialect."""
        return self.name.lower() in _KEY_HEADERS

    @property
    def sounds_secret(self) -> bool:
        """True if the name says that the value is a secret."""
        return _SECRET_WORDS.search(self.name) is not None

    def resolve(self, environment: Mapping[str, str], what: str) -> str:
        """Return the value with its variables filled in. what: "header" or "query". Raises UsageError; never quotes the value."""
        if self.text is None:
            raise UsageError(
                f"the value of the {what} {self.name!r} is not kept in the store; give it again with "
                f"--{what} or write it as ${{NAME}}, the name of an environment variable"
            )
        for variable in self.variables:
            if not environment.get(variable, "").strip():
                raise UsageError(f"{variable} is not set; the {what} {self.name!r} needs it: export {variable}=...")
        value = _REFERENCE.sub(lambda found: found[0][1:] if found[1] else environment[found[2]].strip(), self.text).strip()
        if what == "header":
            _check_value(self.name, value, "its environment variable")
        return value

    def secrets(self, value: str, environment: Mapping[str, str]) -> tuple[str, ...]:
        """Return the texts of a resolved value that no answer and no file may show."""
        found = [environment[variable].strip() for variable in self.variables]
        if not self.variables and (self.sounds_secret or _DRAWN.fullmatch(value)):
            found.append(value)
        # the token of "Bearer TOKEN" is a secret by itself
        return tuple(found + [secret.partition(" ")[2] for secret in found if secret.count(" ") == 1])


def read_headers(value: Any, where: str) -> dict[str, str]:
    """Return headers as name -> value, from an object or from texts such as ``Name: value``. Raises UsageError."""
    found = _pairs(value, ":", 'headers must be a table, { "X-Team" = "${TEAM}" }, or texts such as "X-Team: ${TEAM}"', where)
    for name, text in found.items():
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name[:80]!r} cannot be the name of a header ({where})")
        if name.lower() in _OURS:
            raise UsageError(f"the header {name} cannot be set: runner sends its own ({where})")
        _check_value(name, text, where)
        _check_references(name, text, where)
    return found


def read_query(value: Any, where: str) -> dict[str, str]:
    """Return the parts of a query as name -> value, from an object or from texts such as ``name=value``. Raises UsageError."""
    found = _pairs(value, "=", 'query must be a table, { "api-version" = "2024-10-21" }, or texts such as name=value', where)
    for name, text in found.items():
        if not name.isprintable() or not text.isprintable():
            raise UsageError(f"the query {name[:80]!r} contains a control character ({where})")
        _check_references(name, text, where)
        if Field(name=name, text=text).sounds_secret and "${" not in text:
            raise UsageError(f"the query {name!r} sounds like a secret; write it as ${{NAME}}, an environment variable ({where})")
    return found


def joined(kind: str, before: Any, value: Any, *, unvouched: bool = False, file: Path | None = None) -> Any:
    """Return the value of a setting from a further source. Headers and query parts join those of the other names."""
    if kind not in ("headers", "query"):
        return value
    new = tuple(Field(name=name, text=text, unvouched=unvouched, file=file) for name, text in value.items())
    names = {field.name.lower() if kind == "headers" else field.name for field in new}
    return (*(f for f in before or () if (f.name.lower() if kind == "headers" else f.name) not in names), *new)


def stored(kind: str, found: Iterable[Field], source: Path) -> dict[str, Json] | None:
    """Return fields as the store and the screen may show them.

    source: the prompt file; a job file is named as seen from its folder. A header whose value may be a secret is kept without
    it: as ``{"from": JOB_FILE}``, or as null.
    """
    kept: dict[str, Json] = {}
    for field in found:
        text = field.text if kind == "query" else field.kept
        if text is None and field.file is not None:
            kept[field.name] = {"from": _relative(field.file, source)}
        else:
            kept[field.name] = text
    return kept or None


def restored(kind: str, stored_fields: Any, source: Path, in_file: Any) -> tuple[Field, ...]:
    """Return the fields that a store has kept. in_file: reads the headers of a job file again: path -> name -> value.

    Raises StoreError for fields that no setting can have: the store is damaged, or somebody has changed it.
    """
    found = []
    for name, text in (stored_fields if isinstance(stored_fields, dict) else {}).items():
        file = None
        if isinstance(text, dict):
            file = source.parent / str(text.get("from"))
            again = {key.lower(): value for key, value in in_file(file).items()}
            text = again.get(str(name).lower())
        found.append(Field(name=str(name), text=text, unvouched=True, file=file))
    try:
        # of a value that the store has not kept, the name is checked
        values = {field.name: "${X}" if field.text is None else field.text for field in found}
        fits = stored_fields is None or isinstance(stored_fields, dict)
        (read_headers if kind == "headers" else read_query)(values if fits else stored_fields, "in the store")
    except UsageError as error:
        raise StoreError(f"a setting of the run is damaged: {error}; restore a copy of the store, or start a new run") from None
    return tuple(found)


def _pairs(value: Any, separator: str, requirement: str, where: str) -> dict[str, str]:
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple):
        parts = [text.partition(separator) for text in value if isinstance(text, str)]
        if len(parts) != len(value) or not all(mark and name.strip() for name, mark, _ in parts):
            # the text is not quoted: it may be a secret without its name
            raise UsageError(f"{requirement} ({where})")
        pairs = [(name.strip(" \t"), text.strip(" \t")) for name, _, text in parts]
    elif isinstance(value, dict) and all(isinstance(part, str) for pair in value.items() for part in pair):
        pairs = [(name.strip(" \t"), text.strip(" \t")) for name, text in value.items()]
    else:
        raise UsageError(f"{requirement} ({where})")
    names = [name.lower() if separator == ":" else name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice!r} is given twice ({where})")
    return dict(pairs)


def _check_value(name: str, value: str, where: str) -> None:
    """Raise UsageError for a value that a header cannot carry. The value is not quoted: it may be a secret."""
    if any((ord(char) < 32 and char != "\t") or ord(char) == 127 for char in value):
        raise UsageError(f"the value of the header {name!r} contains a line end or a control character ({where})")
    try:
        value.encode("latin-1")
    except UnicodeError:
        raise UsageError(f"the value of the header {name!r} contains a character that a header cannot carry ({where})") from None


def _check_references(name: str, text: str, where: str) -> None:
    for escape, variable, end in _REFERENCE.findall(text):
        if not escape and not (end and _VARIABLE.fullmatch(variable)):
            raise UsageError(f"{name!r}: ${{ must be followed by the name of an environment variable and }} ({where})")


def _relative(file: Path, source: Path) -> str:
    if origin.name_of(source) is not None:
        # the rows of a run are in no folder
        return str(file.absolute())
    try:
        return os.path.relpath(file, source.parent)
    except ValueError:
        # another drive on Windows
        return str(file)
