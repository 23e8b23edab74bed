"""``runner try``: one answer, typed as it comes."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from signal import SIGINT
from typing import TYPE_CHECKING, Any

import click

from runner.cli.completing import complete_rows
from runner.cli.options import count, db_option, given_settings, json_option, setting_options, trust_option
from runner.errors import UsageError

if TYPE_CHECKING:
    from runner.cli.typewriter import Typewriter
    from runner.session.trial import Question, Tried

_ROWS = re.compile(r"\S*\.\w{1,8}|\S*/\S*")
"""A word that is the name of a file, and no prompt."""
_OF_ROWS = (
    "input_format", "encoding", "delimiter", "sheet", "id_column", "columns", "where", "sample", "images", "files",
)  # fmt: skip
"""Settings that mean nothing where no row is read."""


@click.command("try")
@click.argument("words", metavar="[FILE] [PROMPT]", nargs=-1, shell_complete=complete_rows)
@click.option("--row", type=count(1), metavar="N", help="Ask the row on line N of FILE; default: the first that can be sent.")
@setting_options()
@db_option
@trust_option
@json_option
def try_(words: tuple[str, ...], row: int | None, db: str, trust: bool, as_json: bool, **settings: Any) -> None:
    """Send one request and type the answer as it comes.

    Sent is a row of FILE, as a run would send it, or PROMPT as it stands, with the settings of FILE if one is named. A single
    argument is FILE if there is such a file or it looks like the name of one, else PROMPT.

    Nothing is stored: it is no row of a run. Ctrl-C ends it at once. The answer goes to standard output, all else to standard
    error.
    """
    from runner.cli.signals import orderly_end
    from runner.cli.trusting import asked
    from runner.config.job import load_job
    from runner.session import trial

    file, prompt = meant(words)
    given = given_settings(settings)
    _refuse_both(file, prompt, row, given)
    # without a file, the settings come from options and environment alone, as for standard input
    try:
        job = load_job(file if file is not None else "-", given)
    except UsageError as error:
        if file is None or prompt is not None or _exists(file):
            raise
        # imported here, as it takes longer than all of this
        from runner.text import shell_word

        raise UsageError(f"{error}; if that is the prompt: `runner try --prompt {shell_word(file)}`") from None
    if file is None and prompt is None and job.prompt is None and job.messages is None:
        raise click.UsageError(
            'name a file with rows, or write a prompt: `runner try FILE` or `runner try "Why is the sky blue?"`'
        )
    with orderly_end():
        question = trial.question(
            asked(job, trusted=trust), prompt=prompt, row=row, reads=file is not None, store=Path(db).resolve()
        )
    sys.exit(_drive(question, as_json=as_json))


def meant(words: tuple[str, ...]) -> tuple[str | None, str | None]:
    """Return the file and the prompt of a command line. The name of a file that does not exist is no prompt."""
    if len(words) > 2:
        raise click.UsageError("one prompt at a time; put quotation marks around it")
    if not words:
        return None, None
    # imported here: what stands for help loads nothing more
    from runner.origin import name_of

    first, *rest = words
    if rest and _exists(first) and _exists(rest[0]):
        # what a shell makes of *.csv
        raise click.UsageError(f"{first} and {rest[0]} are two files, and one row of one file is asked; name one of them")
    if first == "-" or rest or not first or name_of(first) is not None or _exists(first) or _is_name(first):
        return first, (rest[0] if rest else None)
    return None, first


def _exists(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):
        # too long for a name, or with a character that no name has
        return False


def _is_name(word: str) -> bool:
    from runner.inputs.compression import unpacked
    from runner.session.survey import ENDINGS

    return _ROWS.fullmatch(word) is not None or unpacked(Path(word)).suffix.lower().lstrip(".") in (*ENDINGS, "toml")


def _refuse_both(file: str | None, prompt: str | None, row: int | None, given: Mapping[str, Any]) -> None:
    """Raise UsageError for words that contradict each other."""
    if row is not None and (prompt is not None or file is None):
        raise UsageError("--row names a row of a file, and the prompt is not asked about a row; leave out one of them")
    # without a file and without a prompt, --prompt is the question
    unread = next((name for name in _OF_ROWS if name in given), None) if prompt is not None or file is None else None
    if unread is not None:
        option = "--" + unread.replace("_", "-")
        raise UsageError(f"{option} is for the rows of a file, and none is read for the prompt; leave it out")
    if prompt is None:
        return
    templates = [name for name in ("prompt", "prompt_file", "messages") if name in given]
    if templates:
        raise UsageError(f"--{templates[0].replace('_', '-')} and a prompt exclude each other; choose one of them")
    if file is not None and "{{" in prompt:
        raise UsageError("a prompt is sent as it stands; --prompt makes a template of it, for a row of the file")


def _drive(question: "Question", *, as_json: bool) -> int:
    """Send a request, show what comes of it, and return the exit code."""
    from runner.cli.typewriter import Typewriter
    from runner.session import trial
    from runner.session.blocking import blocking
    from runner.session.signals import STOP_SIGNALS, exit_code, on_signals
    from runner.session.stopping import StopHandle

    handle = StopHandle()

    def end(_kind: int = SIGINT) -> None:
        # as a second signal does in a run: who watches an answer means the open request too
        handle.request()
        handle.request()

    screen = Typewriter(end)
    hear, tell, wait = (_ignored, _ignored, _ignored) if as_json else (screen.hear, screen.note, screen.wait)
    for sentence in (*question.endpoint.notes, *(f"{why}; passed over" for why in question.passed)):
        tell(sentence)
    if not as_json:
        screen.request(question.item.request, question.where)
    try:
        with on_signals(STOP_SIGNALS, end) as caught:
            tried = blocking(lambda: handle.run(lambda stop: trial.execute(question, stop, hear, tell, wait)))
    finally:
        screen.close()
    code = _told(screen, question, tried, as_json=as_json)
    if isinstance(screen.lost, BrokenPipeError):
        return 141
    if screen.lost is not None:
        raise screen.lost
    return code if tried.outcome is not None or not caught else exit_code(caught[0])


def _ignored(_: object) -> None:
    """Show nothing."""


def _told(screen: "Typewriter", question: "Question", tried: "Tried", *, as_json: bool) -> int:
    """Say how an answer ended, or why there is none; return the exit code. Raises the error that has stopped it."""
    from runner.cli.output import to_json
    from runner.errors import advice
    from runner.session import trial
    from runner.session.naming import without_a_run

    if as_json:
        click.echo(to_json(report(question, tried)))
    if tried.error is not None:
        tried.error.is_told = as_json
        raise tried.error
    outcome = tried.outcome
    if outcome is None and any(attempt.sent for attempt in tried.attempts) and not as_json:
        screen.note("stopped; the tokens received so far may be billed")
    if outcome is None or as_json:
        return int(outcome is not None and outcome.status == "failed")
    if outcome.completion is not None and outcome.attempt is not None:
        screen.answer(outcome.completion, outcome.attempt, trial.cost(question, tried))
    if outcome.status == "failed":
        code = outcome.error_code or "unknown"
        failed = f"failed after {len(tried.attempts)} attempts" if len(tried.attempts) > 1 else "failed"
        screen.failed(f"{failed}: {code}: {outcome.error or ''}", without_a_run(advice(code, failed=True)))
    return int(outcome.status == "failed")


def report(question: "Question", tried: "Tried") -> dict[str, Any]:
    """Return a request and what became of it as one object."""
    import msgspec

    from runner.cli.typewriter import tokens_per_s

    request, outcome = question.item.request, tried.outcome
    answer = outcome.completion if outcome is not None else None
    last = tried.attempts[-1] if tried.attempts else None
    usage = last.usage if last is not None else None
    failure = tried.error.code if tried.error is not None else outcome.error_code if outcome is not None else "cancelled"
    words = str(tried.error) if tried.error is not None else outcome.error if outcome is not None else None
    return {
        "line": question.item.position if question.where is not None else None,
        "request": {"model": request.model, "system": request.system, "messages": request.messages, "params": request.params},
        "status": "done" if failure is None else "failed",
        "text": answer.text if answer is not None else None,
        "finish_reason": answer.finish_reason if answer is not None else None,
        "extra": answer.extra if answer is not None else {},
        "notes": answer.notes if answer is not None else (),
        "error_code": failure,
        "error": words,
        "served_model": last.served_model if last is not None else None,
        **{name: getattr(usage, name, None) for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")},
        "time_to_first_token_s": last.time_to_first_token_s if last is not None else None,
        "duration_s": last.duration_s if last is not None else None,
        "tokens_per_s": tokens_per_s(last) if last is not None else None,
        "attempts": msgspec.to_builtins(tried.attempts),
    }
