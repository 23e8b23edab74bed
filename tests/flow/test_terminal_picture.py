"""The picture of the README shows what a terminal shows now: the script that made it works, and the words are the same."""

import re
import xml.etree.ElementTree as ET

import terminal_picture as picture


def test_the_picture_says_what_a_session_says_now() -> None:
    stored = picture.PICTURE.read_text(encoding="utf-8")
    now = picture.session(rows=200, most=16, look_at=45)
    assert picture.words(picture.seen(stored)) == picture.words(now.text), (
        "python tests/support/terminal_picture.py draws it anew"
    )
    assert picture.words(picture.seen(picture.drawn(now))) == picture.words(now.text)


def test_the_picture_needs_nothing_else() -> None:
    stored = picture.PICTURE.read_text(encoding="utf-8")
    ET.fromstring(stored)
    assert len(stored) < 60_000
    assert re.findall(r"(?:href|src|url|@import|<script|<image)", stored) == []
    assert "http" not in re.sub(r'xmlns="[^"]*"|http://127\.0\.0\.1:\d+', "", stored)
    assert "/tmp" not in stored
    # in the dark, too
    assert "prefers-color-scheme: dark" in stored
    text = picture.seen(stored)
    assert (text.count("$ runner run"), "stopped by Ctrl-C" in text, "already done" in text, "%" in text) == (2, True, True, True)
