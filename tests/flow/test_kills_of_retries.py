"""The short form of the kills of ``runner retry``; ``python -m tests.kills --only retries`` is the long one."""

import asyncio
import secrets
from pathlib import Path

import pytest
from kills.again import FORMS, asked_again

SHORT = ("classes with done rows", "a schema", "a budget")
"""The others have the same rules, and are in the long form."""


@pytest.mark.parametrize("name", SHORT)
def test_a_retry_that_is_killed_again_and_again(name: str, tmp_path: Path) -> None:
    seed, said = secrets.token_hex(4), list[str]()
    told = asyncio.run(asked_again(FORMS[name], seed, tmp_path, 2, 12, said.append, fresh=False))
    assert told.broken == [], "\n".join([f"seed {seed}", *said])
    assert told.kills == 2
