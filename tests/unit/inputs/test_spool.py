"""The unfinished copy of a stream is not removed by another process that copies one next to the same store."""

import os
import threading
from pathlib import Path

import pytest

from runner.inputs import spool

ROW = b'{"prompt": "Hi"}\n'


def test_a_copy_is_guarded_until_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, store = tmp_path / "pipe", tmp_path / "runner.db"
    os.mkfifo(source)
    replace = Path.replace

    def late(unfinished: Path, path: Path) -> Path:
        # Another process starts at this moment.
        spool._remove_unfinished(store)
        return replace(unfinished, path)

    monkeypatch.setattr(Path, "replace", late)
    writer = threading.Thread(target=source.write_bytes, args=(ROW,))
    writer.start()
    with spool.stored_copy(source, store, bool) as path:
        assert path.read_bytes() == ROW
    writer.join()
