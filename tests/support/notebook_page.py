"""Executes the notebook of the guides and writes it with its outputs: ``python tests/support/notebook_page.py``.

Nothing in it may differ from one execution to the next but durations, which ``without_times`` masks for the test.
"""

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guides" / "notebook.ipynb"
WAIT_S = 120


def executed(notebook: Any, folder: Path) -> Any:
    """Return a notebook that was executed in a folder. Raises CellExecutionError if a cell fails."""
    fresh = nbformat.from_dict(notebook)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(fresh, timeout=WAIT_S, resources={"metadata": {"path": str(folder)}}, record_timing=False)
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))})
    for cell in fresh.cells:
        cell["outputs"] = [_without(folder, output) for output in cell.get("outputs", ())]
        if cell.cell_type != "code":
            del cell["outputs"]
    return fresh


def _without(folder: Path, value: Any) -> Any:
    """Return an output with the names of files in the folder, and not their paths."""
    if isinstance(value, str):
        return value.replace(f"{folder}{os.sep}", "")
    if isinstance(value, dict):
        return nbformat.from_dict({name: _without(folder, inner) for name, inner in value.items()})
    return [_without(folder, inner) for inner in value] if isinstance(value, list) else value


def texts(notebook: Any) -> list[list[str]]:
    """Return what each code cell of a notebook shows as plain text."""
    return [
        [output.get("text") or output.get("data", {}).get("text/plain") or output.output_type for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def without_times(text: str) -> str:
    """Return a text in which every duration is the same."""
    return re.sub(r"\b\d+:\d\d\b|\b\d+\.\d+ s\b", "TIME", text)


def main() -> None:
    """Execute the notebook and write it."""
    with tempfile.TemporaryDirectory() as folder:
        made = executed(nbformat.read(PAGE, as_version=4), Path(folder))
    made.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.write(made, PAGE)
    sys.stdout.write(f"{PAGE}\n")


if __name__ == "__main__":
    main()
