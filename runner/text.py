"""Makes foreign text safe for a terminal, a log or a file, keeps secrets out of it, and words small things for people.

One rule: text that others wrote (models, providers, prompt files, file names) is shown, never interpreted.
"""

import difflib
import json
import os
import re
import shlex
import unicodedata
from collections.abc import Iterable, Mapping
from itertools import groupby, takewhile
from typing import Any, NoReturn, SupportsIndex, final
from urllib.parse import quote

REDACTED = "[redacted]"
"""Replacement for a secret."""

SHORTEST_SECRET = 8
"""Characters. Keys shorter than this ("EMPTY", "x") are placeholders; redacting them would mangle ordinary text."""

_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"

# C0, DEL and C1; then invisible characters that move, hide or break text: soft hyphen, bidi marks and overrides,
# zero-width characters, line separators, invisible operators, interlinear marks, tags.
_HIDDEN = (
    "\\x00-\\x1f\\x7f-\\x9f\\xad\\u034f\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff9-\\ufffb"
    "\\U000e0000-\\U000e007f"
)
_SURROGATE = "\\ud800-\\udfff"
_UNSAFE = re.compile(f"[{_HIDDEN}{_SURROGATE}]")
_NAMED = {"\t": " ", "\n": " ", "\r": " "}


def clean(text: str, width: int | None = None) -> str:
    r"""Return the text as one harmless line for a terminal.

    Line ends and tabs become spaces; controls, bidi and zero-width characters become visible escapes such as
    ``\u202e``; lone surrogates become U+FFFD. ``width`` is in terminal columns, the ellipsis included.
    """
    if width is None:
        return _UNSAFE.sub(_visible, text.replace("\r\n", "\n"))
    # No character takes less than one column here, so text beyond this cannot be visible.
    head = text[: 2 * max(width, 0) + 2].replace("\r\n", "\n")
    return _cut(_UNSAFE.sub(_visible, head), width)


def _visible(match: re.Match[str]) -> str:
    character = match[0]
    return _NAMED.get(character) or _escape(ord(character))


def _escape(code: int) -> str:
    if 0xD800 <= code <= 0xDFFF:
        return "\N{REPLACEMENT CHARACTER}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _cut(text: str, width: int) -> str:
    if len(text) <= width and text.isascii():
        return text
    if width <= 0:
        return ""
    columns = 0
    # how many characters may precede the ellipsis
    fits = 0
    for index, character in enumerate(text):
        columns += _columns(character)
        if columns > width:
            return text[:fits] + _ELLIPSIS
        if columns < width:
            fits = index + 1
    return text


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a harmless text takes."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(character: str) -> int:
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


_KEY_SHAPES = re.compile(
    r"""
      (?<![A-Za-z0-9]) (?: sk-[A-Za-z0-9_\-*.]{6,}
                         | (?: gsk_ | hf_ | xai- | pplx- | nvapi- | AIza ) [A-Za-z0-9_\-]{16,} )
    """,
    re.VERBOSE,
)
# In a sentence about bearer tokens, the word after "Bearer" is not a token.
_BEARER = re.compile(
    r"\b(bearer\s+|authorization[\"']?\s{0,9}[:=]\s{0,9}[\"']?basic\s+)"
    r"(?!(?:tokens?|auth\w*|keys?|realm|scheme|format|prefix|header|of|is|and|or|in|error)(?![\w.~+/=-]))"
    r"[\w.~+/=*-]{3,}",
    re.IGNORECASE,
)
_USERINFO = re.compile(r"(://)[^\s/?#\"'<>]+(?=@)")
_KEY_WORD = r"(?:x[-_])?api[-_]?key|access[-_]?(?:token|key)|auth[-_]?token|client[-_]?secret"
_QUERY = re.compile(rf"([?&;](?:{_KEY_WORD}|key|token|auth|password|secret|sig|signature)=)[^&;\s#\"'<>]+", re.IGNORECASE)
_FIELD = re.compile(rf"\b((?:{_KEY_WORD})[\"']?\s{{0,9}}[:=]\s{{0,9}}[\"']?)[^\s\"',;&<>{{}}]{{4,}}", re.IGNORECASE)


def redact(text: str) -> str:
    """Replace everything that looks like a key."""
    text = _KEY_SHAPES.sub(REDACTED, text)
    for shape in (_BEARER, _USERINFO, _QUERY, _FIELD):
        text = shape.sub(rf"\g<1>{REDACTED}", text)
    return text


class Redactor:
    """Replaces known secrets, and everything that looks like a key, in foreign text.

    Secrets shorter than ``SHORTEST_SECRET`` are placeholders. They are left in place, because redacting them would mangle
    ordinary text.
    """

    __slots__ = ("_known", "_secrets", "_starts", "hides")

    def __init__(self, secrets: Iterable[str] = (), private: Iterable[str] = ()) -> None:
        """private: texts that no message may quote, although an answer may contain them, such as the value of a header."""
        secrets = set(secrets)
        self._secrets = _spellings(secrets)
        self._starts = [_start(secret) for text in secrets if len(secret := text.strip()) >= SHORTEST_SECRET]
        self._known = _spellings({*secrets, *private})
        self.hides = bool(self._secrets)  # False: ``answer`` has nothing to look for

    def __call__(self, text: str) -> str:
        """Return the text of a message without secrets and keys."""
        return redact(_without(self._known, text))

    def answer(self, value: Any) -> Any:
        """Return a text of an answer, or a JSON value with texts in it, without the secrets."""
        if isinstance(value, str):
            return _without(self._secrets, value)
        if not self._secrets:
            return value
        if isinstance(value, list):
            return [self.answer(part) for part in value]
        if isinstance(value, Mapping):
            return {self.answer(name): self.answer(part) for name, part in value.items()}
        return value

    def settled(self, text: str) -> int:
        """Return how many characters of a text, whose rest is still coming, can be shown: no secret begins there and ends behind.

        ``answer`` finds each secret that lies in this part.
        """
        return min((_undecided(text, start, most) for start, most in self._starts), default=len(text))


