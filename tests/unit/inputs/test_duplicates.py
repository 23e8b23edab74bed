"""Repeated hashes are repeated, whatever their values."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from runner.inputs.duplicates import HashCollector

SIGNED = st.integers(-(1 << 63), (1 << 63) - 1)


@given(st.lists(st.sampled_from([-(1 << 63), -1, 0, 1, 7, (1 << 63) - 1]) | SIGNED, max_size=60))
def test_it_agrees_with_plain_counting(hashes: list[int]) -> None:
    collector = HashCollector()
    for hashed in hashes:
        collector.add(hashed)
    repeated = collector.repeats()
    expected = {hashed: count for hashed, count in Counter(hashes).items() if count > 1}
    assert dict(zip(repeated.hashes, repeated.counts, strict=True)) == expected
    assert list(repeated.hashes) == sorted(expected)
    assert len(repeated) == len(expected)
    for hashed in hashes:
        at = repeated.find(hashed)
        assert (at is not None) == (hashed in expected)
        assert at is None or repeated.hashes[at] == hashed


def test_what_it_keeps_is_counted_in_bytes() -> None:
    """Every hash twice is the largest result possible; Python objects would take five times the memory."""
    collector = HashCollector()
    for number in range(20_000):
        collector.add((number // 2) * 1_000_003 * 1_000_003)
    repeated = collector.repeats()
    held = sum(column.itemsize * len(column) for column in (repeated.hashes, repeated.counts))
    assert (len(repeated), held) == (10_000, 120_000)
