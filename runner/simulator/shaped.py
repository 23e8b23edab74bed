"""Answers that fit a JSON Schema, as a model with structured outputs gives them. They are drawn from noise."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from runner.simulator import text
from runner.simulator.dialect import Shape

_DEEPEST = 12
"""Levels of a value: a schema may contain itself."""
_PIECE = re.compile(r"\s*[\w\"]+|.", re.DOTALL)
_FORMATS = {
    "date": "2026-03-14",
    "time": "12:30:00Z",
    "date-time": "2026-03-14T12:30:00Z",
    "email": "someone@example.org",
    "uri": "https://example.org/",
    "uuid": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
    "ipv4": "192.0.2.1",
}
_SHOWN_WORDS = 6


def shape_of(
    response_format: Mapping[str, Any] | None, tools: list[dict[str, Any]] | None, guided: Mapping[str, Any] | None
) -> Shape | None:
    """Return what a request asks its answer to be; None if it asks for nothing. guided: vLLM's parameter.

    A tool counts as its schema if it is the only one.
    """
    if guided is not None and isinstance(guided.get("json"), dict):
        return Shape(schema=guided["json"])
    given = response_format or {}
    inner = given.get("json_schema", given)
    if given.get("type") == "json_schema" and isinstance(inner, dict) and isinstance(inner.get("schema"), dict):
        return Shape(schema=inner["schema"])
    if tools is not None and len(tools) == 1:
        tool = tools[0].get("function", tools[0])
        schema = tool.get("parameters", tool.get("input_schema"))
        if isinstance(schema, dict) and isinstance(tool.get("name"), str):
            return Shape(schema=schema, tool=tool["name"])
    return None


def chunks_of(shape: Shape, noise: bytes, *, broken: float | None) -> list[bytes]:
    """Return the chunks of an answer, escaped as the inside of a JSON string.

    broken: None, or a number from 0 to 1 that decides how the answer does not fit: as JSON that breaks off or lacks its first
    colon, or as another value.
    """
    value = _Drawn(shape.schema, noise).value(shape.schema, 0)
    written = msgspec.json.encode(value).decode()
    if broken is not None:
        written = _broken(written, value, broken)
    return [msgspec.json.encode(piece)[1:-1] for piece in _PIECE.findall(written)]


def _broken(written: str, value: Any, broken: float) -> str:
    if broken < 0.5:
        # a value without an object has no colon
        return written.replace('":', '" ', 1) if broken < 0.25 and '":' in written else written[:-1]
    return msgspec.json.encode([[value]]).decode()


class _Drawn:
    """Draws values. noise: each choice uses the next byte of it."""

    def __init__(self, root: Mapping[str, Any], noise: bytes) -> None:
        self._root, self._noise, self._at = root, noise or b"\0", 0

    def _byte(self) -> int:
        self._at += 1
        return self._noise[self._at % len(self._noise)]

    def value(self, schema: Any, depth: int) -> Any:
        """Return a value that fits a schema, as far as its keywords are known here."""
        if not isinstance(schema, dict):
            return None
        if "$ref" in schema:
            return self.value(self._resolved(schema["$ref"]), depth + 1) if depth < _DEEPEST else None
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][self._byte() % len(schema["enum"])]
        for name in ("anyOf", "oneOf", "allOf"):
            if schema.get(name):
                ways = schema[name]
                # the last way of what may be null is null, which ends a schema that contains itself
                return self.value(ways[-1 if depth >= _DEEPEST else self._byte() % len(ways)], depth + 1)
        kinds = schema.get("type", "object" if "properties" in schema else "string")
        return self._of_kind(kinds[0] if isinstance(kinds, list) and kinds else kinds, schema, depth)

    def _of_kind(self, kind: Any, schema: Mapping[str, Any], depth: int) -> Any:
        match kind:
            case "object":
                return {name: self.value(part, depth + 1) for name, part in schema.get("properties", {}).items()}
            case "array":
                count = max(schema.get("minItems", 0), min(1 + self._byte() % 3, schema.get("maxItems", 3)))
                count = count if depth < _DEEPEST else schema.get("minItems", 0)
                return [self.value(schema.get("items", {}), depth + 1) for _ in range(count)]
            case "integer" | "number":
                low = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
                high = schema.get("maximum", schema.get("exclusiveMaximum", low + 11) - 1)
                whole = int(low) + self._byte() % max(1, int(high) - int(low) + 1)
                return whole if kind == "integer" else float(whole)
            case "boolean":
                return self._byte() % 2 == 0
            case "null":
                return None
            case _:
                return self._text(schema)

    def _text(self, schema: Mapping[str, Any]) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        noise = bytes(self._byte() for _ in range(2 + self._byte() % _SHOWN_WORDS))
        words = msgspec.json.decode(b'"' + b"".join(text.compose(noise, finished=True)) + b'"', type=str)
        words = words.ljust(schema.get("minLength", 0), ".")
        return words[: schema["maxLength"]] if "maxLength" in schema else words

    def _resolved(self, reference: Any) -> Any:
        found: Any = self._root
        for step in str(reference).removeprefix("#").strip("/").split("/"):
            if step:
                found = found.get(step.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, dict) else {}
        return found
