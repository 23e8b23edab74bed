"""What the flow tests share: no keys of our own, a server that answers at once, and folders with prompts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Asked, Desk, numbered, opened
from processes import QUICK, Simulated, simulator, write_prompts


@pytest.fixture(autouse=True)
def _no_keys_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def server() -> Iterator[Simulated]:
    with simulator(*QUICK) as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a prompt file of ten rows."""
    write_prompts(tmp_path / "prompts.jsonl", range(10))
    return tmp_path


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A folder with a prompt file of twelve rows with ids, and a server that echoes."""
    with opened(tmp_path, Asked(), numbered(ids=True)) as desk:
        yield desk
