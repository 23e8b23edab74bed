"""Generates ``docs/reference/events.md`` and ``docs/reference/python.md`` from the code: fields, signatures and docstrings."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from options_page import BEGIN, END
from pages import Part

import runner
from runner import event_types
from runner.session import feed_frames

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
EVENTS = {
    "Of a session": ("Started", "Saved", "Noted", "Progress", "Stopping", "Finished"),
    "Of rows": ("RowStarted", "FirstToken", "Token", "PartialValue", "AttemptFailed", "RowFinished", "Waiting", "Dropped"),
    "What they hold": ("Summary", "Quantiles"),
}
HELD = ("OpenAnswer", "AnswerSoFar", "TextPiece", "ClosedAnswer", "SettledRow")
GROUPS = {
    "Runs": ("run", "resume", "retry", "estimate", "check", "delete"),
    "What a store has": ("runs", "status", "results", "export", "compare"),
    "In an event loop": ("arun", "aresume", "aretry", "aestimate", "stream", "events"),
    "One prompt at a time": ("Session", "BlockingSession"),
    "Stopping": ("StopHandle",),
    "Rows and results": (
        *("Result", "Results", "RunSummary", "Run", "Estimate", "Comparison", "Stream", "Answer", "ArrowStream"),
        "JobSettings",
    ),
    "Texts from streams": ("texts", "sentences", "values"),
    "Errors": ("RunnerError", "UsageError", "StoreError", "RunLockedError", "RunStoppedError"),
}
WIDTH = 100


def events() -> str:
    """Return a section for each event, with its fields as the code has them."""
    known = {**vars(event_types), **{name: getattr(runner, name) for name in runner.__all__}}
    return _sections({title: [known[name] for name in names] for title, names in EVENTS.items()})


def live() -> str:
    """Return a section for each kind of frame that a running session tells, and for what is in several of them."""
    kinds = {struct.__name__: kind for kind, struct in feed_frames.KINDS.items()}
    parts, held = ([described(feed_frames.__name__, name) for name in names] for names in (kinds, HELD))
    text = "\n".join(["", "## The kinds\n", *parts, "## What they hold\n", *held])
    for name, kind in kinds.items():
        text = text.replace(f"### {name}\n", f"### {kind}\n")
    return text


def api() -> str:
    """Return a section for each public name, in groups. Events have a page of their own."""
    named = {name for names in (*GROUPS.values(), *EVENTS.values()) for name in names} | {"__version__"}
    groups = {**GROUPS, "More": [name for name in runner.__all__ if name not in named]}
    return _sections({title: [getattr(runner, name) for name in names] for title, names in groups.items()})


def _sections(groups: Mapping[str, Sequence[Any]]) -> str:
    return "\n" + "\n".join(
        f"## {title}\n\n" + "\n".join(described(one.__module__, one.__name__) for one in group)
        for title, group in groups.items()
        if group
    )


def described(module: str, name: str) -> str:
    """Return the section of a name: what its docstring says, and its signature or its fields and methods."""
    source = inspect.getsource(import_module(module))
    node = next(one for one in ast.parse(source).body if getattr(one, "name", "") == name and not _overload(one))
    assert isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    code = _class(node, source.splitlines()) if isinstance(node, ast.ClassDef) else signature(node)
    return f"### {name}\n\n{_prose(node)}\n\n```pyi\n{code}\n```\n"


def signature(node: "ast.FunctionDef | ast.AsyncFunctionDef") -> str:
    """Return the first line of a function, with a parameter in each line if it is long."""
    empty = type(node)(**{**dict(ast.iter_fields(node)), "body": [ast.Expr(ast.Constant(...))], "decorator_list": []})
    line = ast.unparse(ast.fix_missing_locations(empty)).replace(":\n    ...", ": ...")
    head, _, rest = line.partition("(")
    inside, _, tail = rest.rpartition(") -> ")
    parts = [re.sub(r"^(\w+: .+?)=(.+)$", r"\1 = \2", one) for one in _split(inside)]
    line = f"{head}({', '.join(parts)}) -> {tail}"
    if len(line) <= WIDTH:
        return line
    return f"{head}(\n" + "".join(f"    {one},\n" for one in parts) + f") -> {tail}"


def _split(text: str) -> list[str]:
    """Return the parameters of a signature: commas inside of brackets and quotation marks part nothing."""
    parts, depth, quoted = [""], 0, ""
    for letter in text:
        if letter in "'\"" and quoted in ("", letter):
            quoted = "" if quoted else letter
        depth += 0 if quoted else (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _class(node: ast.ClassDef, lines: list[str]) -> str:
    """Return the fields of a class with their comments, and its public methods."""
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    body: list[str] = []
    for one in node.body:
        if isinstance(one, ast.AnnAssign) and not ast.unparse(one.target).startswith("_"):
            body += [*_comments(lines, one.lineno - 1), ast.unparse(one)]
        elif isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and not one.name.startswith("_"):
            body += _method(one)
    shown = textwrap.indent("\n".join(body) or "...", "    ")
    return f"class {node.name}{f'({bases})' if bases else ''}:\n{shown}"


def _method(node: "ast.FunctionDef | ast.AsyncFunctionDef") -> Iterator[str]:
    if _overload(node):
        return
    said = (ast.get_docstring(node) or "").split("\n\n")[0]
    yield from ("", *(f"# {line}" for line in said.splitlines()))
    if any(ast.unparse(one) == "property" for one in node.decorator_list):
        yield "@property"
    yield signature(node)


def _overload(node: ast.AST) -> bool:
    return any(ast.unparse(one).endswith("overload") for one in getattr(node, "decorator_list", []))


def _comments(lines: list[str], at: int) -> list[str]:
    """Return the comment right above a line."""
    found: list[str] = []
    while lines[at - 1].strip().startswith("#"):
        at -= 1
        found.insert(0, lines[at].strip())
    return found


def _prose(node: "ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef") -> str:
    """Return a docstring for a page: what explains a parameter is an item of a list."""
    text = re.sub(r"``([^`]+)``", r"`\1`", ast.get_docstring(node) or "").replace("<", r"\<")
    name = "|".join(sorted(_parameters(node), key=len, reverse=True)) or "(?!)"
    begins = re.compile(rf"(?:^|(?<=[.)] ))((?:(?:{name})(?:, | and ))*(?:{name})): ")
    paragraphs = []
    for paragraph in text.split("\n\n"):
        marked = begins.sub(r"\n* `\1`: ", re.sub(r"(?<=\. )Raises ", "\n\nRaises ", paragraph.replace("\n", " ")))
        # a blank line before the first item
        paragraphs.append(re.sub(r" *\n", "\n", marked.replace("\n* ", "\n\n* ", 1)).strip())
    return "\n\n".join(paragraphs)


def _parameters(node: "ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef") -> set[str]:
    """Return the parameters of a function, or of what makes an object of a class."""
    if isinstance(node, ast.ClassDef):
        made = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
        fields = {one.target.id for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)}
        return fields.union(*map(_parameters, made))
    given = node.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    return {one.arg for one in every} - {"self"}


PARTS = (
    Part(REFERENCE / "events.md", BEGIN, END, events),
    Part(REFERENCE / "live-events.md", BEGIN, END, live),
    Part(REFERENCE / "python.md", BEGIN, END, api),
)
"""The parts in their pages."""
