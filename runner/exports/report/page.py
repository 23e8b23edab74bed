"""A report -> one HTML page, which loads nothing and holds all that it needs: styles, script, figures.

Foreign text is escaped by the template, as text of elements; the script sets none but through ``textContent``. A policy in the
page allows its own two scripts and its own styles by their hashes, and nothing else.
"""

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup

from runner.exports.report.blocks import Block, Chart, Code, Fold, Instant, Prose, Report, Share, Table, Whole, Words
from runner.text import clean, encodable, encodable_tree, json_text

_HERE = files("runner.exports.report")
_CHARTS = ("vendored", "uPlot.iife.min.js")
_KINDS: dict[type, str] = {Chart: "chart", Table: "table", Whole: "whole", Words: "words", Fold: "fold"}
_OPTION = re.compile(r"(?<!\S)(--[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)")
_CELLS: dict[type, str] = {Instant: "instant", Prose: "prose", Share: "share", Code: "code"}


def render(report: Report, axes: Sequence[Any]) -> str:
    """Return the page. axes: of each run what the script needs to know of its time, ``over_time.axis``."""
    styles = [_read("vendored", "uPlot.min.css"), _read("style.css")]
    scripts = [_read(*_CHARTS), _read("script.js")]
    environment = jinja2.Environment(
        autoescape=True, finalize=_harmless, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(kind=lambda block: _KINDS[type(block)], cell=lambda cell: _CELLS.get(type(cell), "text"))
    environment.filters.update(iso=_iso, utc=_utc, points=lambda share: f"{100 * share:.3f}", narrow=_narrow, pieces=_pieces)
    return environment.from_string(_read("page.html")).render(
        report=report,
        policy=_policy(styles, scripts),
        styles=[Markup(style) for style in styles],  # noqa: S704 - our own
        scripts=[Markup(script) for script in scripts],  # noqa: S704 - as above
        data=Markup(_data(report, axes)),  # noqa: S704 - escaped
        several=len(report.heads) > 1,
    )


def _read(*names: str) -> str:
    return _HERE.joinpath(*names).read_text(encoding="utf-8")


def _policy(styles: Sequence[str], scripts: Sequence[str]) -> str:
    allowed = {"style-src": styles, "script-src": scripts}
    parts = [f"{name} {' '.join(map(_hash, texts))}" for name, texts in allowed.items()]
    return "; ".join(["default-src 'none'", *parts, "img-src data:", "base-uri 'none'", "form-action 'none'"])


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data(report: Report, axes: Sequence[Any]) -> str:
    """Return what the script draws, as JSON in which no character can end its element."""
    charts = {
        block.name: {**block.data, "series": [list(one) for one in block.series]}
        for section in report.sections
        for blocks in section.blocks
        for block in blocks
        if isinstance(block, Chart)
    }
    text = json_text(msgspec.json.encode(encodable_tree({"axes": list(axes), "charts": charts})))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _harmless(value: object) -> object:
    """Return what the template writes: texts without characters that hide or reverse others. Line ends stay."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "\n".join(clean(encodable(line)) for line in value.split("\n"))
    return value


def _narrow(blocks: Sequence[Block]) -> int:
    """Return how many blocks do not take the whole width of the page."""
    return sum(isinstance(block, Chart) or (isinstance(block, Table) and not block.wide) for block in blocks)


def _pieces(sentence: str) -> Iterator[tuple[bool, str]]:
    """Yield the parts of a sentence of our own: whether each is a command or an option, and its text."""
    for place, part in enumerate(sentence.split("`")):
        if place % 2:
            yield True, part
        else:
            yield from ((number % 2 == 1, text) for number, text in enumerate(_OPTION.split(part)) if text)


def _iso(instant: Instant) -> str:
    return _moment(instant).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _utc(instant: Instant) -> str:
    """Return an instant as precisely as is told of it. The script of the page writes it in the same way."""
    at, places = _moment(instant), 2 if instant.step_s < 0.1 else 1 if instant.step_s < 1 else 0
    part = f".{at.microsecond // 10 ** (6 - places):0{places}}" if places else ""
    return f"{at:%Y-%m-%d %H:%M}{'' if instant.step_s >= 60 else f'{at::%S}{part}'} UTC"


def _moment(instant: Instant) -> datetime:
    # a clock that was set wrongly may be far outside of what a calendar has
    return datetime.fromtimestamp(min(max(instant.at, 0.0), 253402300799.0), UTC)
