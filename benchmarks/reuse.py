"""``python -m benchmarks.reuse``: the cost of comparing a new run with an earlier one. See ``benchmarks/README.md``."""

import argparse
import asyncio
import platform
import sys
import tempfile
from pathlib import Path

from benchmarks import bulk, child
from benchmarks.stub import Stub
from benchmarks.table import Figure, render

_TEMPLATE = "Answer in English. {{ prompt }}{% if topic == 'numbers-5' %} Be breif.{% endif %}"
_CHANGES = {
    "a typo in a branch": _TEMPLATE.replace("breif", "brief"),
    "a word in all prompts": _TEMPLATE.replace("English", "French"),
    "another field": _TEMPLATE.replace("numbers-5'", "numbers-5' or id == '1'").replace("breif", "brief"),
}


def main() -> int:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reuse", description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000, help="rows of the earlier run and of the new one (300,000)")
    args = parser.parse_args()
    figures: dict[str, list[list[Figure]]] = {}
    with tempfile.TemporaryDirectory(prefix="runner-bench-") as folder, Stub(silent=True) as stub:
        place = Path(folder)
        path = bulk.prompts(place / "prompts.jsonl", args.rows)
        asyncio.run(bulk.finished(place / "runner.db", path, stub.base_url, prompt=_TEMPLATE))
        for name, template in {"no earlier run": _TEMPLATE, **_CHANGES}.items():
            figures[name] = [_begun(place, stub, template, alone=name not in _CHANGES)]
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {args.rows:,} rows\n")
    print(render(figures))
    return 0


def _begun(folder: Path, stub: Stub, template: str, *, alone: bool) -> list[Figure]:
    """Begin a run with a template and kill it at its first request, which the server never answers."""
    stub.forget()
    store = "new.db" if alone else "runner.db"
    command = ("run", "prompts.jsonl", "--db", store, "--provider", "openai", "--model", "m", "--base-url", stub.base_url)
    ran = child.run(folder, *command, "--prompt", template, until=lambda: stub.first_at is not None)
    first_at = _first_at(stub)
    if first_at is None:
        raise RuntimeError(f"no request came: {child.output(folder)[-2000:]}")
    return [
        Figure("CPU to the first request", ran.cpu_s, "s"),
        Figure("wall", first_at - ran.started, "s"),
        Figure("peak", ran.peak_mib * 1.048576, "MB"),
    ]


def _first_at(stub: Stub) -> float | None:
    return stub.first_at


if __name__ == "__main__":
    sys.exit(main())
