"""What people type: other names of commands, misspelt ones, files where a run is expected, options of other tools."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from runner.errors import UsageError
from runner.version import __version__

ALIASES = {"ls": "list", "runs": "list"}
"""Names under which a command is known too; they are not listed."""
ORDER = (
    "init", "check", "estimate", "try", "run", "resume", "retry", "batches", "status", "attach", "pause", "continue", "stop",
    "cancel", "requeue", "set", "web", "list", "errors", "show", "compare", "export", "report", "name", "tag", "delete", "vacuum",
    "mcp", "worker", "simulate", "completion",
)  # fmt: skip
"""The commands as --help lists them: in the order in which they are needed."""
_INSTEAD = {
    "new": "runner init FILE",
    "create": "runner init FILE",
    "setup": "runner init FILE",
    "configure": "runner init FILE",
    "config": "runner init FILE, or `runner run FILE --show-config`",
    "scaffold": "runner init FILE",
    "ask": "runner try PROMPT",
    "chat": "runner try PROMPT",
    "prompt": "runner try PROMPT",
    "complete": "runner try PROMPT",
    "test": "runner try FILE",
    "preview": "runner check FILE",
    "demo": "runner try FILE --provider simulator",
    "stream": "runner try FILE",
    "start": "runner run FILE",
    "send": "runner run FILE",
    "restart": "runner run FILE --new",
    "validate": "runner check FILE",
    "dry-run": "runner check FILE",
    "estimate": "runner check FILE",
    "info": "runner status",
    "watch": "runner status --watch",
    "diff": "runner compare RUN RUN",
    "failed": "runner errors",
    "failures": "runner errors",
    "results": "runner export -o answers.csv",
    "download": "runner export -o answers.csv",
    "serve": "runner simulate",
    "rename": "runner name RUN NAME",
    "label": "runner tag RUN TAG",
    "compact": "runner vacuum",
    "rm": "runner delete RUN",
    "remove": "runner delete RUN",
    "del": "runner delete RUN",
    "erase": "runner delete RUN",
    "clean": "runner delete RUN",
    "html": "runner report",
    "dashboard": "runner web",
    "log": "runner status",
    "logs": "runner status",
    "abort": "runner stop",
    "kill": "runner stop",
    "unpause": "runner continue",
    "limit": "runner set",
    "follow": "runner attach",
    "tail": "runner attach",
}
"""Words of other tools, and what does it here."""
_OPTIONS = {
    "--dry-run": "`runner run FILE --dry-run N` prints N requests, `runner check FILE` reads everything; both send nothing",
    "-n": "`runner check FILE` reads everything and sends nothing; --limit N uses only the first N rows",
    "--resume": "the same command again continues, and so does `runner resume`",
    "--continue": "the same command again continues, and so does `runner resume`",
    "--retry": "`runner retry` sends failed rows again; --attempts N says how often a row is tried",
    "--retries": "--attempts N says how often a row is tried",
    "--max-retries": "--attempts N says how often a row is tried",
    "--input": "the prompt file is an argument: `runner run FILE`",
    "-i": "the prompt file is an argument: `runner run FILE`",
    "--api-key": "keys come from the environment: OPENAI_API_KEY, ANTHROPIC_API_KEY, or the variable that --api-key-env names",
    "--key": "keys come from the environment: OPENAI_API_KEY, ANTHROPIC_API_KEY, or the variable that --api-key-env names",
    "--threads": "--concurrency N",
    "--parallel": "--concurrency N",
    "--timeout": "--attempt-s SECONDS for a whole attempt, --silence-s SECONDS for an answer that stalls",
    "--limit": "only `runner run FILE --limit N` sends the first N rows of a file",
    "--new": "only `runner run FILE --new` starts a new run",
    "--name": "`runner name RUN NAME` gives a run a name",
    "--tag": "`runner tag RUN TAG` gives a run a tag",
    "--follow": "`runner status --watch` shows a run until it ends",
    "-f": "`runner status --watch` shows a run until it ends",
    "--force": "--new starts a new run, which sends all rows again",
    "--overwrite": "--new starts a new run, which sends all rows again",
    "--yes": "nothing is asked here that it could answer; --trust allows what only a job file asks for",
    "-y": "nothing is asked here that it could answer; --trust allows what only a job file asks for",
    "-V": "`runner --version` prints the version",
    "--url": "--base-url URL",
    "--endpoint": "--base-url URL",
    "--verbose": "`runner status --watch` shows a run in full",
    "-v": "`runner status --watch` shows a run in full",
}
"""Options of other tools, and what does it here."""
_OF_COMMANDS = {
    "export": {
        "-f": "--format FORMAT, or the ending of the file",
        "--force": "an export of that name is replaced in any case",
        "--overwrite": "an export of that name is replaced in any case",
    },
}
"""The same for options that mean something else with one command."""


class Commands(click.Group):
    """The group of all commands. A name that is none is answered with the right one."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        return UNLISTED.get(cmd_name) or super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of ``ORDER``, and any others behind them."""
        return sorted(super().list_commands(ctx), key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that was typed, also under another name. Raises click.UsageError."""
        word = args[0]
        if word in ALIASES:
            word = ALIASES[word]
        elif self.get_command(ctx, word) is None and not word.startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(f"there is no command {word!r}{self._meant(word)}", ctx)
        return super().resolve_command(ctx, [word, *args[1:]])

    def every_option(self) -> list[click.Parameter]:
        """Return the arguments and options of all commands."""
        return [parameter for command in self.commands.values() for parameter in command.params]

    def _meant(self, word: str) -> str:
        # imported here: a misspelt command is rare
        from runner.session.naming import file_word
        from runner.text import nearest

        if word.casefold() in _INSTEAD:
            return f"; use {_INSTEAD[word.casefold()]}"
        if Path(word).is_file():
            return f"; to send the prompts of a file: `runner run {file_word(word)}`"
        begun = [name for name in self.commands if name.startswith(word.casefold())]
        near = begun[0] if len(begun) == 1 else nearest(word, [*self.commands, *ALIASES])
        if near is not None:
            return f"; did you mean `runner {ALIASES.get(near, near)}`?"
        other = nearest(word, _INSTEAD)
        return f"; use {_INSTEAD[other]}" if other is not None else "; `runner --help` lists them"


def hint(error: click.ClickException, typed: Sequence[str]) -> str | None:
    """Return a sentence on what does what an unknown option asks for; None if it is about something else.

    typed: the words of the command line.
    """
    if not isinstance(error, click.NoSuchOption) or error.ctx is None:
        return None
    file = next((word for word in typed if word.startswith("-") and Path(word).is_file()), None)
    if file is not None:
        # imported here: most commands end without an error
        from runner.session.naming import file_word

        return f"If the file is meant: {file_word(file)}"
    group = error.ctx.command
    if isinstance(group, Commands) and any(error.option_name in option.opts for option in group.every_option()):
        return f"Options go behind the command: `runner run FILE {error.option_name} ...`."
    words = _OF_COMMANDS.get(str(error.ctx.info_name), {}).get(error.option_name) or _OPTIONS.get(error.option_name)
    return f"Instead: {words}." if words else None


def one_or_several(files: Sequence[str]) -> str | list[Path]:
    """Return the argument FILE... as the Python API takes it. A single name stays a text: ``./-`` is no ``-``."""
    if "" in files[1:]:
        raise UsageError("the name of the prompt file is empty")
    return files[0] if len(files) == 1 else [Path(name) for name in files]


def run_name(value: Any) -> int | str:
    """Read the argument RUN: the number of a run, its name or a file."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() else text


def number_or_name(value: Any) -> int | str:
    """Read the number or the name of a run that is to be deleted: a file would not tell which of its runs."""
    # imported here: --help needs no names
    from runner.labels import is_name

    named = run_name(value)
    if isinstance(named, str) and not is_name(named):
        raise click.BadParameter(f"{named!r} is neither the number nor the name of a run; `runner list` shows both")
    return named


@click.command()
def version() -> None:
    """Print the version, as --version does."""
    click.echo(f"runner, version {__version__}")


@click.command("help")
@click.argument("command", required=False)
@click.pass_context
def help_(context: click.Context, command: str | None) -> None:
    """Print the help of a command, or of all, as --help does."""
    parent = context.parent or context
    if command is None or not isinstance(parent.command, Commands):
        click.echo(parent.get_help())
        return
    name, found, _ = parent.command.resolve_command(parent, [command])
    if found is not None:
        with click.Context(found, info_name=name, parent=parent) as inner:
            click.echo(found.get_help(inner))


UNLISTED = {"version": version, "help": help_}
"""Commands that do what an option does too, for those who type them."""
