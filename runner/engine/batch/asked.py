"""What was asked for a row in a batch, read from the file of requests when a refusal has to be understood."""

from collections.abc import Collection
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from runner.model import HttpCall, Json, Params, Request

_SETTINGS = {
    "max_tokens": "max_tokens", "max_completion_tokens": "max_tokens", "temperature": "temperature", "top_p": "top_p",
    "stop": "stop", "stop_sequences": "stop", "seed": "seed", "random_seed": "seed",
}  # fmt: skip
"""The settings of a request by their names in a body."""
_NO_SETTINGS = ("model", "messages", "system", "stream", "stream_options")
_NOTHING = b"{}"


class _Line(Struct):
    custom_id: str
    # of the two dialects of batch APIs
    body: Raw = Raw()
    params: Raw = Raw()


class _Id(Struct):
    custom_id: str


_line = msgspec.json.Decoder(_Line).decode
_id = msgspec.json.Decoder(_Id).decode


class Asked:
    """Finds the requests of a batch in its file. Where that is gone, an empty request stands for each.

    The places of all lines are read when the first is looked for: some bytes for each request of one batch.
    """

    def __init__(self, path: Path, model: str) -> None:
        self._path, self._model = path, model
        self._places: dict[int, int] | None = None

    def call(self, custom_id: str, made_seed: int | None = None) -> HttpCall:
        """Return the body that was sent for a row, as a call without address and headers."""
        return HttpCall(url="", headers={}, body=self._body(custom_id), made_seed=made_seed)

    def request(self, call: HttpCall) -> Request:
        """Return a request like the one that led to a call, as far as its body tells: its settings, and what was added."""
        body: dict[str, Json] = msgspec.json.decode(call.body)
        found: dict[str, Json] = {}
        for name, setting in _SETTINGS.items():
            if name in body and not (setting == "seed" and call.made_seed is not None):
                found[setting] = body[name]
        extra = {name: value for name, value in body.items() if name not in _SETTINGS and name not in _NO_SETTINGS}
        messages = body.get("messages")
        return Request(
            model=self._model,
            messages=tuple(messages) if isinstance(messages, list) else (),
            params=Params(**found, extra_body=extra or None),
            made_seed=call.made_seed,
        )

    def id_on(self, lines: Collection[int]) -> dict[int, str]:
        """Return the ids of the requests on these lines, counted from 1; lines that are not there are left out."""
        found: dict[int, str] = {}
        try:
            with self._path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    if number in lines:
                        found[number] = _id(line).custom_id
        except (OSError, msgspec.DecodeError):
            return found
        return found

    def _body(self, custom_id: str) -> bytes:
        try:
            place = self._index().get(hash(custom_id))
            if place is None:
                return _NOTHING
            with self._path.open("rb") as file:
                file.seek(place)
                line = _line(file.readline())
        except (OSError, msgspec.DecodeError):
            return _NOTHING
        return (bytes(line.body) or bytes(line.params) or _NOTHING) if line.custom_id == custom_id else _NOTHING

    def _index(self) -> dict[int, int]:
        if self._places is None:
            self._places, place = {}, 0
            with self._path.open("rb") as file:
                for line in file:
                    self._places[hash(_id(line).custom_id)] = place
                    place += len(line)
        return self._places
