"""The sandbox in which templates and conditions are computed: what they can reach, and what time and memory they can take.

Work is counted in steps, not in seconds, so that a row that can be filled in can be on every machine. Jinja's own sandbox keeps a
template away from what is private in Python and from changes; it bounds neither time nor memory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any

from jinja2 import StrictUndefined, Undefined
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from runner.inputs.jinja_internals import CountingGenerator

MOST_CHARS = 8 << 20
"""Characters that a rendered text may have, and every text and list on the way to it."""
MOST_STEPS = 1_000_000
"""Turns of loops, calls and filters in one text, and one more for each 64 bytes that are made on the way."""

# so many bits to the right: the steps of a text of that length, of a list, and of a search for one text in another
_OF_CHARS, _OF_ITEMS, _OF_COMPARED = 6, 3, 12
_MOST_BITS = 1 << 14
_LARGEST_POWER = 64
_EMPTY: dict[str, Any] = {}
_CONTAINERS = (dict, list, tuple, set, frozenset, type(_EMPTY.keys()), type(_EMPTY.values()), type(_EMPTY.items()))
_WALKED = (*_CONTAINERS, range)
_METHODS_OF_TEXTS = frozenset(
    {name for name in dir(str) if not name.startswith("_")}
    - {"encode", "expandtabs", "format", "format_map", "maketrans", "translate"}
)
"""Without those that make a text of any length from a short one, such as ``format``."""
_AT_ONCE = ("first", "last", "length", "count", "default", "d", "attr")
"""Filters that do not go through what they are given."""
_COMPARING = ("eq", "equalto", "==", "ne", "!=", "lt", "lessthan", "<", "le", "<=", "gt", "greaterthan", ">", "ge", ">=", "in")
_CALL = 4
"""Steps of a call, which takes as long as some turns of a loop."""
_PADDING = ("center", "ljust", "rjust", "zfill")
_QUICK = ("startswith", "endswith")
_SLOW = ("rfind", "rindex", "rpartition", "rsplit", "strip", "lstrip", "rstrip")
"""Methods whose time can grow with the product of two lengths."""


class TooMuchError(Exception):
    """A text grows, or is computed, beyond what is allowed; ``str()`` says so, in one phrase."""


_TOO_LONG = f"the rendered text is longer than {MOST_CHARS >> 20} MiB"
_TOO_MANY = f"the template takes more than {MOST_STEPS:,} steps; does it loop too often?"


def check(length: int) -> None:
    """Raise TooMuchError for a text, or a list, that is longer than is allowed."""
    if length > MOST_CHARS:
        raise TooMuchError(_TOO_LONG)


class Null(StrictUndefined):
    """A field that is null: it may be tested, and given a default, but not written out."""

    def __bool__(self) -> bool:  # type: ignore[override]
        return False

    def __eq__(self, other: object) -> bool:  # type: ignore[override]
        return other is None or isinstance(other, Null)

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(None)


class NoValue(Undefined):
    """A field that a row lacks, or that is null in it, for a condition: equal to none, and to nothing else."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, NoValue)

    __ne__ = object.__ne__

    def __hash__(self) -> int:
        return hash(None)


class _Opaque(Namespace):
    """A namespace that is not written out: it may hold itself."""

    def __repr__(self) -> str:
        return "<namespace>"


