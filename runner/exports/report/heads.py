"""The top of a report: each run in a sentence, the figures that stand out, and several runs side by side."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from runner.exports.report import words
from runner.exports.report.blocks import Cell, Code, Facts, Head, Instant, Part, Table, Tile, Whole
from runner.exports.report.over_time import worked_s
from runner.figures import Figures, Spread
from runner.model import Json
from runner.text import as_text, plural

_TOLD, _SHORT, _LONG = 2, 60, 160
"""Settings that differ which are told at the top, and characters of their values there and in a table."""

_SAID = ("model", "base_url", "provider", "prices")
"""Settings that the line below the title tells, or that follow from it."""
_WITHOUT_NONE = ("left", "perhaps more")
"""Figures that are left out where no run has any."""


def heads(told: Sequence[tuple[Facts, Figures]], differing: Mapping[str, Sequence[Json]]) -> list[Head]:
    """Return what is said of each run at the top. differing: as for ``comparison``."""
    others = {name: _values(differing[name], _SHORT) for name in [one for one in differing if one not in _SAID][:_TOLD]}
    differs = [[(name, values[place]) for name, values in others.items()] for place in range(len(told))]
    known = Counter((facts.name, facts.model) for facts, _ in told)
    return [
        _head(facts, figures, of, alone=known[facts.name, facts.model] == 1)
        for (facts, figures), of in zip(told, differs, strict=True)
    ]


def called(facts: Facts) -> str:
    """Return the number of a run, and its name if it has one."""
    return f"{facts.number}, {facts.name}" if facts.name else str(facts.number)


def _values(values: Sequence[Json], most: int) -> list[str]:
    """Return the values of a setting in one line each: the part in which they differ, where that is not at their beginning."""
    texts = ["not set" if value is None else " ".join(as_text(value).split()) for value in values]
    known = [text for text, value in zip(texts, values, strict=True) if value is not None]
    alike = next((at for at, each in enumerate(zip(*known, strict=False)) if len(set(each)) > 1), min(map(len, known)))
    begin = max(0, alike - most // 3) if alike > most // 2 else 0
    return [_cut(text, begin, most) for text in texts]


def _cut(text: str, begin: int, most: int) -> str:
    dots = "\N{HORIZONTAL ELLIPSIS}"
    if len(text) <= most:
        return text
    shown = text[begin : begin + most]
    return f"{dots if begin else ''}{shown}{dots if begin + most < len(text) else ''}"


def _head(facts: Facts, figures: Figures, differs: Sequence[tuple[str, str]], *, alone: bool) -> Head:
    """alone: no other run has its name and its model."""
    told = "" if alone else "".join(f", {name} {value}" for name, value in differs[:1])
    return Head(
        title=facts.input,
        number=facts.number,
        name=facts.name,
        tags=facts.tags,
        label=f"Run {called(facts)}: {facts.model}{told}",
        differs=differs,
        model=facts.model,
        where=facts.where,
        state=facts.state,
        begun=Instant(facts.begun),
        sentence=_sentence(facts, figures),
        stopped=facts.stopped,
        tiles=_tiles(facts, figures),
        whole=outcomes(facts),
    )


def outcomes(facts: Facts) -> Whole:
    """Return one bar of done, failed and left."""
    every = facts.done + facts.failed + facts.left
    kinds = (("done", facts.done, "done"), ("failed", facts.failed, "failed"), ("left", facts.left, "left"))
    parts = [
        Part(name, f"{words.count(number)} ({words.percent(number, every)})", number / every, tone)  # type: ignore[arg-type]
        for name, number, tone in kinds
        if number
    ]
    told = ", ".join(f"{number:,} {name}" for name, number, _ in kinds)
    return Whole(words=f"{plural(every, 'row' if facts.answers == 1 else 'answer')}: {told}", parts=parts)


def _sentence(facts: Facts, figures: Figures) -> str:
    unit, worked = "row" if facts.answers == 1 else "answer", worked_s(figures.course)
    every = facts.done + facts.failed + facts.left
    told = f"{facts.done:,} of {plural(every, unit)} done"
    told += f", {facts.failed:,} failed" if facts.failed else ""
    told += f", {facts.left:,} left" if facts.left else ""
    told += f", with {plural(facts.attempts, 'request')} in {words.seconds(worked)}" if facts.attempts else ""
    told += f", for {words.money(facts.cost)}{_perhaps(facts)}" if facts.cost is not None else ""
    return f"{told}. {words.sentence(facts.opened.sentence)}" if facts.opened is not None else f"{told}."


def _perhaps(facts: Facts) -> str:
    """Return what a run may have cost beyond what is known, behind its cost; nothing where all is known."""
    if facts.cost_perhaps is None:
        return ", perhaps more without a limit"
    return f", perhaps up to {words.money(facts.cost_perhaps)} more" if facts.cost_perhaps else ""


def _tiles(facts: Facts, figures: Figures) -> list[Tile]:
    worked, every = worked_s(figures.course), facts.done + facts.failed + facts.left
    tiles = [Tile("done", words.count(facts.done), words.percent(facts.done, every), "done")]
    tiles += [
        Tile("failed", words.count(facts.failed), words.percent(facts.failed, every), "failed" if facts.failed else "plain")
    ]
    tiles += [Tile("left", words.count(facts.left), words.percent(facts.left, every), "left")] if facts.left else []
    if worked:
        answers = sum(cause.attempts for cause in figures.causes if cause.code is None)
        tiles += [Tile("time", words.seconds(worked), f"{words.rate(answers / worked)}")]
    if facts.cost is not None:
        each = f"{words.money(facts.cost / facts.done)} each" if facts.done else ""
        tiles += [Tile("cost", words.money(facts.cost), _perhaps(facts).removeprefix(", ") or each)]
    if facts.output_tokens is not None:
        tiles += [Tile("output tokens", _short(facts.output_tokens), f"{_short(facts.input_tokens or 0)} input tokens")]
    if figures.first_token is not None:
        tiles += [_middle("first token", figures.first_token)]
    if figures.whole_answer is not None:
        tiles += [_middle("whole answer", figures.whole_answer)]
    return tiles


def _middle(name: str, spread: Spread) -> Tile:
    return Tile(name, words.seconds(spread.quantiles[50]), f"p50; p95 {words.seconds(spread.quantiles[95])}")


def _short(number: int) -> str:
    for size, unit in ((10**9, " G"), (10**6, " M"), (10**4, " k")):
        if number >= size:
            return f"{number / (10**3 if unit == ' k' else size):.3g}{unit}"
    return f"{number:,}"


def comparison(told: Sequence[tuple[Facts, Figures]], differing: Mapping[str, Sequence[Json]]) -> Table | None:
    """Return the figures of several runs side by side; None for one run.

    differing: settings with their values in each run, where these are not the same.
    """
    if len(told) == 1:
        return None
    lines: list[tuple[str, Callable[[Facts, Figures], str]]] = [
        ("model", lambda facts, _: facts.model),
        ("done", lambda facts, _: _of_all(facts.done, facts)),
        ("failed", lambda facts, _: _of_all(facts.failed, facts)),
        ("left", lambda facts, _: words.count(facts.left)),
        ("requests", lambda facts, _: words.count(facts.attempts)),
        ("requests that were retries", lambda facts, _: words.count(sum(facts.retries.values()))),
        ("time", lambda _, figures: words.seconds(worked_s(figures.course))),
        ("answers", lambda _, figures: _rate(figures)),
        ("first token, p50", lambda _, figures: _quantile(figures.first_token, 50)),
        ("first token, p95", lambda _, figures: _quantile(figures.first_token, 95)),
        ("whole answer, p50", lambda _, figures: _quantile(figures.whole_answer, 50)),
        ("whole answer, p95", lambda _, figures: _quantile(figures.whole_answer, 95)),
        ("input tokens", lambda facts, _: words.count(facts.input_tokens)),
        ("output tokens", lambda facts, _: words.count(facts.output_tokens)),
        ("cost", lambda facts, _: words.money(facts.cost)),
        ("perhaps more", lambda facts, _: _beyond(facts)),
        ("cost of a row that is done", lambda facts, _: _each(facts)),
        ("cost of failed requests", lambda facts, _: words.money(facts.cost_failed)),
    ]
    rows: list[list[Cell]] = [[name, *(write(facts, figures) for facts, figures in told)] for name, write in lines]
    rows = [row for row in rows if row[0] not in _WITHOUT_NONE or any(value not in ("0", "") for value in row[1:])]
    rows[1:1] = [[Code(name), *map(Code, _values(values, _LONG))] for name, values in differing.items() if name != "model"]
    return Table(
        caption="The runs side by side, with the settings that differ",
        head=["", *(f"run {called(facts)}" for facts, _ in told)],
        rows=rows,
        numeric=range(1, len(told) + 1),
    )


def _of_all(number: int, facts: Facts) -> str:
    return f"{number:,} ({words.percent(number, facts.done + facts.failed + facts.left)})"


def _rate(figures: Figures) -> str:
    worked, answers = worked_s(figures.course), sum(cause.attempts for cause in figures.causes if cause.code is None)
    return words.rate(answers / worked) if worked else "none"


def _quantile(spread: Spread | None, share: int) -> str:
    return words.seconds(spread.quantiles[share]) if spread is not None else "none"


def _beyond(facts: Facts) -> str:
    if facts.cost is None:
        return ""
    return "no limit known" if facts.cost_perhaps is None else words.money(facts.cost_perhaps) if facts.cost_perhaps else ""


def _each(facts: Facts) -> str:
    return words.money(facts.cost / facts.done) if facts.cost is not None and facts.done else "unknown"
