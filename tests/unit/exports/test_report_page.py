"""What a report's page is made of: the library as it was released, numbers as a person reads them, texts that stay texts."""

import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from counted import Counted
from msgspec import structs
from reported import HOSTILE

import runner
from runner.exports.report import page, words
from runner.exports.report.blocks import (
    Chart,
    Code,
    Head,
    Instant,
    Part,
    Prose,
    Report,
    Section,
    Share,
    Table,
    Tile,
    Whole,
    Words,
)
from runner.exports.report.ledgers import ledger
from runner.exports.report.noted import Flight, Noted, flight_over
from runner.exports.report.over_time import charts, worked_s
from runner.figures import Course, Period, Slice
from runner.time_ledger import NAMES, Moment, ledger_of

DOCS = Path(__file__).parents[3] / "docs"
VENDORED = Path(runner.__file__).parent / "exports" / "report" / "vendored"


def test_the_library_of_the_charts_is_the_one_that_was_released() -> None:
    listed = dict(re.findall(r"\| `([^`]+)` \| `([0-9a-f]{64})` \|", (VENDORED / "README.md").read_text()))
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDORED.glob("uPlot*")}
    assert files == listed
    version = re.search(r"\*\*uPlot ([\d.]+)\*\*", (VENDORED / "README.md").read_text())
    assert version is not None
    assert f"uPlot (v{version[1]})" in (VENDORED / "uPlot.iife.min.js").read_text()[:100]
    assert tuple(map(int, version[1].split("."))) >= (1, 6, 32)
    assert "The MIT License" in (VENDORED / "LICENSE-uPlot.txt").read_text()


@pytest.mark.parametrize(
    ("write", "value", "shown"),
    [
        (words.seconds, None, "unknown"),
        (words.seconds, 0, "0 ms"),
        (words.seconds, 0.0123, "12.3 ms"),
        (words.seconds, 0.0999, "0.0999 s"),
        (words.seconds, 1.234, "1.23 s"),
        (words.seconds, 119.6, "2 min"),
        (words.seconds, 192, "3 min 12 s"),
        (words.seconds, 7500, "2 h 5 min"),
        (words.seconds, 90061 * 3, "3 d 3 h"),
        (words.money, None, "unknown"),
        (words.money, 0.0042, "$0.0042"),
        (words.count, None, "unknown"),
        (words.count, 1234567, "1,234,567"),
        (words.figure, 0.12345, "0.123"),
        (words.figure, 12345.6, "12,346"),
        (words.rate, 12.34, "12.3 per second"),
        (words.rate, 0.1, "6 per minute"),
        (words.rate, 0.001, "3.6 per hour"),
    ],
)
def test_numbers_are_written_for_people(write: object, value: float | None, shown: str) -> None:
    assert write(value) == shown  # type: ignore[operator]


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (0, 0, "0 %"),
        (0, 5, "0 %"),
        (1, 100_000, "< 0.1 %"),
        (99_999, 100_000, "> 99.9 %"),
        (5, 5, "100 %"),
        (1, 3, "33.3 %"),
        (1, 80, "1.25 %"),
    ],
)
def test_a_share_is_never_rounded_to_all_or_nothing(part: float, whole: float, shown: str) -> None:
    assert words.percent(part, whole) == shown


