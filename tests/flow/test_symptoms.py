"""What the page of symptoms quotes is what runner says: error codes, and words of its messages."""

import re
from pathlib import Path

import pytest

from runner.remedies import ADVICE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guides" / "troubleshooting.md").read_text(encoding="utf-8")
# a text over several lines is one text
SOURCE = re.sub(r'"\s*\n\s*f?"', "", "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "runner").rglob("*.py")))
FIRST_CELLS = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| ")]
SYMPTOMS = [quoted for cell in FIRST_CELLS for quoted in re.findall(r"`([^`]+)`", cell)]
FILLED = r"\b(?:OPENAI_API_KEY|reviews\.csv|server unreachable|requests/min|[\d:]+|X)(?!\w)|\$X"
"""What stands in place of something that a message takes from elsewhere."""


@pytest.mark.parametrize("quoted", SYMPTOMS)
def test_what_is_quoted_is_said(quoted: str) -> None:
    parts = [part.strip(" $.") for part in re.split(FILLED, quoted) if len(part.strip(" $.")) > 1]
    assert quoted in ADVICE or [part for part in parts if part not in SOURCE] == []


def test_the_page_quotes_something() -> None:
    assert len(SYMPTOMS) > 30