def _start(secret: str) -> tuple[str, int]:
    """Return the beginning of a secret that is spelt in one way only, and the most characters of a secret that may be longer."""
    start = "".join(takewhile(_SPELT_ALIKE.__contains__, secret))
    return (start, 0) if start == secret else (start, _MOST_SPELT * len(secret))


def _undecided(text: str, start: str, most: int) -> int:
    """Return where a secret may begin in a text whose rest is still coming; the length of the text if nowhere."""
    at = max(0, len(text) - max(most, len(start) - 1))
    while at < len(text) and not start.startswith(text[at:]) and not (most and text.startswith(start, at)):
        at = text.find(start[0], at + 1) if start else len(text)
        at = len(text) if at < 0 else at
    return at


def _without(secrets: Iterable[str | re.Pattern[str]], text: str) -> str:
    for secret in secrets:
        # most keys consist of letters and digits, and a pattern takes ten times as long
        text = text.replace(secret, REDACTED) if isinstance(secret, str) else secret.sub(REDACTED, text)
    return text


def _spellings(secrets: Iterable[str]) -> list[str | re.Pattern[str]]:
    """Return what finds each long enough secret as a server may echo it: plain, or as a part of a URL, of JSON or of HTML."""
    known = {secret for text in secrets if len(secret := text.strip()) >= SHORTEST_SECRET}
    # longest first: otherwise a secret that contains a shorter one would be replaced only in part
    ordered = sorted(known, key=lambda secret: (-len(secret), secret))
    return [secret if _SPELT_ALIKE.issuperset(secret) else _pattern(secret) for secret in ordered]


def _pattern(secret: str) -> re.Pattern[str]:
    return re.compile("".join(_spelt(character, len([*run])) for character, run in groupby(secret)))


def _spelt(character: str, times: int) -> str:
    """Return the pattern of a repeated character of a secret."""
    if character in _SPELT_ALIKE:
        return character * times
    code = ord(character)
    forms = [re.escape(quote(character, "", errors="replace")), f"&#0{{0,4}}{code};", f"&#x0{{0,4}}{code:x};"]
    forms += [f"&{name};" for name in _IN_HTML.get(character, ())] + ([r"\+"] if character == " " else [])
    # JSON inside JSON escapes again
    if character == "\\":
        return rf"(?i:\\{{{times},{4 * times}}}+|(?:{'|'.join(forms)}){{{times}}})"
    escaped = json.dumps(character)[1:-1].lstrip("\\")
    return rf"(?i:{re.escape(character)}|\\{{1,3}}{re.escape(escaped)}|{'|'.join(forms)}){{{times}}}"


# characters that a URL, JSON and HTML leave as they are
_SPELT_ALIKE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~")
# characters of the longest spelling of one character: "&#x0000a1;"
_MOST_SPELT = 10
_IN_HTML = {"&": ("amp",), "<": ("lt",), ">": ("gt",), '"': ("quot",), "'": ("apos",)}


@final
class Secret:
    """A key that cannot leak by accident: masked when printed, equal only to itself, never pickled."""

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """Return the key itself."""
        return self.__value

    def __repr__(self) -> str:
        return "Secret(****)"

    def __str__(self) -> str:
        return "****"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied")


# DEL and C1; bidi marks, overrides and isolates: what a terminal would obey
_OBEYED = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def json_text(encoded: bytes) -> str:
    r"""Return encoded JSON as text in which no character is obeyed by a terminal: each of them becomes an escape, ``\u202e``.

    A parser reads the same values. C0 is escaped in any JSON.
    """
    text = encoded.decode()
    return text if encoded.isascii() and b"\x7f" not in encoded else escaped(text)


def escaped(text: str) -> str:
    """Return text inside quotation marks with what a terminal would obey as an escape, as JSON and TOML have it."""
    return _OBEYED.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def as_text(value: Any) -> str:
    """Return a text as it is, and any other JSON value as JSON in one line."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def encodable(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot encode, with U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return _LONE.sub("\N{REPLACEMENT CHARACTER}", text)
    return text


def encodable_tree(value: object) -> object:
    """Apply ``encodable`` to every string and key inside a JSON value."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, list):
        return [encodable_tree(part) for part in value]
    if isinstance(value, dict):
        return {encodable_tree(name): encodable_tree(part) for name, part in value.items()}
    return value


_LONE = re.compile(f"[{_SURROGATE}]")


def shell_word(text: str) -> str:
    """Return text as one word for a shell, as it can be typed; what a terminal would act on is written as an escape."""
    if not _UNSAFE.search(text):
        return shlex.quote(text)
    plain = text.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + _UNSAFE.sub(lambda found: "".join(f"\\x{byte:02x}" for byte in os.fsencode(found[0])), plain) + "'"


def plural(number: int, noun: str) -> str:
    """Return a number with its noun: "1 row", "2,000 rows"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def nearest(word: str, among: Iterable[str]) -> str | None:
    """Return the name that was probably meant, ignoring case, with letters that changed places first; None if none is similar."""
    names = {name.casefold(): name for name in among}
    close = difflib.get_close_matches(word[:100].casefold(), names)
    return names[min(close, key=lambda one: sorted(one) != sorted(word.casefold()))] if close else None
