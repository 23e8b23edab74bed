"""What the flow tests share: a server that answers at once, and a folder with prompts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import QUICK, Simulated, simulator, write_prompts


@pytest.fixture(scope="module")
def server() -> Iterator[Simulated]:
    with simulator(*QUICK) as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a prompt file of ten rows."""
    write_prompts(tmp_path / "prompts.jsonl", range(10))
    return tmp_path
