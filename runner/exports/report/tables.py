"""The tables of a report: requests and money by cause, failures, single rows, answers, settings."""

import json
from collections.abc import Callable, Sequence

import msgspec

from runner.exports.report import words
from runner.exports.report.blocks import Block, Cell, Code, Facts, Fold, Opened, Prose, Share, Table, Tone, Words
from runner.exports.report.spreads import CHARACTERS, Measure, bars
from runner.figures import Cause, Extreme, FieldFigures, Figures
from runner.several import spoken
from runner.text import encodable_tree, plural

Place = Callable[[int], str]
"""Returns where a row stands in its file, by ``items.position``."""
_MESSAGES = 5
"""Kinds of messages of one error code that are shown."""
_REFUSED = ("rate_limited", "overloaded", "no_capacity")
_QUOTE = '"'
_LONGEST = 300
"""Characters of a message or a value that are shown."""
_LONGEST_SETTING = 4000


def by_cause(facts: Facts, figures: Figures) -> list[Block]:
    """Return what was spent, by how requests ended."""
    every = sum(cause.attempts for cause in figures.causes)
    if not every and facts.opened is None:
        return [Words(words.none_ended(facts))]
    priced = facts.cost is not None
    head = [
        "how requests ended",
        "requests",
        "share",
        "input tokens",
        "output tokens",
        *(["cost", "perhaps more"] if priced else []),
        "time in all",
    ]
    rows: list[list[Cell]] = [
        [
            cause.code or "answered",
            words.count(cause.attempts),
            Share(cause.attempts / every, words.percent(cause.attempts, every), _tone(cause)),
            _known(cause.input_tokens),
            _known(cause.output_tokens),
            *([_spent(cause), _perhaps(cause)] if priced else []),
            words.seconds(cause.seconds),
        ]
        for cause in figures.causes
    ]
    if facts.opened is not None:
        rows.append(_of_opened(facts.opened, priced=priced))
    numeric = [place for place in range(1, len(head)) if place != 2]
    table = Table(caption="Requests, tokens and money by how requests ended", head=head, rows=rows, numeric=numeric)
    return [table, *_about_money(facts)]


def by_endpoint(facts: Facts, figures: Figures) -> list[Block]:
    """Return what each of several endpoints has done; nothing where there is one."""
    if not figures.endpoints:
        return []
    priced = facts.cost is not None
    head = [
        "endpoint",
        "answers",
        "failed requests",
        "input tokens",
        "output tokens",
        *(["cost"] if priced else []),
        "median time",
    ]
    rows: list[list[Cell]] = [
        [
            one.endpoint,
            words.count(one.answers),
            words.count(one.failed_attempts),
            _known(one.input_tokens),
            _known(one.output_tokens),
            *([words.money(one.cost)] if priced else []),
            words.seconds(one.p50_s) if one.p50_s is not None else "",
        ]
        for one in figures.endpoints
    ]
    return [Table(caption="Requests, tokens and money by endpoint", head=head, rows=rows, numeric=range(1, len(head)))]


def _of_opened(opened: Opened, *, priced: bool) -> list[Cell]:
    beyond = "no limit known" if not opened.limited else words.money(opened.perhaps) if opened.perhaps else ""
    return [opened.kind, words.count(opened.requests), "", "", "", *(["", beyond] if priced else []), ""]


def _about_money(facts: Facts) -> list[Block]:
    told = []
    if facts.cost is not None:
        told.append(f"In all {words.money(facts.cost)}, {words.money(facts.cost_failed)} of it on failed requests.")
    if facts.more is not None:
        told.append(words.sentence(facts.more))
    if facts.saved_by_cache:
        saved = facts.saved_by_cache
        told.append(f"Caches {'saved' if saved > 0 else 'cost'} {words.money(abs(saved))}.")
    if facts.unpriced:
        told.append(f"{plural(facts.unpriced, 'request')} with no known price: in no sum.")
    if facts.cached_tokens:
        told.append(f"Input tokens from a cache: {facts.cached_tokens:,}.")
    if facts.reasoning_tokens:
        told.append(f"Output tokens of reasoning: {facts.reasoning_tokens:,}.")
    return [Words(" ".join(told))] if told else []


def _tone(cause: Cause) -> Tone:
    return "done" if cause.code is None else "refused" if cause.code in _REFUSED else "failed"


def _known(number: int | None) -> str:
    return "not reported" if number is None else words.count(number)


def _spent(cause: Cause) -> str:
    if cause.cost is None:
        return "unknown" if cause.unpriced else words.money(0)
    return words.money(cause.cost)


def _perhaps(cause: Cause) -> str:
    if cause.unlimited:
        return "no limit known"
    return words.money(cause.perhaps) if cause.perhaps else ""


def failures(facts: Facts, figures: Figures, place: Place) -> list[Block]:
    """Return the failed rows by cause, with examples, and what to do."""
    if not facts.failures:
        return [Words("No row has failed.")]
    rows: list[list[Cell]] = [
        [
            Code(one.code),
            words.count(one.count),
            Share(one.count / facts.failed, words.percent(one.count, facts.failed), "failed"),
            ", ".join(_row(example.key, place(example.line)) for example in figures.examples.get(one.code, ())),
            Prose(one.advice),
        ]
        for one in facts.failures
    ]
    causes = Table(
        caption="Failed rows by cause",
        head=["cause", "rows", "share", "first rows", "what to do"],
        rows=rows,
        numeric=(1,),
        texts=(3, 4),
    )
    said: list[list[Cell]] = [
        [Code(one.code), words.count(number), Code(_cut(message, _LONGEST)), Code(_cut(row, 60))]
        for one in facts.failures
        for message, number, row in one.messages[:_MESSAGES]
    ]
    messages = Table(
        caption="What was said",
        head=["cause", "rows", "message of one of them", "row"],
        rows=said,
        numeric=(1,),
        texts=(2, 3),
    )
    return [causes, messages, *_retried(facts)]


