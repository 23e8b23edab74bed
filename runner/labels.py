"""What a run may be called, and how it may be marked: the rules of names and tags, and which tags match a filter."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence

from runner.errors import UsageError

MOST = 60
"""Characters of a name, and of each side of a tag."""
_WORD = re.compile(r"\w[\w.-]*")
_NUMBER = re.compile(r"[\d_]+|0[xob]\w+|[\d_]*\.?[\d_]+(e-?\d+)?\.?", re.IGNORECASE)
_RULE = f"letters, digits, and - _ . between them, up to {MOST} characters"
_TAGS = 50
"""Tags of a run, at most."""


def spelt(name: str) -> str:
    """Return a name as the store keeps it. Some systems type an accent as a character of its own."""
    return unicodedata.normalize("NFC", name)


def checked_name(name: str) -> str:
    """Return a name as the store keeps it. Raises UsageError for what a run cannot be called."""
    name = spelt(name)
    if not _WORD.fullmatch(name) or len(name) > MOST:
        raise UsageError(f"a run cannot be called {_shown(name)}; a name is {_RULE}")
    if _NUMBER.fullmatch(name):
        raise UsageError(f"a run cannot be called {_shown(name)}, which looks like a number; put a letter into the name")
    return name


def is_name(text: str) -> bool:
    """Return True if a run may be called so."""
    try:
        checked_name(text)
    except UsageError:
        return False
    return True


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags as the store keeps them, each key once, the last value of it. Raises UsageError for what is no tag."""
    kept: dict[str, str] = {}
    for tag in map(spelt, tags):
        key, is_pair, value = tag.partition("=")
        if not _WORD.fullmatch(key) or len(key) > MOST:
            raise UsageError(f"{_shown(tag)} is no tag; a tag is a word or word=value, and a word is {_RULE}")
        if is_pair and not (0 < len(value) <= MOST and value.isprintable() and value == value.strip()):
            raise UsageError(f"{_shown(tag)} is no tag; its value must be 1 to {MOST} printable characters")
        kept[key] = tag
    if len(kept) > _TAGS:
        raise UsageError(f"a run has at most {_TAGS} tags, not {len(kept):,}")
    return tuple(kept.values())


def merged(tags: Sequence[str], add: Iterable[str], remove: Iterable[str] = ()) -> tuple[str, ...]:
    """Return tags with others added and removed. Another value of a word replaces the old one.

    Raises UsageError for too many, and for one that is to be removed and is not there.
    """
    left = list(tags)
    for tag in checked_tags(remove):
        gone = [one for one in left if matches([one], [tag])]
        if not gone:
            have = f"its tags: {', '.join(tags)}" if tags else "it has none"
            raise UsageError(f"the run has no tag {_shown(tag)} that could be removed; {have}")
        left = [one for one in left if one not in gone]
    return checked_tags([*left, *add])


def matches(tags: Collection[str], wanted: Iterable[str]) -> bool:
    """Return True if each wanted tag is there; a word without a value stands for any value of it."""
    found = {*tags, *(tag.partition("=")[0] for tag in tags)}
    return all(tag in found for tag in wanted)


def _shown(text: str) -> str:
    shown = ascii(text)
    return shown if len(shown) <= MOST else f"{shown[: MOST - 3]}..."
