"""Write a large prompt file of real texts: summarise every public docstring of Python's standard library.

The sources are parsed and never imported. The same interpreter always writes the same bytes.
"""

import argparse
import ast
import inspect
import json
import statistics
import sysconfig
import tempfile
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeAlias

SKIPPED = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "turtledemo", "ensurepip", "_vendored"}
)
"""Folders that are not part of the documented library."""

QUESTION = "Summarise in one sentence what this part of Python's standard library is for."

_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_Named: TypeAlias = _Function | ast.ClassDef


class Entry(NamedTuple):
    """One docstring with its full name."""

    name: str
    kind: str
    text: str


def main() -> None:
    """Write the file and print one line about its content."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_name("docstrings.jsonl"))
    parser.add_argument("--limit", type=int, metavar="N", help="write the first N rows only")
    options = parser.parse_args()
    if options.limit is not None and options.limit < 1:
        parser.error("--limit must be at least 1")
    entries = list(islice(collect(Path(sysconfig.get_path("stdlib"))), options.limit))
    content = "".join(f"{row(entry)}\n" for entry in entries).encode()
    write(options.output, content)
    words = [len(entry.text.split()) for entry in entries]
    print(
        f"{options.output}: {len(entries)} rows, "
        f"{min(words)}/{statistics.median(words):g}/{max(words)} words (min/median/max), {len(content)} bytes"
    )


def row(entry: Entry) -> str:
    """Return one line of the prompt file."""
    # An escape in a docstring may stand for half a surrogate pair, which UTF-8 cannot encode.
    text = entry.text.encode(errors="replace").decode()
    fields = {
        "id": entry.name,
        "prompt": f"{QUESTION}\n\n{entry.name}\n\n{text}",
        "kind": entry.kind,
        "words": len(text.split()),
    }
    return json.dumps(fields, ensure_ascii=False)


def write(path: Path, content: bytes) -> None:
    """Write a file completely or not at all."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(content)
            file.flush()
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def collect(root: Path) -> Iterator[Entry]:
    """Yield every public docstring under a folder once, ordered by module, then by position."""
    seen: set[str] = set()
    for module, path in sorted(modules(root)):
        tree = parse(path)
        if tree is None:
            continue
        for entry in documented(tree, module):
            # A name may be defined more than once: in several branches, or as a property and its setter.
            if entry.name not in seen:
                seen.add(entry.name)
                yield entry


def modules(folder: Path, package: str = "") -> Iterator[tuple[str, Path]]:
    """Yield the dotted name and the path of every public module."""
    for path in folder.iterdir():
        name = f"{package}{path.stem}"
        if path.name == "__init__.py" and package:
            yield package.removesuffix("."), path
        elif path.name.startswith("_") or not path.stem.isidentifier() or path.name in SKIPPED:
            continue
        elif path.is_dir():
            # A folder without __init__.py is not a package.
            if (path / "__init__.py").is_file():
                yield from modules(path, f"{name}.")
        elif path.suffix == ".py":
            yield name, path


def parse(path: Path) -> ast.Module | None:
    """Parse a source file. Return None if it is invalid: some files of the library are, on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return None


def documented(tree: ast.Module, module: str) -> Iterator[Entry]:
    """Yield the docstrings of a module and of all public names in it."""
    if text := docstring(tree):
        yield Entry(module, "module", text)
    yield from members(tree, module, "function")


def members(parent: ast.AST, prefix: str, function_kind: str) -> Iterator[Entry]:
    """Yield the docstrings of the names that a module or class defines, in all branches, but not those inside functions."""
    for node in ast.iter_child_nodes(parent):
        if not isinstance(node, _Named):
            if isinstance(node, ast.stmt | ast.excepthandler):
                yield from members(node, prefix, function_kind)
            continue
        if node.name.startswith("_"):
            continue
        name = f"{prefix}.{node.name}"
        is_class = isinstance(node, ast.ClassDef)
        if text := docstring(node):
            yield Entry(name, "class" if is_class else function_kind, text)
        if is_class:
            yield from members(node, name, "method")


def docstring(node: ast.Module | _Named) -> str:
    """Return a docstring without its indentation; an empty string if there is none."""
    return inspect.cleandoc(ast.get_docstring(node, clean=False) or "").strip()


if __name__ == "__main__":
    main()
