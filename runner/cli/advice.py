"""What to type next, from the state of a run: one pure function makes every "next:" line.

A line is a command that works as printed, and words that say what it does and how many rows it sends. The states, and the
command of each (the first that fits):

    running                      status --watch
    a program's session          export; before it errors, if rows failed
    the prompt file is gone      what fits below, once it is back; also: export
    stopped: wrong address       resume --base-url URL      (where the address to use is known, and the user's to name)
    stopped: unknown model       resume --model NAME        (while no row is answered, the model may change)
    stopped: a row's own model   resume                     (once its line is mended)
    stopped: budget reached      resume --max-cost X         (with what finishes it)
    a retry was interrupted      resume, also: export        (it asks the other rows again, whatever stopped it)
    stopped: bad requests        retry, also: resume
    --limit, failed rows         retry, also: resume
    rows are left, any reason    resume                     (a limit, Ctrl-C, the deadline, an error, a changed file, a kill)
    failed rows, worth a retry   retry, also: export        (one for each way, where some need more room, or more time; also:
                                                            errors, where no way sends some of them)
    failed rows, all broken      errors                     (it names the lines), also: export
    failed rows, their own fault errors, also: export
    all done                     export
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from runner.errors import UNKNOWN
from runner.session import naming
from runner.session.spelling import LEFT_OUT, OF_THE_ROW, Raised
from runner.session.ways import Way
from runner.text import plural

COLUMNS = 79
"""Columns for a line of advice."""
_UNTAKEN = "unsupported_tier"
"""The error code of a service tier that the server does not take."""
_WHEN = {
    "auth": "once the key is right",
    "billing": "once there is credit",
    "connect": "once the server answers",
    "dns": "once the server can be found",
    "proxy": "once the proxy works",
    "timeout_connect": "once the server answers",
    "tls": "once the connection is secure",
    "address": "once base_url is right",
    "not_an_api": "once base_url is right",
    "redirect": "once base_url is right",
    "no_reason": "once the server sends finish reasons",
    "wrong_dialect": "with the right --provider",
    "not_found": "once the server has the model",
    "bad_request": "once the rows or the settings are right",
    "refused": "once the server accepts such rows",
}
"""What has to be so before a run that stopped with this code can go on."""


class State(Struct, frozen=True, kw_only=True):
    """The state of a run, as far as it decides what to do next. Numbers count rows of the whole run."""

    run: int
    done: int
    failed: int
    # without an outcome
    left: int
    # rows that an interrupted retry is still to ask again
    retry_left: int = 0
    waiting: int = 0  # of those left: rows that wait in batches at the provider
    # of the failed: rows from which no request could be made
    broken: int = 0
    # failed rows by error code
    causes: Mapping[str, int] = {}
    # how the failed rows are sent, where some would fail again as they are; None: each may be sent as it is
    ways: Sequence[Way] | None = None
    # outcomes of answers that are no longer wanted; none of the other numbers has them, but an export does
    beyond: int = 0
    active: bool = False
    # the error code that stopped the last session
    stop_code: str | None = None
    # the address that its stop reason advises, as a shell reads it; UNKNOWN: base_url is wrong
    address: str | None = None
    # the line of the row whose own model stopped it
    line: int | None = None
    # the options that raise the budget that it has reached
    raised: Raised = Raised()
    # what its budget has left, if the rows that are left are expected to take more; None: enough, or it is not known
    budget_left: str | None = None
    # rows that --limit leaves to the same command
    to_limit: int = 0
    # it ended where --limit asked it to
    limited: bool = False
    # the prompt file is not where it was
    missing: bool = False
    # its rows are those of a program, in no file: nothing but the program sends them
    asked: bool = False
    # the prompt file changed while it was read, so its rows are not all known
    input_changed: bool = False
    # the same command as before goes on too
    same_command: bool = False
    # what is counted: rows, or answers where a run has several of each row
    unit: str = "row"
    # equal requests are sent once: how many requests that is for what is left, and for what failed; None: not known
    dedupe: bool = False
    requests_left: int | None = None
    requests_failed: int | None = None
    # ``runner errors`` shows it: no need to name that command
    errors_shown: bool = False


class Advice(NamedTuple):
    """A command as it is typed, and what it does. rows: how many rows it sends at most; None: it sends nothing."""

    command: str
    words: str
    rows: int | None = None


def advice(state: State, db: str) -> list[Advice]:
    """Return what to type next; a second entry is another way, of the same worth. db: the store, as it was given."""

    def command(name: str, *more: str) -> str:
        return naming.command(name, state.run, db, *more)

    if state.active:
        return [Advice(command("status", "--watch"), "shows how it goes on; sends nothing")]
    if state.stop_code == "not_found" and not (state.done or state.address or state.line or state.asked):
        words = f"with the NAME of a model that the server has; sends {plural(state.left, state.unit)}"
        return [Advice(command("resume", "--model", "NAME"), words, state.left)]
    export = Advice(command("export", "-o", "answers.csv"), f"writes {_written(state)}")
    if state.asked:
        return [_why(state, command("errors")), export] if state.failed and not state.errors_shown else [export]
    sent = state.failed - state.broken
    worth_it = sent > 0 and not OF_THE_ROW.issuperset(state.causes) and (state.ways is None or len(state.ways) > 0)
    refused = state.stop_code == "bad_request" and sent > 0
    if state.retry_left and not state.missing:
        return [_rest_of_retry(state, command("resume", *_moved(state), *_of_resume(state))), export]
    retries, raised = state.raised.retries, state.raised.options
    again = _retries(state, sent, _when(state) if refused or state.missing else "", db)
    if retries and sent and not state.missing:
        return [*again, export]
    if state.raised.whole is not None and state.to_limit and not state.missing:
        return [Advice(state.raised.whole, f"sends {plural(state.to_limit, state.unit)}, up to --limit", state.to_limit)]
    if state.left:
        resume = _resume(state, command("resume", *_moved(state), *_of_resume(state)))
        if state.missing:
            return [resume, export]
        return [*again, resume] if refused or (state.limited and worth_it) else [resume]
    if "--accept-changes" in raised and not state.missing:
        return [Advice(command("resume", *raised), "sends the changed rows that are left", state.done + state.failed), export]
    if state.input_changed:
        return [Advice(command("resume"), f"{_when(state)}sends what is new in it")]
    if not state.failed:
        return [export]
    if worth_it:
        return [*again, *_left_out(state, sent, command("errors")), export]
    name = ("retry" if sent else "resume") if state.errors_shown else "errors"
    return [_of_errors(state, command(name), sent), export]


def _rest_of_retry(state: State, command: str) -> Advice:
    """Return the way on with a retry that was interrupted."""
    rows = plural(state.retry_left, state.unit)
    return Advice(command, f"{_when(state)}sends {rows} that the retry has left", state.retry_left)


def _of_errors(state: State, command: str, sent: int) -> Advice:
    """Return the way on where all failed rows would fail again as they are. sent: those of them that a retry sends."""
    if not state.errors_shown:
        return _why(state, command, broken=not sent)
    back = "once the prompt file is back; " if state.missing else ""
    if sent:
        return Advice(command, f"{back}once they are mended; {_again(state, sent)}", sent)
    return Advice(command, f"{back}once {_lines(state.broken)} mended; sends {plural(state.broken, state.unit)}", state.broken)


def _retries(state: State, sent: int, when: str, db: str) -> list[Advice]:
    """Return the commands that send the failed rows: one for each way, where some would fail again as they are."""
    found = []
    for way in state.ways or [Way(_of_retry(state), (), sent)]:
        every = way.rows == sent
        chosen = [] if every else ["--class", ",".join(way.classes)]
        raised = state.raised.options if state.raised.retries and state.ways else ()
        command = naming.command("retry", state.run, db, *_moved(state), *chosen, *way.options, *raised)
        rows = plural(way.rows, f"failed {state.unit}")
        words = _again(state, sent) if every else f"{_sends(state, way.rows, None, rows, ' again')}{_chosen(state)}"
        found.append(Advice(command, f"{when}{words}", way.rows))
    return found


def _left_out(state: State, sent: int, command: str) -> list[Advice]:
    """Return the way to the failed rows that none of the commands sends. sent: those that a retry without options sends."""
    some = state.ways is not None and sum(way.rows for way in state.ways) < sent
    return [_why(state, command)] if some and not state.errors_shown else []


def _again(state: State, sent: int) -> str:
    """Say what a retry sends."""
    rows = plural(sent, f"failed {state.unit}")
    return f"{_sends(state, sent, state.requests_failed, rows, ' again')}{_chosen(state)}{_short(state)}"


def _why(state: State, command: str, *, broken: bool = False) -> Advice:
    """Return the way to the reasons of failed rows. broken: all of them are broken lines."""
    if broken:
        lines = plural(state.broken, "broken line") if state.unit == "row" else "broken lines"
        return Advice(command, f"names the {lines}; sends nothing")
    return Advice(command, f"shows why {plural(state.failed, state.unit)} failed; sends nothing")


def lines(advices: list[Advice], columns: int = COLUMNS) -> list[str]:
    """Return advice as the last lines of an output. Words for which a line has no room follow on a line of their own."""
    width = max(len(one.command) for one in advices)
    text = []
    for place, one in enumerate(advices):
        name = "also:" if place else "next:"
        line = f"{name} {one.command.ljust(width)}   ({one.words})"
        text += [line] if len(line) <= columns else [f"{name} {one.command}", f"      ({one.words})"]
    return text


def _moved(state: State) -> tuple[str, ...]:
    """Return the option that moves the run to the address that is right; empty if none is known."""
    return ("--base-url", state.address) if state.address not in (None, UNKNOWN) else ()


def _of_resume(state: State) -> tuple[str, ...]:
    """Return the options with which a resume goes on where the session stopped."""
    raised = () if state.raised.retries else state.raised.options
    return (*(LEFT_OUT[_UNTAKEN] if state.stop_code == _UNTAKEN else ()), *raised)


def _of_retry(state: State) -> tuple[str, ...]:
    """Return the options with which a retry goes on where the session stopped, or the failed rows need not fail again."""
    raised = state.raised.options if state.raised.retries else ()
    (cause, *others) = state.causes or ("",)
    return (*(LEFT_OUT.get(cause, ()) if not others else ()), *raised)


def _resume(state: State, command: str) -> Advice:
    if state.waiting:
        sent = max(0, state.left - state.waiting)
        takes = f"takes the answers of {plural(state.waiting, state.unit)} as they come"
        return Advice(command, f"{_when(state)}{takes}{f', and sends {plural(sent, state.unit)}' if sent else ''}", sent)
    some = state.done + state.failed > 0
    last, others = f"the last {state.unit}", plural(state.left, state.unit)
    rows = last if some and state.left == 1 else f"{'the other ' if some else ''}{others}"
    same = "; or the same command again" if state.same_command else ""
    words = f"{_when(state)}{_sends(state, state.left, state.requests_left, rows)}{_chosen(state)}{_short(state)}{same}"
    return Advice(command, words, state.left if state.requests_left is None else state.requests_left)


def _sends(state: State, number: int, requests: int | None, rows: str, again: str = "") -> str:
    """Say what is sent for rows. number: how many they are. requests: that they make; None: as many, or it is not known."""
    if requests is not None and requests < number:
        return f"sends {plural(requests, 'request')} for {rows}{again}"
    return f"sends {rows}{again}{', equal requests once' if state.dedupe and requests is None and number > 1 else ''}"


def _chosen(state: State) -> str:
    """Say which of the rows are sent, if not all."""
    if state.raised.in_part:
        return ", as far as that goes" if state.raised.options else ""
    return ", as far as they are chosen" if state.raised.chosen else ""


def _short(state: State) -> str:
    """Say what the budget has left, if it ends before the rows do."""
    short = state.budget_left is not None and not state.raised.options
    return f", as far as the budget goes: it has {state.budget_left} left" if short else ""


def _when(state: State) -> str:
    """Return what has to be so before rows are sent."""
    if state.missing:
        return "once the prompt file is back; "
    if state.input_changed:
        return "when nothing writes to the file any more; "
    if state.address is not None:
        return "once base_url is right; " if state.address == UNKNOWN else ""
    if state.line is not None:
        return f"once line {state.line} names a model that the server has; "
    return f"{_WHEN[state.stop_code]}; " if state.stop_code in _WHEN else ""


def _written(state: State) -> str:
    if state.beyond:
        return plural(state.done + state.failed + state.beyond, "answer")
    if not state.failed:
        return plural(state.done, state.unit)
    return f"{state.done:,} done and {plural(state.failed, f'failed {state.unit}')}"


def _lines(number: int) -> str:
    return "the line is" if number == 1 else "the lines are"
