"""The lock of a run does not follow a link that somebody has planted at its name."""

from pathlib import Path

import pytest
from processes import run, write_prompts
from unprivileged import unwritable

from runner.errors import StoreError
from runner.store.lock import RunLock, held


@pytest.mark.parametrize("exists", [True, False])
def test_a_planted_link_is_not_followed(tmp_path: Path, exists: bool) -> None:
    victim = tmp_path / "victim"
    if exists:
        victim.write_text("precious")
    (tmp_path / "runner.db-run1.lock").symlink_to(victim)
    lock = RunLock(tmp_path / "runner.db", 1)
    with pytest.raises(StoreError, match=r"the lock file .* cannot be used: it is a symbolic link; remove that, then run"):
        lock.acquire()
    assert not held(tmp_path / "runner.db", 1)
    assert victim.exists() == exists
    if exists:
        assert victim.read_text() == "precious"


def test_a_folder_at_its_name(tmp_path: Path) -> None:
    (tmp_path / "runner.db-run1.lock").mkdir()
    with pytest.raises(
        StoreError, match=r"the lock file .* cannot be used: it is a folder; remove that, then run the same command"
    ):
        RunLock(tmp_path / "runner.db", 1).acquire()
    assert not held(tmp_path / "runner.db", 1)


def test_a_lock_that_may_not_be_written() -> None:
    with (
        unwritable() as folder,
        pytest.raises(StoreError, match=r"Permission denied; check that you may write to it and to its folder"),
    ):
        RunLock(folder / "runner.db", 1).acquire()


def test_the_words_come_with_the_commands(tmp_path: Path) -> None:
    write_prompts(tmp_path / "p.jsonl", range(2))
    command = ("run", "p.jsonl", "--provider", "simulator", "--limit", "1")
    assert run(*command, cwd=tmp_path).code == 0
    lock = tmp_path / "runner.db-run1.lock"
    lock.unlink()
    lock.symlink_to(tmp_path / "p.jsonl")
    for refused in (("run", "p.jsonl", "--provider", "simulator"), ("resume",), ("delete", "1", "--yes")):
        ended = run(*refused, cwd=tmp_path)
        assert (ended.code, ended.err.count("\n")) == (4, 1), ended
        assert f"{lock} cannot be used: it is a symbolic link; remove that, then run the same command again" in ended.err
    lock.unlink()
    assert run("resume", cwd=tmp_path).code == 0