class _Texts(HTMLParser):
    """The elements of a page, and its texts."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: set[str] = set()
        self.text = ""
        self._hidden = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self._hidden = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._hidden else data


def report(texts: tuple[str, ...]) -> Report:
    """A report that has each of these texts in each place where a text may stand."""
    blocks: list[object] = []
    for number, text in enumerate(texts):
        cells = [text, Code(text), Prose(text), Share(0.5, text), Instant(0.0)]
        table = Table(caption=text, head=[text] * 5, rows=[cells])
        chart = Chart(
            name=f"c{number}", title=text, words=text, series=[(text, "one"), (text, "two")], data={"kind": text}, table=table
        )
        blocks += [table, chart, Words(text), Whole(words=text, parts=[Part(text, text, 1.0, "done")])]
    head = Head(
        title=texts[0],
        number=1,
        name=texts[0],
        tags=texts[:2],
        label=texts[0],
        differs=[(texts[0], texts[0])],
        model=texts[0],
        where=texts[0],
        state=(texts[0], "done"),
        begun=Instant(1e18),
        sentence=texts[0],
        stopped=texts[0],
        tiles=[Tile(texts[0], texts[0], texts[0])],
        whole=Whole(words=texts[0], parts=[]),
    )
    sections = [Section(name="a", title=texts[0], words=texts[0], blocks=[blocks])]  # type: ignore[list-item]
    return Report(title=texts[0], made=Instant(-5.0), by="1", heads=[head], comparison=None, agreement=[], sections=sections)


def test_no_text_becomes_an_element_or_an_attribute() -> None:
    plain, hostile = _Texts(), _Texts()
    plain.feed(page.render(report(("a",) * len(HOSTILE)), [None]))
    text = page.render(report(HOSTILE), [None])
    hostile.feed(text)
    assert hostile.elements == plain.elements
    assert hostile.attributes == plain.attributes
    assert not {name for name in hostile.attributes if name.startswith("on") or name == "style"}
    assert HOSTILE[0] in hostile.text
    assert "\u202e" not in text
    assert "\x1b" not in text
    assert "\x00" not in text


def test_figures_cannot_end_their_element() -> None:
    # an end tag may have a space in the place of its end
    texts = (*HOSTILE, "</script ", "<!--<script ")
    found = re.search(r'id="figures">(.*?)</script', page.render(report(texts), [None]), re.DOTALL)
    assert found is not None
    assert not set("<>&") & set(found[1])
    charts = json.loads(found[1])["charts"]
    assert [charts[f"c{number}"]["kind"] for number in range(len(texts))] == [*texts]


@pytest.mark.parametrize(
    ("sentence", "codes"),
    [
        ("set --rpm, --tpm or --concurrency.", ["--rpm", "--tpm", "--concurrency"]),
        ("then run `runner retry 1 --db a.db`, or (--repairs)", ["runner retry 1 --db a.db"]),
        ("a dash -- and a--b are words", []),
        ("", []),
    ],
)
def test_commands_and_options_of_a_sentence_are_code_without_what_follows_them(sentence: str, codes: list[str]) -> None:
    text = re.sub("</?span[^>]*>", "", page.render(report((sentence,)), [None]))
    assert re.findall("<code>([^<]*)</code>", text)[: len(codes)] == codes
    assert ("<code>" in text) == bool(codes)


@pytest.mark.parametrize("width", [0.05, 0.1, 0.2, 0.5, 1.0, 15.0, 60.0, 3600.0])
def test_slices_of_a_table_are_told_apart(width: float) -> None:
    begin = 1_796_000_019.4 // width * width
    slices = course((begin, begin + 9 * width), width=width)
    shown, *_ = charts(slices, 0, Flight([0.0] * len(slices.slices)), priced=False)
    assert isinstance(shown, Chart)
    section = Section(name="a", title="a", words="", blocks=[[shown]])
    text = page.render(structs.replace(report(("a",)), sections=[section]), [None])
    times = re.findall(r'<th scope="row"><time [^>]+>([^<]+) UTC</time>', text)
    assert len(times) == len(set(times)) >= 9
    # one format
    assert len({re.sub(r"\d", "0", one) for one in times}) == 1


def test_one_and_several_are_told_apart() -> None:
    one, several = course((0.0, 10.0), (100.0, 110.0)), course((0.0, 10.0), (100.0, 110.0), (200.0, 210.0))
    told = [charts(each, 0, Flight([0.0] * 9), priced=False)[-1] for each in (one, several)]
    assert told == [
        Words("A pause of 90 s, with nothing under way, is left out; a dashed line shows where."),
        Words("2 pauses of 3 min in all, with nothing under way, are left out; dashed lines show where."),
    ]


def test_half_of_a_surrogate_pair_is_written_as_a_replacement() -> None:
    assert "\N{REPLACEMENT CHARACTER}" in page.render(report(("\ud800",)), [None])
    page.render(report(("\ud800",)), [None]).encode()


def course(*periods: tuple[float, float], width: float = 10.0) -> Course:
    found, slices = [], []
    for begin, end in periods:
        found.append(Period(begin, end, len(slices)))
        slices += [Slice(begin=begin + number * width) for number in range(int(-(-(end - begin) // width)))]
    return Course(width=width, periods=found, slices=slices, worked_s=sum(end - begin for begin, end in periods))


def test_the_limit_of_a_slice_is_its_mean() -> None:
    both = course((1000.0, 1030.0), (5000.0, 5020.0))
    sessions = [Noted(995.0, [Moment(10.0, 1, 8.0), Moment(20.0, 1, 4.0)]), Noted(5010.0, [Moment(15.0, 1, 2.0)])]
    assert flight_over(both, sessions).limit == [pytest.approx(6.0), pytest.approx(4.0), None, None, pytest.approx(2.0)]
    assert flight_over(None, sessions).limit == ()
    assert worked_s(both) == 50.0


def test_a_moment_of_a_session_counts_in_all_periods_that_it_overlaps() -> None:
    both = course((1000.0, 1030.0), (5000.0, 5020.0), (9000.0, 9010.0))
    assert flight_over(both, [Noted(1015.0, [Moment(4000.0, 1, 3.0)])]).limit == [None, *[pytest.approx(3.0)] * 4, None]
    beside = [Noted(2000.0, [Moment(10.0, 1, 3.0)]), Noted(9500.0, [Moment(10.0, 1, 3.0)])]
    assert flight_over(both, beside).limit == [None] * 6


def test_what_limits_take_grows_with_the_moments_and_not_with_the_periods_beside_them() -> None:
    number, moments = 50, [Moment(1.0 + at, 1, 8.0) for at in range(20)]
    both = course(*((Counted(place * 1000.0), Counted(place * 1000.0 + 20.0)) for place in range(number)))
    Counted.subtracted = 0
    found = flight_over(both, (Noted(place * 1000.0, moments) for place in range(number)))
    assert found.limit == [8.0] * 2 * number
    assert 0 < Counted.subtracted <= 2 * number * len(moments)


def test_requests_that_have_not_ended_are_in_flight_as_the_session_noted_them() -> None:
    told = course((1000.0, 1060.0), (5000.0, 5020.0))
    for one, exact in zip(told.slices, (4.9, 4.95, 3.0, 0.5, 0.0, 0.0, 2.0, 1.0), strict=True):
        one.in_flight = exact
    moments = [Moment(10.0 * (1 + at), 5.0, 5.0) for at in range(5)]
    resumed = Noted(5000.0, [Moment(20.0, 2.0, 5.0)])
    killed = flight_over(told, [Noted(1000.0, moments, ended=False), resumed])
    # what is known in full stays exact, and of what comes behind the last moment nothing is known
    assert killed.in_flight == [4.9, 4.95, 5.0, 5.0, 5.0, None, 2.0, 1.0]
    assert (killed.noted, killed.unknown) == (True, True)
    stopped = flight_over(told, [Noted(1000.0, moments), resumed])
    assert stopped.in_flight == [one.in_flight for one in told.slices]
    assert (stopped.noted, stopped.unknown) == (False, False)
    _, shown, *_ = charts(told, 0, killed, priced=False)
    assert isinstance(shown, Chart)
    assert [row[1] for row in shown.table.rows[3:7]] == ["5", "5", "unknown", "2"]
    assert shown.words.endswith(
        "Where some of them have not ended, it is what the session noted. Of the last moments nothing is noted."
    )


def test_a_ledger_has_the_words_of_the_terminal_and_of_the_reference() -> None:
    page_of_time, _ = (DOCS / "reference" / "time.md").read_text().split("`causes` has")
    shown = re.findall(r"^\| `(\w+_s)` \| ([^|]+) \|", page_of_time, re.MULTILINE)
    assert dict(shown) == NAMES
    _, table = ledger(ledger_of({"answering": 1.0}, 1.0, elapsed_s=1.0), None)
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == list(NAMES.values())


def test_a_ledger_is_a_bar_of_all_its_time() -> None:
    advice, bar, table = ledger(ledger_of({"answering": 60.0, "rpm": 30.0, "end": 10.0}, 100.0, elapsed_s=10.0), "more of it")
    assert isinstance(advice, Words) and advice.text == "More of it."  # noqa: PT018
    assert isinstance(bar, Whole)
    assert [(part.name, part.words) for part in bar.parts] == [
        ("answering", "60 %"),
        ("waiting for limits", "30 %"),
        ("no row left", "10 %"),
    ]
    assert sum(part.share for part in bar.parts) == pytest.approx(1.0)
    assert isinstance(table, Table)
    assert len(table.rows) == 7
    assert isinstance(ledger(None, None)[0], Words)
