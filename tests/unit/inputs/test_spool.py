"""The unfinished copy of a stream is not removed by another process that copies one next to the same store."""

import os
import threading
from pathlib import Path

import pytest
from syncing import Named, named

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


def test_a_copy_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a power cut could leave a run whose prompts are gone."""
    source = tmp_path / "pipe"
    os.mkfifo(source)
    writer = threading.Thread(target=source.write_bytes, args=(ROW * 100_000,))
    writer.start()
    with named(monkeypatch) as files, spool.stored_copy(source, tmp_path / "runner.db", bool) as path:
        assert files == [Named(path.name, len(ROW) * 100_000, len(ROW) * 100_000)]
    writer.join()