class Environment(ImmutableSandboxedEnvironment):
    """The sandbox. It computes one text at a time; ``begin`` comes before each."""

    code_generator_class = CountingGenerator
    intercepted_binops = frozenset(("*", "**", "%", "+"))

    def __init__(self, *, filters: Mapping[str, Callable[..., Any] | None], **options: Any) -> None:
        """filters: what takes the place of filters of Jinja. None: there is none of that name."""
        super().__init__(**options)
        # one object each for ever, by which ``call`` can tell them
        self.counted, self.compared = self._counted, self._compared
        self.filters = {name: self._bounded(name, made) for name, made in {**self.filters, **filters}.items() if made is not None}
        for name in _COMPARING:
            self.tests[name] = self._comparing(self.tests[name])
        self.tests["none"] = lambda value: value is None or isinstance(value, Null | NoValue)
        self.globals["namespace"] = _Opaque
        del self.globals["lipsum"]
        self.begin()

    def begin(self) -> None:
        """Begin a text: nothing has been spent."""
        self._left = MOST_STEPS
        # by id: what has been weighed, which is kept so that no other gets the id, and its weight
        self._weights: dict[int, tuple[Any, int]] = {}

    def spend(self, steps: int) -> None:
        """Count steps. Raises TooMuchError."""
        self._left -= steps
        if self._left < 0:
            raise TooMuchError(_TOO_MANY)

    def seen(self, value: Any) -> Any:
        """Return a value that was made on the way, unless it is too large. It counts as a step."""
        if isinstance(value, str):
            length = len(value)
            self._left -= 1 + (length >> _OF_CHARS)
            if length > MOST_CHARS or self._left < 0:
                raise TooMuchError(_TOO_LONG if length > MOST_CHARS else _TOO_MANY)
            return value
        self.spend(1)
        if isinstance(value, int):
            check(value.bit_length() // _MOST_BITS * MOST_CHARS)
        elif isinstance(value, _CONTAINERS):
            self.weigh(value)
        elif isinstance(value, Iterator) and not isinstance(value, LoopContext):
            return self._turns(value)
        return value

    def weigh(self, value: Any) -> int:
        """Return about how many characters a value would have as a text. What is held twice counts twice. Raises TooMuchError."""
        if isinstance(value, str):
            return len(value)
        if not isinstance(value, _CONTAINERS):
            return 1
        known = self._weights.get(id(value))
        if known is not None:
            return known[1]
        self.spend(1 + len(value))
        weight = 1 + sum(map(self.weigh, value))
        if isinstance(value, dict):
            weight += sum(map(self.weigh, value.values()))
        return self._noted(value, weight)

    def _noted(self, value: Any, weight: int) -> int:
        check(weight)
        self._weights[id(value)] = value, weight
        return weight

    def _counted(self, values: Any) -> Any:
        """Return what a loop goes through, its turns counted: at once if their number is known."""
        if not isinstance(values, (*_WALKED, str)):
            return self._turns(values)
        self.spend(1 + len(values))
        return values

    def _compared(self, value: Any) -> Any:
        """Return what something is compared with, or looked for in."""
        if isinstance(value, str | dict):
            self.spend(len(value) >> _OF_CHARS)
        elif isinstance(value, _CONTAINERS):
            self.spend(len(value))
        return value

    def _turns(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            yield self.seen(value)

    def call(self, context: Any, called: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call what a template calls, unless it would make something too large."""
        if called is self.counted or called is self.compared:
            return called(args[0])
        self.spend(_CALL)
        own = getattr(called, "__self__", None)
        if isinstance(own, str):
            args = self.checked(own, called.__name__, args)
        elif isinstance(called, LoopContext) and args:
            # a recursive loop
            args = (self._counted(args[0]), *args[1:])
        for value in (*args, *kwargs.values()) if kwargs else args:
            if isinstance(value, _CONTAINERS):
                self.weigh(value)
        return self.seen(super().call(context, called, *args, **kwargs))

    def checked(self, text: str, method: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the arguments with which a method of a text may be called. Raises TooMuchError."""
        first = args[0] if args else None
        if method not in _QUICK:
            self.spend(len(text) >> _OF_CHARS)
        if method in _PADDING and isinstance(first, int):
            check(first)
        elif method == "replace" and isinstance(first, str) and len(args) > 1 and isinstance(args[1], str):
            check(len(text) + text.count(first) * max(0, len(args[1]) - len(first)))
        elif method == "join" and first is not None:
            parts = list(self._counted(first))
            check(sum(len(part) + len(text) for part in parts if isinstance(part, str)))
            return (parts,)
        elif method in _SLOW and isinstance(first, str):
            self.spend(len(text) * len(first) >> _OF_COMPARED)
        return args

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Return True for what a template may reach."""
        if isinstance(obj, str) and attr not in _METHODS_OF_TEXTS:
            return False
        return not isinstance(obj, int | float) and super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute ``left operator right``, unless the result is too large."""
        weight = 0
        if operator == "*":
            weight = self._product(left, right)
        elif operator == "**" and (abs(right) > _LARGEST_POWER or abs(left) > 1 << 32):
            raise TooMuchError(_TOO_LONG)
        elif operator == "%" and isinstance(left, str | bytes):
            raise SecurityError("% with a text is not available; use ~ to join texts")
        elif operator == "+" and isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
            weight = self.weigh(left) + self.weigh(right)
        check(weight)
        result = super().call_binop(context, operator, left, right)
        if weight and isinstance(result, list | tuple):
            self.spend(len(result) >> _OF_ITEMS)
            self._noted(result, weight)
        return self.seen(result)

    def _product(self, left: Any, right: Any) -> int:
        for many, times in ((left, right), (right, left)):
            if isinstance(many, str | list | tuple) and isinstance(times, int):
                return self.weigh(many) * max(0, times)
        return 0

    def joined(self, parts: Iterable[Any]) -> str:
        """Join values as texts, as they are written out, unless the result is too long."""
        written = self.finalize or str
        return self.concat([str(written(part)) for part in parts])

    def concat(self, pieces: Iterable[str]) -> str:
        """Join the pieces of a block, a macro or a whole text, unless the result is too long."""
        pieces = list(pieces)
        length = sum(map(len, pieces))
        check(length)
        self.spend(length >> _OF_CHARS)
        return "".join(pieces)

    def _bounded(self, name: str, made: Callable[..., Any]) -> Callable[..., Any]:
        """Return a filter whose calls and results are counted."""
        walks = name not in _AT_ONCE

        # with its attributes, by which Jinja knows what it wants to be given
        @wraps(made)
        def counted(*args: Any, **kwargs: Any) -> Any:
            if walks:
                for value in args:
                    if isinstance(value, _WALKED):
                        self.spend(len(value))
            return self.seen(made(*args, **kwargs))

        return counted

    def _comparing(self, test: Any) -> Callable[..., Any]:
        return lambda value, other: test(value, self._compared(other))

    def wrap_str_format(self, value: Any) -> None:
        """Wrap no ``format`` of texts: it is none of their methods here."""
