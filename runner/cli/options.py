"""Options that several commands share."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import click

from runner.config.settings import SETTINGS, Setting

F = TypeVar("F", bound=Callable[..., Any])


PACE = tuple(setting.name for setting in SETTINGS if not setting.answer)
"""The settings that may change within a run."""


def _option(setting: Setting) -> Callable[[F], F]:
    default = f"  [default: {setting.default:g}]" if isinstance(setting.default, int | float) else ""
    default = f"  [default: {setting.default}]" if setting.kind == "slots" or setting.choices else default
    metavar = {"int": "N", "float": "X", "json": "JSON", "slots": "auto|N", "span": "SECONDS"}.get(setting.kind, "TEXT")
    metavar = "|".join(setting.choices) or metavar
    return click.option(
        setting.option,
        setting.name,
        multiple=setting.kind in ("texts", "headers", "query"),
        type={"int": int, "float": float}.get(setting.kind, str),
        metavar=metavar,
        help=setting.help + default,
    )


def setting_options(*names: str) -> Callable[[F], F]:
    """Add the options of the named settings, or of all settings if no names are given."""

    def add(command: F) -> F:
        for setting in reversed(SETTINGS):
            if not names or setting.name in names:
                command = _option(setting)(command)
        return command

    return add


db_option = click.option(
    "--db", default="runner.db", envvar="RUNNER_DB", show_default=True, metavar="FILE", help="Store file (SQLite)."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
trust_option = click.option(
    "--trust", is_flag=True, help="Allow what only the job file asks for: keys to its server, code. A run remembers it."
)
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Print only errors.")
accept_changes_option = click.option(
    "--accept-changes", is_flag=True, help="Send finished rows again if their prompt has changed."
)
run_argument = click.argument("run_id", metavar="[RUN]", type=int, required=False)


def continue_options(command: F) -> F:
    """Add the argument and the options of a command that continues a run."""
    return run_argument(setting_options(*PACE)(db_option(trust_option(quiet_option(json_option(command))))))


def given_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that were given. The others are None, or an empty tuple if the option may be repeated."""
    return {name: value for name, value in settings.items() if value is not None and value != ()}


def gathered(into: str, *names: str) -> Callable[[F], F]:
    """Pass the named options to a command as one dictionary ``into``. This decorator must be the last, below the options."""

    def wrap(command: F) -> F:
        @functools.wraps(command)
        def call(**options: Any) -> Any:
            return command(**{into: {name: options.pop(name) for name in names}}, **options)

        return cast("F", call)

    return wrap
