"""What of a row can be searched: its words, and marks for what it can be filtered by. Rows and queries are read alike."""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from hashlib import blake2b

from runner.model import Json

MOST_CHARS = 100_000
"""Characters of a row that can be searched: of its id, its fields and its answer, in this order."""
MOST_VALUE = 200
"""Characters of the value of a field by which rows can be filtered."""
_WORD = re.compile(r"[^\W_]+")
# scripts that put no spaces between words
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)


def plain(text: str) -> str:
    """Return a text as it is searched: without accents and capitals, and with pairs of signs where words have no spaces."""
    if text.isascii():
        return text.lower()
    bare = "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one)).casefold()
    return _UNSPACED.sub(lambda found: f" {' '.join([*_pairs(found[0]), *found[0]])} ", unicodedata.normalize("NFC", bare))


def terms(query: str) -> list[str]:
    """Return the words that a row must have for a query, each once. Of a text without spaces, these are its pairs of signs."""
    bare = "".join(one for one in unicodedata.normalize("NFKD", query) if not unicodedata.combining(one)).casefold()
    spaced = _UNSPACED.sub(lambda found: f" {' '.join(_pairs(found[0]) or found[0])} ", unicodedata.normalize("NFC", bare))
    return list(dict.fromkeys(_WORD.findall(spaced)))


def _pairs(signs: str) -> list[str]:
    return [signs[at : at + 2] for at in range(len(signs) - 1)]


def text_of(row_id: str, fields: Mapping[str, Json], answer: str | None) -> str:
    """Return the text of a row that can be searched."""
    parts, size = list[str](), 0
    for part in (row_id, *_texts(fields), answer or ""):
        if size >= MOST_CHARS:
            break
        parts.append(part[: MOST_CHARS - size])
        size += len(parts[-1])
    return plain("\n".join(parts))


def _texts(value: Json) -> Iterator[str]:
    """Yield all texts and numbers in a value, in their order, without recursion: it may be nested deeply."""
    stack: list[Json] = [value]
    while stack:
        match stack.pop():
            case str(text):
                yield text
            case dict(values):
                stack.extend(reversed(list(values.values())))
            case list(values):
                stack.extend(reversed(values))
            case bool() | None:
                pass
            case number:
                yield str(number)


def marks(status: str, code: str | None, finish: str | None, fields: Mapping[str, Json]) -> str:
    """Return the marks of a row: words by which it can be filtered."""
    found = [mark("status", status)]
    found += [mark("code", code)] if code is not None else []
    found += [mark("finish", finish)] if finish is not None else []
    for name, value in fields.items():
        if (spelt := _spelt(value)) is not None:
            found.append(mark(f"field.{name}", spelt))
    return " ".join(found)


def _spelt(value: Json) -> str | None:
    """Return the value of a field as a query has it; None for one by which nothing is filtered."""
    if isinstance(value, str):
        return value if len(value) <= MOST_VALUE else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value) if isinstance(value, int | float) else None


def mark(name: str, value: str) -> str:
    """Return the word for a value of something by which rows are filtered."""
    text = f"{name}\0{value}".encode(errors="surrogatepass")
    return f"x{blake2b(text, digest_size=8).hexdigest()}"
