"""How far the answers of two runs are the same."""

from collections.abc import Mapping
from typing import NamedTuple

from runner.exports.report import words
from runner.exports.report.blocks import Block, Cell, Code, Share, Table, Words
from runner.text import plural


class Agreed(NamedTuple):
    """Answers that are the same in both runs, and such that are not. kappa: Cohen's; None: it cannot be told."""

    same: int
    changed: int
    kappa: float | None


def agreement(number: int, whole: Agreed, fields: Mapping[str, Agreed], counted: str) -> list[Block]:
    """Return how far two runs agree.

    number: of outcomes that both have. counted: what they are of, ``row`` or ``answer``. whole: the answers. fields: of
    their schemas.
    """
    if not number:
        return [Words("The runs have no row in common.")]
    both = whole.same + whole.changed
    told = f"{plural(number, counted)} in common, {both:,} answered by both; {whole.same:,} of these answers are the same."
    found = {"the whole answer": whole, **fields}
    lines: list[list[Cell]] = [
        [
            Code(name),
            words.count(one.same),
            words.count(one.changed),
            Share(one.same / max(1, one.same + one.changed), words.percent(one.same, one.same + one.changed), "done"),
            "" if one.kappa is None else f"{one.kappa:.2f}",
        ]
        for name, one in found.items()
    ]
    head = ["what", "same", "changed", "agreement", "Cohen's kappa"]
    return [Words(told), Table(caption="How far the answers agree", head=head, rows=lines, numeric=(1, 2, 4))]
