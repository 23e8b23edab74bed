"""The short form of the kills of sessions with batches; ``python -m tests.kills.batches`` is the long one."""

import asyncio
import os

import pytest
from kills.batches import DIALECTS, swept

FORMS = ("plain", "a second round", "cancelled", "lost answers")
EVERY = 90
"""A kill at each so many-th point: the tests of the engine kill behind every request and commit, in one process."""


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_kill_at_any_point_buys_nothing_twice_and_leaves_no_orphan(dialect: str) -> None:
    seed = os.urandom(4).hex()
    told = asyncio.run(swept(FORMS, [dialect], every=EVERY, twice=2, workers=2, seed=seed))
    assert [rule for one in told for rule in one.broken] == [], f"seed {seed}"
    assert sum(one.kills for one in told) > len(FORMS)
    assert sum(one.doubled + one.orphans for one in told) == 0
