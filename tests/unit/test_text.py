import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.exports.formats.csv import csv_cell, csv_text
from runner.text import SHORTEST_SECRET, Redactor, Secret, clean, encodable, encodable_tree, nearest, redact

ANY_TEXT = st.text(st.characters())  # lone surrogates included


@pytest.mark.parametrize(
    ("foreign", "shown"),
    [
        ("plain", "plain"),
        ("two\r\nlines\tand\rmore\n", "two lines and more "),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]52;c;ZXZpbA==\x07", r"\x1b]52;c;ZXZpbA==\x07"),
        ("\x9b2J\x7f\x00", r"\x9b2J\x7f\x00"),
        ("invoice\u202efdp.exe", r"invoice\u202efdp.exe"),
        ("a\u200bb\u2028c\ufeffd\u2066e", r"a\u200bb\u2028c\ufeffd\u2066e"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("\ud800x", "\ufffdx"),
        ("Grüße 你好 🎉", "Grüße 你好 🎉"),
    ],
)
def test_clean_shows_what_would_act(foreign: str, shown: str) -> None:
    assert clean(foreign) == shown


@given(ANY_TEXT)
def test_clean_leaves_one_printable_line(text: str) -> None:
    shown = clean(text)
    assert len(shown.splitlines()) <= 1
    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in shown)
    assert clean(shown) == shown
    shown.encode()


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("abcdef", 1, "…"),
        ("abcdef", 0, ""),
        ("", 0, ""),
        ("你好吗", 6, "你好吗"),
        ("你好吗", 5, "你好…"),
        ("你好吗", 4, "你…"),
        ("a\r\nb", 3, "a b"),
        ("\x1b" * 5, 6, "\\x1b\\…"),
    ],
)
def test_clean_cuts_to_columns(text: str, width: int, shown: str) -> None:
    assert clean(text, width) == shown


@given(st.text("a\r\n\x1bé", max_size=30), st.integers(0, 30))
def test_a_cut_text_is_the_head_of_the_whole(text: str, width: int) -> None:
    whole = clean(text)
    assert clean(text, width) == (whole if len(whole) <= width else (whole[: width - 1] + "…" if width else ""))


