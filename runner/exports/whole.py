"""Records of whole rows, for formats that are no tables: with the fields as they came, and the request. Pure."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

from msgspec import structs

from runner.errors import BAD_ROW
from runner.exports.columns import Parts
from runner.model import Json, Result

_GIVEN = ("id", "fields", "request")
_ATTEMPT = ("run", "ended_at", "http_status", "response_id", "made_seed")


class Told(NamedTuple):
    """What is told of the attempt that decided a row: when it ended, its HTTP status, and the provider's name for the answer.

    made_seed: the seed in the request, if the user has set none.
    """

    ended_at: float | None
    http_status: int | None
    response_id: str | None
    made_seed: int | None


def columns(parts: Parts) -> list[str]:
    """Return the names of the columns. ``fields`` are the row's own, ``request`` the body of what it asked; None: not known."""
    return [*_GIVEN, *_ours(parts), *_ATTEMPT]


def records(
    results: Iterable[tuple[Result, Told]], run: int, kept: Collection[str] | None, parts: Parts
) -> Iterator[Sequence[Json]]:
    """Yield each result as a list of values, in the order of ``columns``.

    results: each with the body of its request in place of its prompt. kept: the own fields that are exported; None: all.
    """
    places = itemgetter(*map(Result.__struct_fields__.index, _ours(parts)))
    for result, told in results:
        own = result.metadata
        fields = own if kept is None else {name: value for name, value in own.items() if name in kept}
        # a broken row has asked nothing
        request = result.prompt if result.error_code != BAD_ROW else None
        yield [result.id, fields, request, *places(structs.astuple(result)), run, *told]


def _ours(parts: Parts) -> list[str]:
    return [name for name in parts.names if name not in ("id", "metadata", "prompt")]
