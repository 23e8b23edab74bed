"""Where the socket of a session is: beside its store, else in the user's folder, and never taken away by somebody else."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.control.place import listen, places_of, socket_of
from runner.sharing.folder import NoFolderError
from runner.web.running import listens

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no sockets in folders")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # the path of a socket must be short
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as name:
        folder = Path(name)
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder / "own"))
        (folder / "own").mkdir(mode=0o700)
        yield folder / "r.db"


def test_the_end_of_a_forked_child_leaves_the_socket_to_its_parent(store: Path) -> None:
    listening = listen(store, 1)
    if not (child := os.fork()):
        # as where the child's event loop ends too
        listening.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert listens(store, 1)
    listening.close()
    assert not socket_of(store, 1).exists()


def test_where_a_socket_cannot_lie_beside_the_store_it_lies_in_the_folder_of_the_user(store: Path) -> None:
    """What lies beside it cannot be taken away: it may also be what a killed session has left in a folder that is read-only."""
    beside, elsewhere = places_of(store, 1)
    beside.mkdir()
    listening = listen(store, 1)
    assert (listening.path, elsewhere.parent) == (elsewhere, store.parent / "own" / "runner")
    assert listens(store, 1)
    listening.close()
    assert (elsewhere.exists(), beside.exists(), listens(store, 1)) == (False, True, False)


def test_one_beside_the_store_needs_no_folder_of_the_user(store: Path) -> None:
    (store.parent / "own" / "runner").write_text("")
    assert socket_of(store, 1).parent == store.parent
    listening = listen(store, 1)
    assert (socket_of(store, 1), listens(store, 1)) == (listening.path, True)
    listening.close()
    socket_of(store, 1).mkdir()
    # there is no place left
    with pytest.raises(NoFolderError, match="own/runner cannot be made"):
        listen(store, 1)
    assert not listens(store, 1)
