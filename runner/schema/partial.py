"""The value of JSON that still comes, with jiter's partial mode. For showing it, not for accepting it."""

from collections.abc import Callable
from typing import Any, Literal

from runner.errors import UsageError
from runner.model import Json

_OPENERS = ("{", "[")
_GROWTH = 1.02


def reader(mode: Literal["on", "trailing-strings"], wanted_by: str) -> Callable[[bytes], Json]:
    """Return what reads the beginning of JSON. It raises ValueError for what is none. wanted_by: who wants that, for messages.

    mode: "trailing-strings" has the last text as far as it has come, "on" leaves it out. Raises UsageError without the library.
    """
    try:
        # imported here: few jobs want it
        import jiter
    except ImportError:
        how = "pip install 'prompt-runner[schema]' (or: pip install jiter)"
        raise UsageError(f"{wanted_by} needs one package more: {how}") from None
    options: dict[str, Any] = {"partial_mode": mode, "catch_duplicate_keys": True, "allow_inf_nan": False}
    return lambda data: jiter.from_json(data, **options)


class Partial:
    """Reads the JSON of one answer while it comes. It is looked at when it has grown by 2 %: in all, by some 50 times its length.

    read: of ``reader``. Equal values are told once.
    """

    def __init__(self, read: Callable[[bytes], Json]) -> None:
        self._read = read
        self._parts, self._size, self._next = list[str](), 0, 0.0
        self._value: Json = None

    def take(self, piece: str, at: int) -> Json:
        """Take a piece, which begins at a place of the text. Return the value so far; None if there is none that is new.

        A piece behind a gap is left out: what follows means nothing without those in between.
        """
        if at > self._size:
            return None
        if at < self._size:
            self._parts, self._size, self._next = ["".join(self._parts)[:at]], at, 0.0
        self._parts.append(piece)
        self._size += len(piece)
        if self._size < self._next:
            return None
        self._next = self._size * _GROWTH
        text = "".join(self._parts)
        self._parts = [text]
        return self._new(text)

    def last(self, text: str) -> Json:
        """Return the value of the whole text; None if it is the one that was told last, or no JSON."""
        return self._new(text)

    def _new(self, text: str) -> Json:
        """Return the object or list in a text as far as it has come; None before it begins, and for what is no JSON."""
        begin = min((at for mark in _OPENERS if (at := text.find(mark)) >= 0), default=-1)
        if begin < 0:
            return None
        try:
            value = self._read(text[begin:].encode(errors="surrogatepass"))
        except ValueError:
            return None
        return value if self.is_new(value) else None

    def is_new(self, value: Json) -> bool:
        """Return True if a value is not the one that was told last; it is then."""
        if value == self._value:
            return False
        self._value = value
        return True


def follower(wanted_by: str = "values") -> Callable[[], Partial]:
    """Return what makes a reader for each answer. Raises UsageError if its library is not installed."""
    read = reader("trailing-strings", wanted_by)
    return lambda: Partial(read)
