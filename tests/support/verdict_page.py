"""Generates the table of refusals in ``docs/reference/errors.md`` from the code."""

from pathlib import Path

from pages import Part

from runner.engine.judge import Judge
from runner.errors import ProviderError
from runner.providers.classify import MONEY_CODES, MONEY_WORDS, RATE_WORDS
from runner.providers.rules import RULES, Rule, Statuses

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"
BEGIN, END = "<!-- made by tests/support/verdict_page.py -->\n", "<!-- end -->\n"
HEAD = (
    "| status | names | the message says | code | before the first answer | after it | attempt |\n|---|---|---|---|---|---|---|\n"
)
IN_STREAM = "in a stream"


def table() -> str:
    """Return the table, a row for each rule in the order of the code."""
    return HEAD + "".join(f"| {' | '.join(cells(rule))} |\n" for rule in RULES) + "\n" + names()


def names() -> str:
    """Return the names about money, which are data of their own."""
    money, words, rates = (", ".join(f"`{name}`" for name in sorted(known)) for known in (MONEY_CODES, MONEY_WORDS, RATE_WORDS))
    return f"Names about money: {money}. Below 500 also names with one of the words {words}, without one of {rates}.\n"


def cells(rule: Rule) -> tuple[str, ...]:
    """Return the cells of a rule's row."""
    named = [f"`{name}`" for name in rule.names] + (["names about money (below)"] if rule.money else [])
    return (
        statuses(rule.statuses) + (f", not {statuses(rule.but)}" if rule.but else ""),
        ", ".join(named),
        ", ".join(f'"{words}"' for words in rule.says),
        f"`{rule.code}`",
        effect(rule, answered=False),
        effect(rule, answered=True),
        ("no" if rule.throttled else "yes") if "tried again" in effect(rule, answered=True) else "",
    )


def statuses(known: Statuses) -> str:
    """Return statuses in words."""
    if not known:
        return "any"
    words = (
        IN_STREAM if part is None else str(part) if isinstance(part, int) else f"{part.start}-{part.stop - 1}" for part in known
    )
    return ", ".join(words)


def effect(rule: Rule, *, answered: bool) -> str:
    """Return what the judge makes of the rule: asked with an error of its code and first status."""
    first = rule.statuses[0] if rule.statuses else 400
    status = first.start if isinstance(first, range) else first
    error = ProviderError("", code=rule.code, verdict=rule.verdict, status=status, throttled=rule.throttled)
    judge = Judge()
    if answered:
        judge.success("m")
    verdict = judge.verdict(error, "m", 0.0)
    if verdict == "fail" and judge.doubts(error):
        return "held"
    if rule.code == "auth" and verdict == "retry":
        return "tried again; the third in a row stops"
    return {"stop": "stops", "fail": "fails", "retry": "tried again"}[verdict]


PART = Part(PAGE, BEGIN, END, table)
"""The table in its page."""
