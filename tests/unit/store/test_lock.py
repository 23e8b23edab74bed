"""The lock of a run does not follow a link that somebody has planted at its name."""

from pathlib import Path

import pytest

from runner.errors import StoreError
from runner.store.lock import RunLock, held


@pytest.mark.parametrize("exists", [True, False])
def test_a_planted_link_is_not_followed(tmp_path: Path, exists: bool) -> None:
    victim = tmp_path / "victim"
    if exists:
        victim.write_text("precious")
    (tmp_path / "runner.db-run1.lock").symlink_to(victim)
    lock = RunLock(tmp_path / "runner.db", 1)
    with pytest.raises(StoreError, match=r"the lock file .* cannot be used"):
        lock.acquire()
    assert not held(tmp_path / "runner.db", 1)
    assert victim.exists() == exists
    if exists:
        assert victim.read_text() == "precious"
