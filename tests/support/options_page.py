"""Generates ``docs/reference/options.md`` from the commands: the help and the options of each."""

import inspect
from pathlib import Path

import click
from pages import Part

from runner.cli.commands import cli
from runner.config.settings import SETTINGS

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "options.md"
BEGIN, END = "<!-- made by tests/support/reference_pages.py -->\n", "<!-- end -->\n"
SETTING = {setting.option: setting.help for setting in SETTINGS}


def commands() -> str:
    """Return a section for each command, in the order of ``runner --help``."""
    context = click.Context(cli, info_name="runner")
    return "\n" + "\n".join(section(name, cli.commands[name], context) for name in cli.list_commands(context)) + "\n"


def section(name: str, command: click.Command, parent: click.Context) -> str:
    """Return the heading, the usage, the help and the options of a command."""
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join(["runner", name, *command.collect_usage_pieces(context)])
    options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    # an option may have the name of a setting and be another: those of the simulator, `estimate --sample`
    shared = [one for one in options if SETTING.get(one.opts[0]) == one.help]
    own = [row(one, context) for one in options if one not in shared]
    table = ["| option | what it does | value | default |", "|---|---|---|---|", *own]
    parts = [f"## {name}", f"`{usage}`", inspect.cleandoc(command.help or "").replace("<", r"\<")]
    if own:
        parts.append("\n".join(table))
    if shared:
        names = ", ".join(f"`{one.opts[0]}`" for one in shared)
        parts.append(f"Settings ([their table](settings.md)): {names}.")
    return "\n\n".join(parts) + "\n"


def row(option: click.Option, context: click.Context) -> str:
    """Return the row of an option."""
    names = "<br>".join(f"`{name}`" for name in [*option.opts, *option.secondary_opts])
    value = "" if option.is_flag else f"`{option.make_metavar(context)}`"
    default = "" if option.is_flag or not option.show_default else f"`{option.get_default(context)}`"
    cells = (names, option.help or "", value, default)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


PART = Part(PAGE, BEGIN, END, commands)
"""All commands in their page."""
