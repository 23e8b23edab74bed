"""Synthetic answers: sentences of everyday words, marked as simulated, with some non-ASCII characters, quotes and line breaks.

Each byte of noise gives one chunk of text. Chunks are already escaped for a JSON string, so that sending them needs no escaping.
"""

import re

import msgspec

_PLAIN = """
above across after again almost along already also always answer around autumn away because before begin
below beside between bicycle bridge brief broad build café careful carry castle chance change choose circle
clear clock cloud coast collect common complete copper corner could courage cover cross curious dark deep
describe detail differ draw early earth east easy either engine enough equal every example exact façade fair
family field figure final fine follow forest form forward fresh further garden gentle give gold gradual
grain great green Größe half happen harbour harvest heavy high however, hundred idea important indeed,
island join journey jñāna keep kind lake language large later learn leave level light likely little long
lower main make map mark market matter meadow measure middle might mirror moment morning mountain move naïve
narrow near nearly need never night north notice number ocean offer often old open order other outside over
own part pass path pattern perhaps place plain plan point practice present pretty quick quite rain rather
reach ready record region remain rest result road round "roughly" sail same season second seem series seven
shape share short show silver simple slow small smooth some soon sound south spring square stand start
steady stone story straight stream strong surface table take than there these thing think three time
together tower trade true turn twelve under until usual valley value various village walk wall warm water
wheel where while white whole wide wind window winter without wonder wood word work write yellow yesterday
young zero
"""
# At most 256, so that a byte can select any of them.
_WORDS = (*_PLAIN.split(), "東京", "λ", "50 €", "😀", "“so”")


def _escaped(text: str) -> bytes:
    return msgspec.json.encode(text)[1:-1]


def _capital(word: str) -> str:
    return word[:1].upper() + word[1:]


_FIRST = _escaped("[simulated answer]")
_MIDDLE = tuple(_escaped(f" {word}") for word in _WORDS)
_START = tuple(_escaped(f" {_capital(word)}") for word in _WORDS)
_PARAGRAPH = tuple(_escaped(f"\n\n{_capital(word)}") for word in _WORDS)
_END = tuple(_escaped(f" {word.rstrip(',')}.") for word in _WORDS)


def compose(noise: bytes, *, finished: bool) -> list[bytes]:
    """Return the chunks of an answer, one per byte of noise. An unfinished answer may stop in the middle of a sentence."""
    chunks = [_FIRST] if noise else []
    left = 0
    for byte in noise[1:]:
        if left == 0:
            left = 4 + byte % 8
            table = _PARAGRAPH if byte % 11 == 0 else _START
        elif left == 1:
            table = _END
        else:
            table = _MIDDLE
        left -= 1
        chunks.append(table[byte % len(table)])
    if finished and len(chunks) > 1 and left > 0:
        chunks[-1] = _END[noise[-1] % len(_END)]
    return chunks


# Splits a text into words without loss: joined, the pieces are the text again.
_PIECE = re.compile(r"\s*\S+|\s+")


class _Part(msgspec.Struct):
    text: str = ""


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None


class _Body(msgspec.Struct):
    messages: list[_Message]


def echo(body: bytes) -> list[bytes]:
    """Return the text of the last message, one chunk per word, escaped for a JSON string; empty if the message has no text."""
    try:
        content = msgspec.json.decode(body, type=_Body).messages[-1].content
    except msgspec.ValidationError:
        # The dialects accept this form of content, but it contains no text to echo.
        return []
    text = content if isinstance(content, str) else "".join(part.text for part in content or ())
    return [msgspec.json.encode(piece)[1:-1] for piece in _PIECE.findall(text)]
