"""What stands beside the charts of a report: no label is printed over another, at any width, on a screen and on paper."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from browsing import Opened, chromium
from msgspec import structs
from reported import BEGIN, PAUSE_S, entries, stored

import runner
from runner.model import Attempt, Entry, Outcome

GAPS_S = (26.0, 1000.0)
WIDTHS = (390, 1280)
_WRITTEN = """(() => {
    window.written = new Map();
    const { fillText, clearRect } = CanvasRenderingContext2D.prototype;
    Object.assign(CanvasRenderingContext2D.prototype, {
        clearRect(...at) {
            window.written.set(this.canvas, []);
            return clearRect.apply(this, at);
        },
        fillText(text, x, y, ...more) {
            const { width } = this.measureText(text);
            const { e, f } = this.getTransform();
            const left = e + x - { left: 0, start: 0, center: 0.5, right: 1, end: 1 }[this.textAlign] * width;
            const height = parseFloat(this.font.match(/([0-9.]+)px/)[1]);
            const top = f + y - { top: 0, middle: 0.5 }[this.textBaseline] * height;
            const all = window.written.get(this.canvas) || [];
            all.push({ text, left, right: left + width, top, bottom: top + height });
            window.written.set(this.canvas, all);
            return fillText.call(this, text, x, y, ...more);
        },
    });
})()"""
_FAULTS = """[...window.written].flatMap(([canvas, all]) => all.flatMap((one, at) => [
    ...(one.left < 0 || one.right > canvas.width ? [`${one.text} is cut off`] : []),
    ...all.slice(at + 1)
        .filter((two) => one.left < two.right && two.left < one.right && one.top < two.bottom && two.top < one.bottom)
        .map((two) => `${one.text} over ${two.text}`),
]))"""

_FITS = "[...document.querySelectorAll('.plot')].every((one) => one.clientWidth === one.querySelector('.uplot').clientWidth)"


def moved(entry: Entry, gap_s: float) -> Entry:
    """Return an entry of which the attempt came so long after those of the first session, if it is of the second."""
    attempt = entry if isinstance(entry, Attempt) else entry.attempt
    assert attempt is not None
    begun = attempt.started_at - (PAUSE_S - gap_s if attempt.started_at > BEGIN + PAUSE_S / 2 else 0.0)
    shifted = structs.replace(attempt, started_at=begun)
    return shifted if isinstance(entry, Attempt) else structs.replace(entry, attempt=shifted)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pages of runs that went on soon after their first session, and of one with one row."""
    folder, found = tmp_path_factory.mktemp("pages"), list[Path]()
    for gap_s in GAPS_S:
        db = stored(folder / f"{gap_s:g}.db", [moved(entry, gap_s) for entry in entries(80)])
        with closing(sqlite3.connect(db)) as connection, connection:
            names = "run_id, began_at, noted_at, ended_at, time, timeline"
            for began in (BEGIN - 0.01, BEGIN + 10.0 + gap_s - 0.01):
                connection.execute(f"INSERT INTO sessions ({names}) VALUES (1, ?, ?, ?, '{{}}', '[]')", (began,) * 3)
        found.append(db)
    one = next(entry for entry in entries(9) if isinstance(entry, Outcome) and entry.status == "done")
    found.append(stored(folder / "lone.db", [one]))
    for db in found:
        runner.report(db.with_suffix(".html"), db=db)
    return [db.with_suffix(".html") for db in found]


@pytest.fixture(scope="module")
def browser(pages: list[Path]) -> Iterator[Any]:
    with chromium() as found:
        yield found


def test_no_label_of_a_chart_is_printed_over_another(browser: Any, pages: list[Path]) -> None:
    for file in pages:
        with Opened(browser, file, before=_WRITTEN, timezone_id="UTC", bypass_csp=True) as opened:
            page = opened.page
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                page.wait_for_function(_FITS)
                assert page.evaluate("window.written.size") >= 9
                assert (file.name, width, page.evaluate(_FAULTS)) == (file.name, width, [])
            page.emulate_media(media="print")
            page.evaluate("dispatchEvent(new Event('beforeprint'))")
            assert (file.name, page.evaluate(_FAULTS)) == (file.name, [])
            # most labels of an axis are left
            times = page.locator("[data-chart=ended-0] time").all_text_contents()
            assert (file.name, len(times)) == (file.name, len(set(times)))
            assert page.evaluate("Math.min(...[...window.written.values()].map((all) => all.length))") >= 5
