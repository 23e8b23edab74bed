"""The options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from runner.config.settings import DIALS, Dial

F = TypeVar("F", bound=Callable[..., Any])


PACE = tuple(dial.name for dial in DIALS if not dial.answer)
"""The settings that may change within a run."""


def _option(dial: Dial) -> Callable[[F], F]:
    default = f"  [default: {dial.default:g}]" if isinstance(dial.default, int | float) else ""
    default = f"  [default: {dial.default}]" if dial.kind == "slots" or dial.choices else default
    shown = {"int": "N", "float": "X", "json": "JSON", "slots": "auto|N", "span": "SECONDS"}.get(dial.kind, "TEXT")
    shown = "|".join(dial.choices) or shown
    return click.option(
        dial.option,
        dial.name,
        multiple=dial.kind == "texts",
        type={"int": int, "float": float}.get(dial.kind, str),
        metavar=shown,
        help=dial.help + default,
    )


def setting_options(*names: str) -> Callable[[F], F]:
    """Add the options of settings; all of them without names."""

    def add(command: F) -> F:
        for dial in reversed(DIALS):
            if not names or dial.name in names:
                command = _option(dial)(command)
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
