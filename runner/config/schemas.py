"""The schema of a job: which of ``schema`` and ``fields`` counts. A file is read here."""

from collections.abc import Callable, Collection
from typing import Any

from runner.errors import UsageError
from runner.model import Json

SCHEMA_MEANT = "a JSON Schema: a file, a JSON object, or from Python a class of pydantic or msgspec"


def settle(values: dict[str, Any], sources: dict[str, str], given: Collection[str], read: Callable[[str], str]) -> None:
    """Let the schema of one source of settings replace that of the sources before it. Raises UsageError.

    given: the settings of this source. read: returns the text of a file that it names.
    """
    ways = [name for name in ("schema", "fields") if name in given]
    if not ways:
        return
    # imported here: few jobs have a schema
    from runner.schema import fields, reading

    way = ways[0]
    if len(ways) > 1:
        raise UsageError(f"schema and fields exclude each other; choose one of them ({sources[way]})")
    if way == "fields":
        text = values.pop("fields")
        values["schema"], sources["schema"] = fields.schema_of(text), f"{text} ({sources.pop('fields')})"
        return
    value = values["schema"]
    if isinstance(value, str):
        inline = value.lstrip()[:1] == "{"
        where = "schema" if inline else f"the schema {value}"
        try:
            values["schema"] = reading.schema_in(value if inline else read(value), where)
        except UsageError as error:
            raise UsageError(f"{error} ({sources['schema']})") from None
        sources["schema"] = sources["schema"] if inline else f"{value} ({sources['schema']})"


def plain(value: Any) -> Any:
    """Return the schema of a class, and any other value as it is. Raises UsageError for a class that has none."""
    if not isinstance(value, type):
        return value
    from runner.schema.reading import schema_of_class

    return schema_of_class(value)


def checked(value: Json, where: str) -> Json:
    """Return a schema that was given as an object. Raises UsageError for one that says nothing. where: its source, in words."""
    if not isinstance(value, dict):
        return value
    from runner.schema.reading import checked as read

    try:
        return read(value, "schema")
    except UsageError as error:
        raise UsageError(f"{error} ({where})") from None
