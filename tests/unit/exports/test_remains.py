"""The next export removes what killed ones have left in its folder, and nothing that is still written or that is none of ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import environment

from runner.exports.file import open_output
from runner.exports.formats import xlsx

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")

KILLED = """
import os, signal, sys
from pathlib import Path
from runner.exports.file import open_output
from runner.exports.formats import xlsx

def records():
    yield ["a"]
    os.kill(os.getpid(), signal.SIGKILL)

with open_output("out.xlsx", "path") as out:
    xlsx.write(["id"], records(), out)
"""


def old(path: Path) -> None:
    os.utime(path, (1.0, 1.0))


def test_a_killed_sheet_leaves_nothing_beyond_the_next_export(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, env=environment(), check=False)
    left = sorted(tmp_path.iterdir())
    assert len(left) == 2, left
    # of a moment ago it may be one that has not its lock yet
    export(tmp_path / "other.xlsx")
    assert set(left) < set(tmp_path.iterdir())
    old(next(path for path in left if path.is_file()))
    export(tmp_path / "other.xlsx")
    assert [path.name for path in tmp_path.iterdir()] == ["other.xlsx"]


def export(path: Path) -> None:
    with open_output(path, "path") as out:
        xlsx.write(["id"], [["a"]], out)


def test_what_is_still_written_and_what_is_none_of_ours_stays(tmp_path: Path) -> None:
    ours = ".export-0123456789abcdef.tmp"
    target = tmp_path / "target"
    target.write_text("kept")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / ours).symlink_to(target)
    (tmp_path / f"{ours}.note").write_text("no folder")
    (tmp_path / ".export-mine.tmp").write_text("another name")
    for path in (target, tmp_path / ".export-mine.tmp"):
        old(path)
    with open_output(tmp_path / "a.csv") as file:
        file.write("x")
        file.flush()
        (writing,) = (path for path in tmp_path.glob(".export-*.tmp") if path.name != ".export-mine.tmp")
        old(writing)
        for folder in (tmp_path, tmp_path / "links"):
            with open_output(folder / "b.csv"):
                pass
        assert writing.exists()
    assert (tmp_path / "a.csv").read_text() == "x"
    assert (target.read_text(), (tmp_path / "links" / ours).is_symlink()) == ("kept", True)
    assert {".export-mine.tmp", f"{ours}.note"} < {path.name for path in tmp_path.iterdir()}
