"""Makes ``docs/man/runner.1``, the page that ``man runner`` shows, from the commands.

The macros are those of man(7), which groff and mandoc both know.
"""

from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap

import click

from runner.cli.commands import cli
from runner.config.settings import SETTINGS
from runner.version import __version__

PAGE = Path(__file__).parents[2] / "docs" / "man" / "runner.1"
DATE = "2026-11-30"
"""Of the page, for its last line; to be set when the commands change much."""
_WIDE = 74
_SETTINGS = {setting.option: setting.help for setting in SETTINGS}
_MANY = 20
"""Settings of a command that are not listed with it, but once for all commands."""
FILES = {
    "runner.db": "The store, in the current folder unless --db or RUNNER_DB names another one.",
    "FILE.toml": "The job file of FILE: settings, by the names in docs/reference/settings.md. `runner init FILE` writes one.",
}
ENVIRONMENT = {
    "RUNNER_DB": "The store, where --db is not given.",
    "RUNNER_MODEL, RUNNER_BASE_URL, ...": "Settings, by the names of their options. Options override them.",
    "OPENAI_API_KEY, ANTHROPIC_API_KEY": "The key for the endpoint; --api-key-env names another variable.",
    "RUNNER_TRACEBACK": "1 shows where an internal error was raised.",
}
CODES = {
    "0": "All rows are done.",
    "1": "Some rows failed.",
    "2": "The command, a file or a setting has to be corrected; nothing was sent.",
    "3": "Stopped, because going on is pointless now, such as with a wrong key. The same command continues.",
    "4": "The store or an output cannot be read or written, or another process works on the run.",
    "5": "The budget is reached. The run can be resumed.",
    "70": "A bug in runner.",
    "130, 143": "Stopped by Ctrl-C; by SIGTERM. The same command continues.",
}


def text() -> str:
    """Return the page."""
    return "\n".join([*lines(), ""])


def lines() -> Iterator[str]:
    """Yield the lines of the page."""
    yield '.\\" made by tests/support/man_page.py'
    yield '.TH RUNNER 1 "' + DATE + '" "runner ' + __version__ + '" "User Commands"'
    yield ".SH NAME"
    yield "runner \\- batch runner for prompts to large language models"
    yield ".SH SYNOPSIS"
    yield "\\fBrunner\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR]... [\\fIARGUMENT\\fR]..."
    yield ".SH DESCRIPTION"
    yield from paragraphs(cli.help or "")
    yield ".PP"
    yield from folded("Every command has the option --help, or -h.")
    yield ".SH COMMANDS"
    with click.Context(cli, info_name="runner") as context:
        for name in cli.list_commands(context):
            yield from of_command(cli.commands[name], name, context)
    yield ".SH SETTINGS"
    yield from folded("Options of run, resume, retry, check, try and estimate, which has a --sample of its own.")
    with click.Context(cli.commands["run"], info_name="run", parent=context) as inner:
        yield from of_options([one for one in cli.commands["run"].params if is_setting(one)], inner)
    yield from table("EXIT STATUS", CODES)
    yield from table("ENVIRONMENT", ENVIRONMENT)
    yield from table("FILES", FILES)
    yield ".SH SEE ALSO"
    yield "\\fBsqlite3\\fR(1), which reads the store."
    yield "\\fBrunner\\fR \\fICOMMAND\\fR \\fB\\-\\-help\\fR shows the same for one command."


def of_command(command: click.Command, name: str, parent: click.Context) -> Iterator[str]:
    """Yield the part about a command."""
    with click.Context(command, info_name=name, parent=parent) as context:
        usage = " ".join(command.collect_usage_pieces(context))
        yield f".SS {escaped(f'runner {name} {usage}')}"
        yield from paragraphs(command.help or "")
        parameters = command.get_params(context)
        if sum(map(is_setting, parameters)) > _MANY:
            yield ".PP"
            yield from folded("Beside these options, it has the settings, which are listed below.")
            parameters = [one for one in parameters if not is_setting(one)]
        yield from of_options(parameters, context)


def is_setting(parameter: click.Parameter) -> bool:
    """Return True for the option of a setting."""
    about = parameter.help if isinstance(parameter, click.Option) else None
    return about is not None and any(about.startswith(_SETTINGS[option]) for option in parameter.opts if option in _SETTINGS)


def of_options(parameters: list[click.Parameter], context: click.Context) -> Iterator[str]:
    """Yield an entry for each option among parameters. That of the help, which all commands have, is named once."""
    for parameter in parameters:
        record = parameter.get_help_record(context) if isinstance(parameter, click.Option) else None
        if record is not None and "--help" not in parameter.opts:
            yield from (".TP", f"\\fB{escaped(record[0])}\\fR", *folded(record[1]))


def table(title: str, entries: dict[str, str]) -> Iterator[str]:
    """Yield a section with a word and what it means in each entry."""
    yield f".SH {title}"
    for word, about in entries.items():
        yield from (".TP", f"\\fB{escaped(word)}\\fR", *folded(about))


def paragraphs(words: str) -> Iterator[str]:
    """Yield the paragraphs of a help text. One that begins with the mark of click keeps its lines."""
    for number, paragraph in enumerate(click.unstyle(words).strip().split("\n\n")):
        kept = paragraph.lstrip().startswith("\b")
        rows = [line.strip() for line in paragraph.strip("\b \n").splitlines() if line.strip("\b ")]
        if number:
            yield ".PP"
        if kept:
            yield from (".nf", *map(escaped, rows), ".fi")
        else:
            yield from folded(" ".join(rows))


def folded(words: str) -> Iterator[str]:
    """Yield a paragraph in lines of the page."""
    yield from map(escaped, wrap(words, _WIDE, break_long_words=False, break_on_hyphens=False))


def escaped(words: str) -> str:
    """Return a text as it stands in a line of the page."""
    words = words.replace("\\", "\\e").replace("-", "\\-").replace("\N{HORIZONTAL ELLIPSIS}", "...")
    return f"\\&{words}" if words.startswith((".", "'")) else words


def write() -> None:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text(), encoding="utf-8")
