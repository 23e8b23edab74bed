"""Makes the messages of a row from a template of the job (Jinja2), in a sandbox. Pure.

A template names the fields of a row: ``{{ text }}``. All fields are in ``row``, for names that are no identifiers:
``{{ row["Customer name"] }}``. What a field holds is never a template itself.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, Undefined, UndefinedError, meta, nodes

from runner.errors import UsageError
from runner.inputs.broken_lines import RowFaultError
from runner.inputs.filters import FILTERS, to_json
from runner.inputs.heads import Constant, Head, constant_of, head_of
from runner.inputs.keys import WHOLE_ROW
from runner.inputs.sandbox import Environment, NoValue, Null, TooMuchError, check
from runner.model import Json, Message

# Python compiles what Jinja makes, and loops and conditions in it only to some depth
_TOO_DEEP = (RecursionError, SyntaxError, MemoryError)


def _finalized(value: Any) -> Any:
    """Return a value as it is written into a text. Raises UndefinedError for what is no value of a row, such as a function."""
    if isinstance(value, str | Undefined) or type(value) in (int, float):
        return value
    if isinstance(value, bool | list | tuple | dict):
        return to_json(value)
    if value is None:
        raise UndefinedError("a value that is null is to be written out; {{ x or '' }} leaves it out")
    if callable(value):
        name = getattr(value, "__name__", type(value).__name__).removeprefix("safe_")
        raise UndefinedError(f'{name} is a function, which cannot be written out; row["{name}"] is the field of that name')
    raise UndefinedError(f"a value of the kind {type(value).__name__} cannot be written out; `| join(', ')` makes a text of it")


def _environment() -> Environment:
    return Environment(filters=FILTERS, undefined=StrictUndefined, keep_trailing_newline=True, finalize=_finalized, cache_size=0)


class Texts:
    """The templates of a job: of its messages, or of one prompt, and of its system text. Compiled once.

    Raises UsageError for what is no template.
    """

    def __init__(self, *, prompt: str | None, messages: Sequence[Message] | None, system: str | None) -> None:
        self._environment = _environment()
        self._names: set[str] = set()
        # what is constant in the templates of plain texts, by their names in messages for people
        self._constants: dict[str, Constant] = {}
        self._system = self._compiled(system, "system") if system is not None else None
        if messages is not None:
            self._messages = [
                {name: self._made(value, f"messages[{place}].{name}") for name, value in message.items()}
                for place, message in enumerate(messages, 1)
            ]
        else:
            assert prompt is not None
            self._messages = [{"role": "user", "content": self._compiled(prompt, "prompt")}]

    @property
    def names(self) -> frozenset[str]:
        """The fields that the templates name; ``WHOLE_ROW`` among them if they may use any field."""
        return frozenset(self._names)

    @property
    def head(self) -> Head:
        """The part of a request that is the same for all rows."""
        one, known = self._constants.get("prompt"), self._constants
        texts = [
            known.get(f"messages[{place}].content") if not isinstance(message["content"], list) else None
            for place, message in enumerate(self._messages, 1)
        ]
        return head_of(known.get("system"), texts if one is None else [one])

    def messages(self, fields: Mapping[str, Json]) -> tuple[Message, ...]:
        """Return the messages of a row. Raises RowFaultError."""
        values = _values(fields)
        return tuple(_rendered(message, values) for message in self._messages)

    def system(self, fields: Mapping[str, Json]) -> str | None:
        """Return the system text of a row. Raises RowFaultError."""
        return _render(self._system, _values(fields)) if self._system is not None else None

    def _made(self, value: Json, where: str) -> Any:
        """Return a value of a message with templates in place of its texts."""
        if isinstance(value, str):
            return self._compiled(value, where)
        if isinstance(value, dict):
            return {name: self._made(inner, where) for name, inner in value.items()}
        return [self._made(inner, where) for inner in value] if isinstance(value, list) else value

    def _compiled(self, text: str, where: str) -> Template | str:
        # constants are computed here
        self._environment.begin()
        try:
            tree = self._environment.parse(text)
            self._constants[where] = constant_of(tree)
            if any(tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends))):
                raise UsageError(f"{where} is no template: it names another file, and a template is one file; {_RAW}")
            # a row may have a field with the name of a function
            functions = {one.name for one in tree.find_all(nodes.Name)} & self._environment.globals.keys()
            self._names |= meta.find_undeclared_variables(tree) | functions
            return self._environment.from_string(text)
        except TemplateSyntaxError as error:
            line = f" in line {error.lineno}" if "\n" in text else ""
            raise UsageError(f"{where} is no template: {(error.message or '').rstrip('.')}{line}; {_RAW}") from None
        except TemplateError as error:
            raise UsageError(f"{where} is no template: {error}; {_RAW}") from None
        except _TOO_DEEP:
            raise UsageError(f"{where} is nested too deeply") from None
        except ValueError:
            raise UsageError(f"{where} is no template: it holds a number with too many digits") from None


_RAW = "braces that are meant as they stand go between {% raw %} and {% endraw %}"


def _values(fields: Mapping[str, Json]) -> dict[str, Any]:
    known = {name: Null(hint=f"{name} is null", name=name) if value is None else value for name, value in fields.items()}
    return {WHOLE_ROW: known, **known}


def _rendered(value: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(value, Template):
        return _render(value, values)
    if isinstance(value, dict):
        return {name: _rendered(inner, values) for name, inner in value.items()}
    return [_rendered(inner, values) for inner in value] if isinstance(value, list) else value


def _render(template: Any, values: Mapping[str, Any]) -> str:
    """Render a template. Raises RowFaultError, in words about the row."""
    try:
        template.environment.begin()
        return "".join(_pieces(template.generate(values)))
    except TooMuchError as error:
        raise RowFaultError(str(error)) from None
    except UndefinedError as error:
        raise RowFaultError(_absent(error)) from None
    except RecursionError:
        raise RowFaultError("a value is nested too deeply for the template") from None
    except Exception as error:  # noqa: BLE001 - a template may do to a value what that cannot do
        raise RowFaultError(f"the template cannot be filled in: {type(error).__name__}: {error}"[:300]) from None


def _pieces(pieces: Iterator[str]) -> Iterator[str]:
    length = 0
    for piece in pieces:
        length += len(piece)
        check(length)
        yield piece


def _absent(error: UndefinedError) -> str:
    message = str(error.message)
    found = _UNDEFINED.fullmatch(message)
    return f"no field {found[1]!r}, which the template names" if found is not None else message


_UNDEFINED = re.compile("(?:'dict object' has no attribute )?'(.*)'(?: is undefined)?", re.DOTALL)


# tests and filters for a field that a row may lack
_TESTING = frozenset(("defined", "undefined", "none", "default", "d"))
_JARGON = {
    "chunk after expression": "something follows its end (== compares, `and` joins two conditions)",
    "unexpected 'end of template'": "it ends too early",
}


class Condition:
    """An expression over the fields of a row, such as ``lang == 'de'``. What a row lacks, or is null in it, equals none only.

    names: the fields that it names and does not allow to be absent. Raises UsageError for what is no expression.
    """

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._environment = environment = _environment()
        environment.undefined = NoValue
        try:
            self._value = environment.compile_expression(expression, undefined_to_none=False)
            tree = environment.parse(f"{{{{ ({expression}) }}}}")
        except (TemplateError, ValueError, *_TOO_DEEP) as error:
            deep = "a number has too many digits" if isinstance(error, ValueError) else "it is nested too deeply"
            why = ((error.message if isinstance(error, TemplateError) else None) or deep).rstrip(".")
            raise UsageError(f"where is no expression: {_JARGON.get(why, why)}; such as --where \"lang == 'de'\"") from None
        tested = [one.node for one in tree.find_all((nodes.Test, nodes.Filter)) if one.name in _TESTING]
        optional = {node.name for node in tested if isinstance(node, nodes.Name)}
        self.names = frozenset(meta.find_undeclared_variables(tree) - optional - {WHOLE_ROW})

    def holds(self, fields: Mapping[str, Json], where: str) -> bool:
        """Return True if it holds. where: the row, in words. Raises UsageError if it cannot be computed."""
        known = {name: NoValue(name=name) if value is None else value for name, value in fields.items()}
        self._environment.begin()
        try:
            return bool(self._value({WHOLE_ROW: known, **known}))
        except UndefinedError:
            return False
        except TooMuchError as error:
            raise UsageError(f"where cannot be computed at {where}: {error}") from None
        except Exception as error:  # noqa: BLE001 - an expression may do to a value what that cannot do
            why = str(error).rstrip(".")
            hint = ". The cells of a CSV are texts: score | float makes a number of one" if "'str'" in why else ""
            raise UsageError(f"where ({self._expression[:80]}) cannot be computed at {where}: {why}{hint}") from None
