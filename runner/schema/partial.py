"""The value of JSON that still comes, with jiter's partial mode. For showing it, not for accepting it."""

from collections.abc import Callable
from typing import Any, Literal

from runner.errors import UsageError
from runner.model import Json

_OPENERS = ("{", "[")


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
    """Reads what has come of the JSON of answers. Raises UsageError if its library is not installed."""

    def __init__(self) -> None:
        self._read = reader("trailing-strings", "values")

    def of(self, text: str) -> Json:
        """Return the object or list of an answer as far as it has come; None before it begins, and for what is no JSON."""
        begin = min((at for mark in _OPENERS if (at := text.find(mark)) >= 0), default=-1)
        if begin < 0:
            return None
        try:
            return self._read(text[begin:].encode(errors="surrogatepass"))
        except ValueError:
            return None
