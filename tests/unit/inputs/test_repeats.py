"""What stands more than once is found, whatever the hashes."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from runner.inputs.duplicates import HashCollector

SIGNED = st.integers(-(1 << 63), (1 << 63) - 1)


@given(st.lists(st.sampled_from([-(1 << 63), -1, 0, 1, 7, (1 << 63) - 1]) | SIGNED, max_size=60))
def test_it_agrees_with_plain_counting(hashes: list[int]) -> None:
    gathered = HashCollector()
    for hashed in hashes:
        gathered.add(hashed)
    found = gathered.repeats()
    expected = {hashed: count for hashed, count in Counter(hashes).items() if count > 1}
    assert dict(zip(found.hashes, found.counts, strict=True)) == expected
    assert list(found.hashes) == sorted(expected)
    assert len(found) == len(expected)
    for hashed in hashes:
        at = found.find(hashed)
        assert (at is not None) == (hashed in expected)
        assert at is None or found.hashes[at] == hashed


def test_what_it_keeps_is_counted_in_bytes() -> None:
    """Every hash twice is the most that it has to remember; objects would be five times as large."""
    gathered = HashCollector()
    for number in range(20_000):
        gathered.add((number // 2) * 1_000_003 * 1_000_003)
    found = gathered.repeats()
    held = sum(column.itemsize * len(column) for column in (found.hashes, found.counts))
    assert (len(found), held) == (10_000, 120_000)
