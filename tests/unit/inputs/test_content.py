"""The hash of what a file holds, and of its beginnings."""

import gzip
from hashlib import blake2b
from pathlib import Path

import pytest

from runner.inputs import content


def hashed(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("end", [b"", b"\n", b"tail"])
@pytest.mark.parametrize("block", [1, 2, 7, 1 << 20])
def test_beginnings_and_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, end: bytes, packed: bool
) -> None:
    monkeypatch.setattr(content, "_BLOCK", block)
    data = b"one\n\ntwo and more\nthree\n" + end
    path = tmp_path / "p"
    path.write_bytes(gzip.compress(data) if packed else data)
    lengths = [0, 1, 4, 5, 9, len(data) - 1, len(data), len(data) + 1]
    found = content.measure([(path, path.stat().st_size)], lengths)
    assert (found.size, found.digest) == (len(data), hashed(data))
    whole = data[: data.rindex(b"\n") + 1]
    assert (found.whole, found.whole_digest, found.lines) == (len(whole), hashed(whole), data.count(b"\n"))
    for length in lengths[1:-1]:
        assert found.begins_with(length, hashed(data[:length]))
        assert not found.begins_with(length, hashed(b"x"))
    assert not found.begins_with(len(data) + 1, found.digest)
    assert not found.begins_with(None, None)
    assert not found.begins_with(3, None)


def test_what_is_appended_later_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(b"one\ntwo\n")
    assert content.measure([(path, 4)]).digest == hashed(b"one\n")


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "p").touch()
    found = content.measure([(tmp_path / "p", 0)], [1])
    assert (found.size, found.whole, found.lines, found.digest) == (0, 0, 0, hashed(b""))


def test_several_files_begin_with_what_they_were_before_one_was_added(tmp_path: Path) -> None:
    def measured(*texts: bytes, lengths: tuple[int, ...] = ()) -> content.Content:
        parts = []
        for number, text in enumerate(texts):
            (tmp_path / str(number)).write_bytes(text)
            parts.append((tmp_path / str(number), len(text)))
        return content.measure(parts, lengths)

    one, two = measured(b"a\nb\n"), measured(b"a\nb\n", b"c\n")
    assert one.digest == hashed(b"a\nb\n")
    assert measured(b"a\nb\n", b"c\n", b"d", lengths=(4, 6)).begins_with(one.size, one.digest)
    assert measured(b"a\nb\n", b"c\n", b"d", lengths=(4, 6)).begins_with(two.size, two.digest)
    # the last one has grown
    assert measured(b"a\nb\n", b"c\nd\n", lengths=(4, 6)).begins_with(two.size, two.digest)
    # a file without content counts for nothing, wherever it is
    assert measured(b"", b"a\nb\n", b"", b"c\n", b"").digest == two.digest
    # where a file ends does
    different = {
        measured(*texts).digest for texts in ((b"a\nb\nc\n",), (b"a\n", b"b\nc\n"), (b"a\nb\n", b"c\n"), (b"c\n", b"a\nb\n"))
    }
    assert len(different) == 4
    step = blake2b(b"a\nb\n", digest_size=16).digest()
    assert measured(b"a\nb\n" + step + b"c\n").digest != two.digest
    assert measured(step + b"c\n").digest != two.digest
