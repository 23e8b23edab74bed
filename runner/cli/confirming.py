"""Asks on a terminal before a session starts that will cost more than the user has said."""

import sys
from functools import partial
from signal import SIGINT
from typing import NoReturn

import click

from runner.cli import fitting, money
from runner.cli.trusting import confirmed
from runner.config.job import Job
from runner.errors import UsageError
from runner.session.expecting import Confirm, Expected
from runner.session.signals import STOP_SIGNALS, exit_code, on_signals

_NOT_STARTED = "not started, and nothing was sent"


def confirm(job: Job, *, yes: bool) -> Confirm | None:
    """Return what asks before a session of a job starts; None if nobody is there to ask, or the answer was given before."""
    if yes or not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        return None
    return partial(_asked, job.confirm_above)


def _asked(above: float, cost: Expected) -> bool:
    """Ask about what costs more than ``above`` dollars in the middle of its interval; return True if it was said what it costs.

    What the budget does not leave is not spent, and so not asked about. Raises UsageError for a no.
    """
    most = cost.dollars if cost.most is None else min(cost.dollars, cost.most)
    if most <= above:
        return False
    fitting.say(cost.sentence, error=True)
    # a session only takes note of a signal, and would wait for the answer
    with on_signals(STOP_SIGNALS, _leave):
        what = money.amount(most) if most == cost.dollars else f"The budget leaves {money.amount(most)}, which"
        if confirmed(f"{what} is above {money.typed(above)} (--confirm-above). Start?"):
            return True
    raise UsageError(_NOT_STARTED)


def _leave(kind: int) -> NoReturn:
    # the cursor stands behind the question
    click.echo(f"\n{_NOT_STARTED}", err=True)
    if kind == SIGINT:
        raise KeyboardInterrupt
    sys.exit(exit_code(kind))
