"""The options that several commands share."""

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
    shown = {"int": "N", "float": "X", "json": "JSON", "slots": "auto|N", "span": "SECONDS"}.get(setting.kind, "TEXT")
    shown = "|".join(setting.choices) or shown
    return click.option(
        setting.option,
        setting.name,
        multiple=setting.kind == "texts",
        type={"int": int, "float": float}.get(setting.kind, str),
        metavar=shown,
        help=setting.help + default,
    )


def setting_options(*names: str) -> Callable[[F], F]:
    """Add the options of settings; all of them without names."""

    def add(command: F) -> F:
        for setting in reversed(SETTINGS):
            if not names or setting.name in names:
                command = _option(setting)(command)
        return command

    return add


db_option = click.option("--db", default="runner.db", envvar="RUNNER_DB", show_default=True, metavar="FILE", help="The store.")


json_option = click.option("--json", "as_json", is_flag=True, help="JSON on standard output instead of text.")


quiet_option = click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")


accept_changes_option = click.option(
    "--accept-changes", is_flag=True, help="Send rows again whose prompt has changed since its answer came."
)


run_argument = click.argument("run_id", metavar="[RUN]", type=int, required=False)


def continue_options(command: F) -> F:
    """Add what going on with a run takes."""
    return run_argument(setting_options(*PACE)(db_option(quiet_option(json_option(command)))))


def given_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Keep the options that were given; one that may be repeated is an empty tuple when it was not."""
    return {name: value for name, value in settings.items() if value is not None and value != ()}


def gathered(into: str, *names: str) -> Callable[[F], F]:
    """Hand several options to a command as one dictionary, named ``into``. Stands next to the function, below its options."""

    def wrap(command: F) -> F:
        @functools.wraps(command)
        def call(**given: Any) -> Any:
            return command(**{into: {name: given.pop(name) for name in names}}, **given)

        return cast("F", call)

    return wrap
