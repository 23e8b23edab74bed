"""Where the requests of a run go, as runs are told apart by it: an address, or several endpoints."""

from collections.abc import Mapping

from runner.model import Json

_BETWEEN = ", "
_LISTS = ("file:", "srv://")


def place_of(settings: Mapping[str, Json]) -> str | None:
    """Return the address in settings to which requests go; of several endpoints, all that are named, one behind the other."""
    tables, urls = settings.get("endpoints"), settings.get("base_url")
    if isinstance(tables, list):
        urls = [str(table.get("base_url") or "the provider") for table in tables if isinstance(table, dict)]
    return _BETWEEN.join(map(str, urls)) if isinstance(urls, list) else urls


def is_same_place(one: str | None, other: str | None) -> bool:
    """Return True if a run may go on at another address without a word: several endpoints come and go, and one may join them."""
    if one is None or other is None or one == other:
        return one == other
    if _is_several(one) or _is_several(other):
        return (_is_several(one) and _is_several(other)) or one in other.split(_BETWEEN) or other in one.split(_BETWEEN)
    return False


def _is_several(place: str) -> bool:
    return _BETWEEN in place or place.startswith(_LISTS)
