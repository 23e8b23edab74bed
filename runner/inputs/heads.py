"""What a template says before its first field: the same for all rows, so that a provider's cache can hold it. Pure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from jinja2 import nodes


class Constant(NamedTuple):
    """Of one template: the text before its first field, that field (None: there is none), and the bytes of text behind it."""

    text: str
    field: str | None
    behind: int


class Head(NamedTuple):
    """Where the part of a request ends that is the same for all rows, which begin with the system text.

    messages: so many are whole; -1: not even the system text is. chars: of the text that comes next. size: bytes of all that.
    field: the first field; None if there is none. behind: bytes of constant text behind it.
    """

    messages: int
    chars: int
    size: int
    field: str | None = None
    behind: int = 0


def constant_of(tree: "nodes.Template") -> Constant:
    """Return what is constant in a template."""
    # here, since most runs have no template, and to load this takes as long as to read a thousand rows
    from jinja2 import nodes

    texts: list[str] = []
    field: str | None = None
    behind = 0
    for node in tree.body:
        for part in node.nodes if isinstance(node, nodes.Output) else [node]:
            if not isinstance(part, nodes.TemplateData):
                named = (one for one in (part, *part.find_all(nodes.Name)) if isinstance(one, nodes.Name))
                field = next((one.name for one in named), "") if field is None else field
            elif field is None:
                texts.append(part.data)
            else:
                behind += len(part.data.encode())
    return Constant("".join(texts), field, behind)


def head_of(system: Constant | None, messages: Sequence[Constant | None]) -> Head:
    """Return the head of a request. None: there is no system text, or a message is no plain text, which may vary."""
    parts = [(-1, system or Constant("", None, 0)), *enumerate(messages)]
    size = 0
    for at, (place, part) in enumerate(parts):
        if part is None:
            return Head(place, 0, size)
        size += len(part.text.encode())
        if part.field is not None:
            rest = [one for _, one in parts[at + 1 :] if one is not None]
            behind = part.behind + sum(len(one.text.encode()) + one.behind for one in rest)
            return Head(place, len(part.text), size, part.field, behind)
    return Head(len(messages), 0, size)