def _retried(facts: Facts) -> list[Block]:
    if not facts.retries:
        return []
    causes = ", ".join(f"{code} {count:,}" for code, count in facts.retries.items())
    return [Words(f"Failed requests that were followed by another one: {sum(facts.retries.values()):,} ({causes}).")]


def extremes(figures: Figures, place: Place) -> list[Block]:
    """Return the slowest and the dearest rows."""
    found = (("The slowest answers", figures.slowest), ("The dearest rows, with all their requests", figures.dearest))
    return [_extremes(caption, rows, place) for caption, rows in found if rows] or [Words("No answer has come.")]


def _extremes(caption: str, found: Sequence[Extreme], place: Place) -> Table:
    priced = any(row.cost is not None for row in found)
    head = ["row", "where", "ended", "requests", "time", "first token", "output tokens", *(["cost"] if priced else [])]
    rows: list[list[Cell]] = [
        [
            Code(_cut(spoken(row.key), 60)),
            place(row.line),
            row.code or "answered",
            words.count(row.attempts),
            words.seconds(row.duration_s),
            words.seconds(row.time_to_first_token_s) if row.time_to_first_token_s is not None else "",
            words.count(row.output_tokens) if row.output_tokens is not None else "",
            *([words.money(row.cost)] if priced else []),
        ]
        for row in found
    ]
    return Table(caption=caption, head=head, rows=rows, numeric=range(3, len(head)))


def answers(facts: Facts, figures: Figures, place: int) -> list[Block]:
    """Return what the answers are like: how they ended, their lengths, and what the fields of a schema hold."""
    if not facts.done:
        return [Words("No answer has come.")]
    found: list[Block] = []
    if figures.answers.characters is not None:
        found.append(bars(CHARACTERS, figures.answers.characters, f"-{place}"))
    found += [_field(field, f"{number}-{place}") for number, field in enumerate(figures.answers.fields)]
    # charts are of one height, so that they stand beside each other
    found.sort(key=lambda block: isinstance(block, Table))
    ended = [(reason or "not told", count) for reason, count in facts.finish_reasons.items()]
    found.append(_counted("How answers ended", "finish reason", ended, facts.done))
    if figures.answers.notes:
        found.append(_counted("What is unusual about answers", "note", list(figures.answers.notes.items()), facts.done))
    return found


def _counted(caption: str, name: str, found: Sequence[tuple[str, int]], every: int) -> Table:
    rows: list[list[Cell]] = [
        [Code(_cut(value, 80)), words.count(number), Share(number / max(every, 1), words.percent(number, every))]
        for value, number in found
    ]
    return Table(caption=caption, head=[name, "answers", "share"], rows=rows, numeric=(1,), wide=False)


def _field(field: FieldFigures, name: str) -> Block:
    """Return what a field holds: its values where there are few, else how numbers or lengths are spread."""
    what = f"Field {_cut(field.name, 60)}"
    if field.spread is not None:
        title, unit = (f"{what}, length", "characters") if field.is_length else (what, "value")
        missing = f" Answers without such a value: {field.missing:,}." if field.missing else ""
        sentence = f"{'Characters of the text.' if field.is_length else 'Its values.'}{missing}"
        return bars(
            Measure(f"field-{name}", title, sentence, "three", unit, words.figure, field.is_length or field.kind == "int"),
            field.spread,
        )
    every = sum(number for _, number in field.values) + field.others + field.missing
    # a text stands without the quotation marks of JSON where all values are texts
    found = [
        (json.loads(value) if value.startswith(_QUOTE) and field.kind == "text" else value, number)
        for value, number in field.values
    ]
    found += [("(other values)", field.others)] if field.others else []
    found += [("(none)", field.missing)] if field.missing else []
    return _counted(what, "value", found, every)


def settings(facts: Facts) -> list[Block]:
    """Return settings and versions, folded up."""
    rows: list[list[Cell]] = [
        [Code(name), Code(_setting(value))] for name, value in facts.settings.items() if value not in (None, "", [], {})
    ]
    table = Table(caption=f"Settings of run {facts.number}; keys are stored nowhere", head=["setting", "value"], rows=rows)
    versions = Table(
        caption="Versions that made this report",
        head=["package", "version"],
        rows=[[name, found] for name, found in facts.versions],
    )
    return [Fold(title=plural(len(rows), "setting"), table=table), Fold(title="Versions", table=versions)]


def _setting(value: object) -> str:
    text = value if isinstance(value, str) else msgspec.json.format(msgspec.json.encode(encodable_tree(value)), indent=2).decode()
    return _cut(text, _LONGEST_SETTING)


def _row(key: str, where: str) -> str:
    return f"{_cut(spoken(key), 40)} ({where})" if where else _cut(spoken(key), 40)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"