@pytest.mark.parametrize(
    ("leaky", "safe"),
    [
        ("Incorrect API key provided: sk-abcd****wxyz.", "Incorrect API key provided: [redacted]"),
        ("key sk-ant-api03-AbC_dEf-123 refused", "key [redacted] refused"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer [redacted]"),
        ("bearer xyz", "bearer [redacted]"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic [redacted]"),
        ("{'authorization': 'Basic dXNlcjpwYXNz'}", "{'authorization': 'Basic [redacted]'}"),
        ("https://user:p@ss@host.example/v1", "https://[redacted]@host.example/v1"),
        ("http://token@proxy:3128", "http://[redacted]@proxy:3128"),
        ("GET /v1?api_key=abc&model=m&key=def#top", "GET /v1?api_key=[redacted]&model=m&key=[redacted]#top"),
        ("x-api-key: 0123456789", "x-api-key: [redacted]"),
        ('{"api_key": "0123456789"}', '{"api_key": "[redacted]"}'),
        ("token gsk_0123456789abcdefXYZ", "token [redacted]"),
    ],
)
def test_what_looks_like_a_key_is_blotted_out(leaky: str, safe: str) -> None:
    assert redact(leaky) == safe
    assert redact(safe) == safe


@pytest.mark.parametrize(
    "harmless",
    [
        "Bearer token is missing",
        "a bearer of news",
        "desk-lampshades and risk-taking",
        "scikit-learn, sk-learn",
        "http://localhost:8000/v1/models?limit=5",
        "mail to someone@example.org",
        "the keyboard=broken",
    ],
)
def test_ordinary_words_stay(harmless: str) -> None:
    assert redact(harmless) == harmless


def test_known_secrets_go_in_every_form() -> None:
    hide = Redactor(["canary-1", "canary-1-long", "p/w:xyzq", "EMPTY", "abc", ""])
    assert hide("a=canary-1 b=canary-1-long c=p%2Fw%3Axyzq abc") == "a=[redacted] b=[redacted] c=[redacted] abc"
    assert Redactor([" long-key\udcff "])("long-key\udcff") == "[redacted]"


SPELT = 'p/w: "x&y" \\ é'


@pytest.mark.parametrize(
    "echoed",
    [
        SPELT,
        "p%2Fw%3A%20%22x%26y%22%20%5C%20%C3%A9",
        "p%2fw%3a%20%22x%26y%22%20%5c%20%c3%a9",
        "p/w%3A%20%22x%26y%22%20%5C%20%C3%A9",
        "p%2Fw%3A+%22x%26y%22+%5C+%C3%A9",
        'p/w: \\"x&y\\" \\\\ é',
        'p/w: \\"x&y\\" \\\\ \\u00e9',
        "p/w: &quot;x&amp;y&quot; \\ é",
        'p/w: "x&amp;y" \\ é',
        "p/w:%20%22x%26y%22%20%5C%20%C3%A9",
        'p\\/w: \\\\\\"x&y\\\\\\" \\\\\\\\ \\\\u00E9',
        "p&#x2F;w: &#34;x&#38;y&#34; &#92; &#xE9;",
    ],
)
def test_a_secret_goes_as_a_url_json_and_html_spell_it(echoed: str) -> None:
    for hide in (Redactor([SPELT]), Redactor((), [SPELT])):
        assert hide(f"<{echoed}>") == "<[redacted]>"
    assert Redactor([SPELT]).answer({f"<{echoed}>": [f"<{echoed}>", 1, None]}) == {"<[redacted]>": ["<[redacted]>", 1, None]}
    assert Redactor((), [SPELT]).answer(echoed) == echoed


def test_short_keys_are_placeholders_and_stay() -> None:
    shortest = "x" * SHORTEST_SECRET
    hide = Redactor(["EMPTY", shortest[1:], shortest, "canary-1-long"])
    assert hide(f"EMPTY handed {shortest[1:]}") == f"EMPTY handed {shortest[1:]}"
    assert hide(f"{shortest} sk-1234567890") == "[redacted] [redacted]"


def test_redaction_is_linear() -> None:
    for hostile in ("sk-" * 200_000, "://" * 200_000, "bearer " * 100_000, "api_key" + " " * 500_000, "a" * 1_000_000):
        redact(hostile)


def test_the_search_for_a_secret_is_linear() -> None:
    hide = Redactor(['\\\\\\\\"\\\\\\"////secret', "p/w: canary"])
    for hostile in ("\\" * 1_000_000, '\\\\"' * 200_000, "/" * 1_000_000, "p/w: " * 200_000, "&#0000" * 200_000):
        assert hide(hostile) == hide.answer(hostile) == hostile


def test_a_secret_shows_nothing() -> None:
    secret = Secret("canary-key")
    assert secret.reveal() == "canary-key"
    assert "canary" not in f"{secret} {secret!r} {[secret]} {secret!s:>9}" + "".join(map(str, dir(secret)))
    same: object = "canary-key"
    assert secret != same
    assert secret != Secret("canary-key")
    assert not hasattr(secret, "__dict__")
    for copying in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            copying(secret)


TRIGGERS = ["=", "+", "-", "@", "\t", "\r", "\n", "\0", "\uff1d", "\uff0b", "\uff0d", "\uff20"]


@pytest.mark.parametrize("before", ["", " ", "   ", "\xa0", "\u3000", '"', "'", ' " ', "\u200b", "\ufeff"])
@pytest.mark.parametrize("trigger", TRIGGERS)
def test_formulas_get_an_apostrophe(before: str, trigger: str) -> None:
    assert csv_cell(f"{before}{trigger}1") == f"'{before}{trigger}1".replace("\0", "")


@pytest.mark.parametrize("text", ["", "a=1", "1-2", "été", " x", '"quoted"', "[1]", "(a)", "日本", "a\nb", "#", "…"])
def test_other_cells_stay(text: str) -> None:
    assert csv_cell(text) == text


@given(ANY_TEXT)
def test_a_cell_never_begins_a_formula(text: str) -> None:
    cell = csv_cell(text)
    assert cell.lstrip(' "\xa0\u3000')[:1] not in TRIGGERS
    assert "\0" not in cell
    cell.encode()
    assert cell in (csv_text(text), "'" + csv_text(text))


def test_surrogates_are_replaced_wherever_they_are() -> None:
    assert encodable("a\udfffé") == "a\ufffdé"
    tree = {"k\ud800": ["\udc00", 1, None, {"x": "é"}]}
    assert encodable_tree(tree) == {"k\ufffd": ["\ufffd", 1, None, {"x": "é"}]}


def test_nearest_guesses_the_name_meant() -> None:
    names = ["max_tokens", "temperature", "top_p"]
    assert nearest("max_token", names) == "max_tokens"
    assert nearest("TEMPRATURE", names) == "temperature"
    assert nearest("colour", names) is None
    assert nearest("x" * 1_000_000, names) is None
