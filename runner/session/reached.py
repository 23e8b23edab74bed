"""What is said when a budget is reached, and the limit with which the run finishes."""

from decimal import ROUND_CEILING, Decimal
from typing import NamedTuple

from runner.admission import Amounts
from runner.engine.limits.budget import Budget, Pot
from runner.money import PICO, dollars, exact, shown
from runner.prices.interval import Interval, rare
from runner.prices.sample import together
from runner.session.again import Raising, plain
from runner.store.reader import REACHED

_OF_RUN, _SESSION = ("max_cost", "max_tokens_total"), "max_cost_session"
"""The settings of the budget of a run, and that of each session."""


class Likely(NamedTuple):
    """What the rows that are left of a run are known to use at the end, if they are like those before: picodollars and tokens.

    sent: how often each row was sent in the mean. unknown: attempts of the run whose usage is not known, without those that were
    open when a session ended. known_tokens: what is known to be used.
    """

    cost: Interval
    tokens: Interval
    sent: float
    unknown: int
    known_tokens: int


class Progress(NamedTuple):
    """How far a run is: the picodollars that are known to be spent, by how many rows, and how many rows are left.

    unsure: picodollars for tokens that are not told apart. at_ends: what requests that were open when a session ended, by a kill
    or a stop, may have used beyond what is known. likely: what the rows that are left use; None: too few rows tell.
    """

    spent: int
    rows: int
    left: int
    unsure: int = 0
    at_ends: Amounts = Amounts()
    likely: Likely | None = None

    def known(self, pot: Pot) -> int:
        """Return what of a limit is known to be used. Of tokens, what may have been used counts too."""
        return min(self.spent, pot.used) if pot.counts == "cost" else pot.used


def reached(budget: Budget, need: Amounts, progress: Progress, raising: Raising = plain) -> str:
    """Return why a session stops whose budget is reached, and how to go on. need: what the next request may use at most.

    raising: returns the command with other limits.
    """
    short = next((pot for pot in budget.pots if not pot.fits(need)), budget.pots[0])
    known = progress.known(short)
    used = f"{amount(short, known)} {'is spent' if short.counts == 'cost' else 'are used'}"
    if short.setting == _SESSION:
        used = f"this session has spent {amount(short, short.used)}"
    elif short.used > known:
        used += f", perhaps {amount(short, short.used - known)} more"
    next_row = f"the next row may {'cost' if short.counts == 'cost' else 'use'} up to {amount(short, short.of(need))}"
    option = f"--{short.setting.replace('_', '-')}"
    sentence = f"{REACHED}{_limit(short)} ({option}) is reached: {used}, and {next_row}"
    wanted = {pot.setting: _wanted(pot, budget.largest, progress) for pot in budget.pots if pot.setting in _OF_RUN}
    raised = {pot.setting: wanted[pot.setting] for pot in budget.pots if wanted.get(pot.setting, 0) > pot.limit}
    if short.setting == _SESSION and all(pot is short or pot.fits(need) for pot in budget.pots):
        raised = {}
    # nothing would go out in any further session either
    never = (pot for pot in budget.pots if pot.setting == _SESSION and pot.of(need) > pot.limit)
    raised |= {pot.setting: _rounded(pot.of(budget.largest)) for pot in never}
    if not raised:
        return f"{sentence}. The next session may spend as much again: {raising('')}."
    to = " and ".join(f"{amount:,} tokens" if name == "max_tokens_total" else shown(amount) for name, amount in raised.items())
    words = " ".join(f"--{name.replace('_', '-')} {_typed(name, amount)}" for name, amount in raised.items())
    finishes = progress.rows and progress.left and progress.likely is not None and _SESSION not in raised
    why = "to finish" if finishes else "to go on"
    return f"{sentence}. Raise it to {to} {why}: {raising(words)}."


def _wanted(pot: Pot, largest: Amounts, progress: Progress) -> int:
    """Return the limit with which a run finishes in nearly all cases.

    It is what is used, a high bound of what the others use, and ``largest``: the most that a request has asked for, which the
    last one needs before it goes out. With the mean in place of the bound, about every other run would stop once more, a few
    rows before its end. Where too few rows tell of the others, these count as those before, and nobody promises that it suffices.
    What was open when a session ended is used, and is not expected of the others: it is no property of rows.
    """
    by_rows = max(0, pot.used - pot.of(progress.at_ends))
    others = by_rows * progress.left // progress.rows if progress.rows else 0
    if (likely := progress.likely) is not None and progress.rows:
        others = _most_likely(pot, by_rows, pot.of(largest), progress, likely)
    wanted = pot.used + others + pot.of(largest)
    return wanted if pot.counts == "tokens" else _rounded(wanted)


def _rounded(wanted: int) -> int:
    """Return picodollars that are easy to type, and not less."""
    value = dollars(wanted)
    # to the cent, and of a small amount two digits
    step = Decimal(1).scaleb(min(-2, value.adjusted() - 1))
    return int((value / step).to_integral_value(ROUND_CEILING) * step * PICO)


def _most_likely(pot: Pot, by_rows: int, largest: int, progress: Progress, likely: Likely) -> int:
    """Return what the rows that are left use of a limit at the most, with a probability of 97.5 %, if they are like those before.

    by_rows: what of the limit was used by what is expected of the others too.
    A budget counts an attempt of unknown usage at its bound, which is many answers, so these attempts are estimated apart, as a
    sum of few amounts. One more than there were is taken to be possible: that there was none does not mean that none will come.
    By that, the advice is a third too high where the budget held ten of the largest requests, and a few percent where it held
    a hundred. It is never more than if each request were the largest.
    """
    of, known = (likely.cost, progress.spent + progress.unsure) if pot.counts == "cost" else (likely.tokens, likely.known_tokens)
    share = progress.left / progress.rows
    perhaps = max(0, by_rows - known) * share
    amounts = [perhaps / likely.unknown] * likely.unknown if likely.unknown else [perhaps]
    return round(min(together([of, rare(amounts, largest * share)]).high, largest * progress.left * likely.sent))


def _typed(name: str, amount: int) -> str:
    return f"{dollars(amount).normalize():f}" if name != "max_tokens_total" else str(amount)


def _limit(pot: Pot) -> str:
    return exact(pot.limit) if pot.counts == "cost" else amount(pot, pot.limit)


def amount(pot: Pot, amount: int) -> str:
    """Return an amount of what a limit counts, in words."""
    return shown(amount) if pot.counts == "cost" else f"{amount:,} tokens"
