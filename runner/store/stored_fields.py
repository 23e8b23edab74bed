"""The fields of a row as the store has them: read only where somebody asks for one."""

from collections.abc import Iterator, Mapping

import msgspec

from runner.model import Json

_DECODE = msgspec.json.Decoder(dict[str, Json]).decode


class StoredFields(Mapping[str, Json]):
    """Fields as JSON. What takes them from one table to the other decodes and encodes nothing."""

    __slots__ = ("_fields", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._fields: dict[str, Json] | None = None

    def _decoded(self) -> dict[str, Json]:
        if self._fields is None:
            self._fields = _DECODE(self.text)
        return self._fields

    def __getitem__(self, name: str) -> Json:
        return self._decoded()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._decoded())

    def __len__(self) -> int:
        return len(self._decoded())

    def __bool__(self) -> bool:
        # an empty object is stored as NULL
        return True

    def __repr__(self) -> str:
        return f"StoredFields({self.text!r})"
