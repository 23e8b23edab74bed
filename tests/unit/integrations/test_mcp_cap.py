"""The cap of an agent's server: what is given out never adds up to more, whoever dies in between."""

import os
from pathlib import Path

import pytest

from runner.errors import StoreError, UsageError
from runner.integrations.mcp_cap import Cap


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "runner.db"


def test_parts_never_add_up_to_more_than_the_cap_also_of_two_servers(store: Path) -> None:
    cap, other = Cap(store, 1.0), Cap(store, 1.0)
    grants = [cap.reserve(0.4, free=False), other.reserve(0.4, free=False), cap.reserve(0.4, free=False)]
    assert [grant.share for grant, _ in grants] == [400_000_000_000, 400_000_000_000, 200_000_000_000]
    with pytest.raises(UsageError, match=r"nothing is left of the \$1 .* \$1\.0000 held by sessions that are running"):
        other.reserve(None, free=False)
    # what costs nothing needs no part
    free, lock = cap.reserve(None, free=True)
    assert free.share is None
    for number in (lock, *(number for _, number in grants)):
        os.close(number)
    # they have died before they have begun
    state = Cap(store, 1.0).state()
    assert (state.used, state.held, state.left) == (0, 0, 1)


def test_a_session_that_died_has_used_all_it_may_have_if_its_run_is_gone(store: Path) -> None:
    cap = Cap(store, 1.0)
    grant, lock = cap.reserve(0.25, free=False)
    cap.begun(grant.id, 7)
    assert cap.open_on(7)
    assert cap.state().left == 0.75
    os.close(lock)
    assert (cap.state().used, cap.state().left) == (0.25, 0.75)
    assert not cap.open_on(7)
    # a lower cap of a later server counts what was spent before
    assert Cap(store, 0.2).state().left == 0
    assert Cap(store, None).state().cap is None


def test_grants_that_are_over_are_one_sum_and_their_files_go(store: Path) -> None:
    cap = Cap(store, 100.0)
    for _ in range(60):
        grant, lock = cap.reserve(0.5, free=False)
        cap.begun(grant.id, 7)
        os.close(lock)
    assert cap.state().used == 30
    assert len(cap.grants()) == 50
    assert len([*cap.folder.glob("*.lock")]) == 50 + 1


@pytest.mark.parametrize("text", ["", "{", '{"version": 2}', '{"grants": 3}'])
def test_a_damaged_account_starts_nothing(store: Path, text: str) -> None:
    cap = Cap(store, 1.0)
    cap.prepare()
    (cap.folder / "spent.json").write_text(text)
    with pytest.raises(StoreError, match="is damaged, so nobody knows what agents have spent"):
        cap.reserve(None, free=False)


def test_an_account_that_was_deleted_does_not_begin_at_0(store: Path) -> None:
    cap = Cap(store, 1.0)
    grant, lock = cap.reserve(None, free=False)
    os.close(lock)
    # a session has begun to say what happens
    cap.log_of(grant.id).touch()
    (cap.folder / "spent.json").unlink()
    with pytest.raises(StoreError, match=r"spent\.json is gone, so nobody knows what agents have spent"):
        Cap(store, 1.0).reserve(None, free=False)


def test_a_link_in_the_place_of_the_folder_is_refused(store: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    Cap(store, 1.0).folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is no folder of its own"):
        Cap(store, 1.0).state()
