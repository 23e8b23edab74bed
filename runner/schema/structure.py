"""Follows the structure of JSON while it comes: what is open, and whether it is still JSON. Pure.

jiter's partial mode stops without a word at a comma that is missing, and takes nothing more. Here each character is looked at
once.
"""

import json
import re

_SPACE = re.compile(r"[ \t\n\r]*")
_IN_QUOTES = re.compile(r'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
_WORD = re.compile(r'[^ \t\n\r{}\[\]:,"]+')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_BEGUN = re.compile(r"-?(?:(?:0|[1-9][0-9]*)(?:\.(?:[0-9]+(?:[eE][+-]?[0-9]*)?)?|[eE][+-]?[0-9]*)?)?")
"""A number, as far as it has come."""
_LITERALS = {"true": True, "false": True, "null": None}
_CLOSING = {"{": "}", "[": "]"}
_VALUE, _KEY, _COLON, _BEHIND = "a value", "a key in quotation marks", "':'", "','"
"""What may come next. _BEHIND: a value is complete, and a comma or the end of what it is in follows."""
_SHOWN = 20


class Structure:
    """Follows one JSON value. begin: where it begins in its text.

    fault: why it is not JSON. whole: the value is complete. key: the last one. word: the number, true, false or null at the
    end, which may go on.
    """

    def __init__(self, begin: int) -> None:
        self._at = begin
        self._open: list[str] = []
        self._next = _VALUE
        # an object or a list may end where it has just begun
        self._may_end = False
        # where the text in quotation marks begins that is open
        self._quoted: int | None = None
        self.word = ""
        self.fault: str | None = None
        self.whole = False
        self.key: str | None = None

    @property
    def depth(self) -> int:
        """How many objects and lists are open."""
        return len(self._open)

    def open_value(self) -> tuple[str | int | bool | None] | None:
        """Return a value of the type of the one that is open at the end; None if there is none, or it is an object or a list."""
        if self._next is not _VALUE:
            return None
        if self._quoted is not None:
            return ("",)
        if not self.word:
            return None
        return (next((value for word, value in _LITERALS.items() if word.startswith(self.word)), 0),)

    def take(self, text: str) -> None:
        """Take a text, which begins as the one that was taken before."""
        self.word = ""
        while self.fault is None and not self.whole and self._at < len(text):
            if self._quoted is not None:
                if not self._to_quote(text):
                    return
                continue
            space = _SPACE.match(text, self._at)
            self._at = space.end() if space is not None else self._at
            if self._at < len(text) and not self._token(text):
                return

    def _to_quote(self, text: str) -> bool:
        """Go on in a text in quotation marks. Return False if its end has not come."""
        inner = _IN_QUOTES.match(text, self._at)
        self._at = inner.end() if inner is not None else self._at
        if text[self._at : self._at + 1] != '"':
            return False
        begin, self._quoted = self._quoted, None
        self._at += 1
        if self._next is _KEY:
            try:
                self.key = json.loads(text[begin : self._at], strict=False)
            except ValueError:
                self.fault = f"is not JSON: the key {_shown(text, begin or 0)} has an escape that is none"
            self._next = _COLON
        else:
            self._next = _BEHIND
        return True

    def _token(self, text: str) -> bool:
        """Take what comes next. Return False if more of it is needed."""
        mark, may_end = text[self._at], self._may_end
        self._may_end = False
        if mark in "]}":
            if not self._open or mark != _CLOSING[self._open[-1]] or not (may_end or self._next is _BEHIND):
                self._refuse(text, may_end)
            else:
                self._open.pop()
                self._next, self.whole = _BEHIND, not self._open
        elif mark == '"' and self._next in (_VALUE, _KEY):
            self._quoted = self._at
        elif mark in "{[" and self._next is _VALUE:
            self._open.append(mark)
            self._next, self._may_end = _KEY if mark == "{" else _VALUE, True
        elif mark == ":" and self._next is _COLON:
            self._next = _VALUE
        elif mark == "," and self._next is _BEHIND:
            self._next = _KEY if self._open[-1] == "{" else _VALUE
        elif self._next is _VALUE and mark not in ":,":
            return self._read_word(text, may_end)
        else:
            self._refuse(text, may_end)
        self._at += 1
        return True

    def _read_word(self, text: str, may_end: bool) -> bool:
        """Take a number, true, false or null. Return False if it may go on."""
        found = _WORD.match(text, self._at)
        word = found[0] if found is not None else ""
        if self._at + len(word) == len(text):
            self.word, self._may_end = word, may_end
            if not _BEGUN.fullmatch(word) and not any(one.startswith(word) for one in _LITERALS):
                self._refuse(text, may_end)
            return False
        if word not in _LITERALS and not _NUMBER.fullmatch(word):
            self._refuse(text, may_end)
        self._at += len(word)
        self._next = _BEHIND
        return True

    def _refuse(self, text: str, may_end: bool) -> None:
        ends = f" or {_CLOSING[self._open[-1]]!r}" if self._open and (may_end or self._next is _BEHIND) else ""
        self.fault = f"is not JSON: {self._next}{ends} is missing at character {self._at + 1}, before {_shown(text, self._at)}"


def _shown(text: str, begin: int) -> str:
    return repr(text[begin : begin + _SHOWN])
