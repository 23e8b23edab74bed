"""The folder of an agent's files: nothing outside is read or written, whatever becomes a link meanwhile."""

from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.integrations.mcp_files import Root


@pytest.fixture
def root(tmp_path: Path) -> Root:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "rows.csv").write_text("prompt\nhello\n")
    (tmp_path / "out" / "rows.csv").write_text("prompt\nsecret\n")
    return Root(tmp_path / "in")


def test_names_lead_into_the_folder_or_nowhere(root: Root) -> None:
    (root.path / "good.csv").symlink_to(root.path / "rows.csv")
    (root.path / "bad.csv").symlink_to(root.path.parent / "out" / "rows.csv")
    (root.path / "circle.csv").symlink_to(root.path / "circle.csv")
    assert root.input("good.csv") == str(root.path / "rows.csv")
    assert root.input(["rows.csv", "run:3"]) == [str(root.path / "rows.csv"), "run:3"]
    for name in (
        "../out/rows.csv",
        "bad.csv",
        "circle.csv",
        "",
        "a\0b",
        "/etc/passwd",
        "deep/../../out/rows.csv",
        "*/../../out/*",
    ):
        with pytest.raises(UsageError):
            root.input(name)


def test_a_job_file_names_no_file_outside_and_is_itself_inside(root: Root) -> None:
    (root.path / "rows.toml").symlink_to(root.path.parent / "out" / "job.toml")
    with pytest.raises(UsageError, match="outside of"):
        root.input("rows.csv")
    (root.path / "rows.toml").unlink()
    for words in ('"../out/rows.csv"', '["rows.csv", "../out/rows.csv"]', '"../out/*.csv"', '"-"'):
        (root.path / "job.toml").write_text(f"input = {words}\n")
        with pytest.raises(UsageError, match=r"outside of|belongs to the protocol"):
            root.input("job.toml")


def test_what_is_written_stays_inside_though_its_folder_becomes_a_link(root: Root) -> None:
    outside = root.path.parent / "out"

    def swapped(path: Path) -> None:
        path.write_text("answers")
        (root.path / "deep").rename(root.path / "moved")
        (root.path / "deep").symlink_to(outside)

    root.write("deep/a.csv", swapped, overwrite=False)
    assert (root.path / "moved" / "a.csv").read_text() == "answers"
    assert [path.name for path in outside.iterdir()] == ["rows.csv"]
    with pytest.raises(UsageError):
        root.write("deep/a.csv", lambda path: path.write_text("x"), overwrite=True)


def test_a_file_that_is_there_is_replaced_only_when_told_and_a_link_never(root: Root) -> None:
    def write(path: Path) -> int:
        return path.write_text("new")

    with pytest.raises(UsageError, match="is there already"):
        root.write("rows.csv", write, overwrite=False)
    root.write("rows.csv", write, overwrite=True)
    assert (root.path / "rows.csv").read_text() == "new"
    (root.path / "link.csv").symlink_to(root.path.parent / "out" / "rows.csv")
    with pytest.raises(UsageError, match="is a link"):
        root.write("link.csv", write, overwrite=True)

    def fails(_: Path) -> None:
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        root.write("other.csv", fails, overwrite=False)
    assert sorted(path.name for path in root.path.iterdir()) == ["deep", "link.csv", "rows.csv"]
