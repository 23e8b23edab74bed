"""Options that several commands share."""

import functools
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

import click

from runner.cli.completing import (
    Completer,
    choices,
    complete_file,
    complete_files,
    complete_model,
    complete_plugins,
    complete_rows,
    complete_run,
    complete_variable,
)
from runner.cli.typed import run_name
from runner.config.settings import SETTINGS, Setting, parse_count
from runner.config.variables import unknown_variables

F = TypeVar("F", bound=Callable[..., Any])


def _number(value: Any) -> Any:
    """Read a number of a setting. What is none is left to the check of settings, which says what is right."""
    for kind in (int, float):
        with suppress(ValueError):
            return kind(value)
    return value


def count(least: int = 0, most: int | None = None) -> Callable[[Any], int]:
    """Return the type of an option that takes a whole number of ``least`` or more, also with k, M or G."""

    def number(value: Any) -> int:
        read = parse_count(str(value))
        if read is None or not read.is_integer() or read < least or (most is not None and read > most):
            bounds = f"of {least} or more" if most is None else f"from {least} to {most}"
            raise click.BadParameter(f"{value!r} is not a whole number {bounds}, such as 250 or 100k")
        return int(read)

    return number


def seconds(value: Any) -> float:
    """Read an option that takes a number of seconds of 0 or more, or a duration such as 30m, 2h30m or 02:00:00."""
    # imported here: --help needs no duration
    from runner.durations import parse_duration

    read = parse_duration(str(value))
    if read is None:
        raise click.BadParameter(f"{value!r} is neither a number of seconds nor a duration such as 30m or 02:00:00")
    return read


_METAVARS = {
    "int": "N",
    "float": "X",
    "json": "JSON",
    "slots": "auto|N",
    "span": "SECONDS",
    "share": "N|P%",
    "prices": "list|JSON",
    "schema": "FILE",
    "tables": "JSON",
}
_OWN_METAVARS = {"by": "TIME"}


_COMPLETERS: dict[str, Completer] = {
    "provider": complete_plugins("providers"),
    "input_format": complete_plugins("inputs"),
    "engine": complete_plugins("engines"),
    "model": complete_model,
    "api_key_env": complete_variable,
    "schema": complete_files(".json"),
    "prompt_file": complete_file,
    "system_file": complete_file,
    "files_root": complete_file,
    "concurrency": choices("auto"),
    "workers": choices("auto"),
    "prices": choices("list"),
}
"""What a shell is offered for the values of settings that have no choices."""


def _option(setting: Setting) -> Callable[[F], F]:
    default = f"  [default: {setting.default:g}]" if isinstance(setting.default, int | float) else ""
    default = f"  [default: {setting.default}]" if setting.kind == "slots" or (setting.choices and setting.default) else default
    if setting.kind == "bool":
        both = f"{setting.option}/--no-{setting.option.removeprefix('--')}"
        chosen = both.split("/")[not setting.default].removeprefix("--") if setting.default is not None else "by the rows"
        # None, and not False, if neither is given: then the environment and the job file decide
        return click.option(both, setting.name, default=None, help=f"{setting.help}  [default: {chosen}]")
    metavar = _OWN_METAVARS.get(setting.name) or _METAVARS.get(setting.kind, "TEXT")
    metavar = "|".join(setting.choices) or metavar
    return click.option(
        setting.option,
        setting.name,
        multiple=setting.kind in ("texts", "headers", "query"),
        type=_number if setting.kind in ("int", "float") else str,
        metavar=metavar,
        help=setting.help + default,
        shell_complete=choices(*setting.choices) if setting.choices else _COMPLETERS.get(setting.name),
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
    "--db",
    default="runner.db",
    envvar="RUNNER_DB",
    show_default=True,
    metavar="FILE",
    help="Store file (SQLite).",
    shell_complete=complete_files(".db", ".sqlite", ".sqlite3"),
)


def _utf8(_: click.Context, __: click.Parameter, as_json: bool) -> bool:
    """Make standard output UTF-8 for JSON, whatever the locale says."""
    if as_json and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    return as_json


json_option = click.option("--json", "as_json", is_flag=True, callback=_utf8, help="Print JSON instead of text.")
trust_option = click.option(
    "--trust", is_flag=True, help="Allow what only the job file asks for: keys to its server, code. A run remembers it."
)
yes_option = click.option("--yes", is_flag=True, help="Start without a question, also if the cost is above --confirm-above.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Print only errors.")
detach_option = click.option(
    "--detach", is_flag=True, help="With batch or mixed: leave once the batches are submitted; `runner resume` goes on."
)
output_option = click.option(
    *("--output", "-o", "outputs"),
    metavar="FILE",
    multiple=True,
    help="Write the results to FILE at the end, also after Ctrl-C: .csv, .jsonl, .parquet, .xlsx, .sqlite or .md. Repeatable.",
    shell_complete=complete_file,
)
accept_changes_option = click.option(
    "--accept-changes", is_flag=True, help="Send finished rows again if their prompt has changed."
)
dry_run_option = click.option(
    "--dry-run",
    type=count(1),
    is_flag=False,
    flag_value="1",
    metavar="[N]",
    help="Print the request of the first row, or of the first N; send nothing.",
)
show_config_option = click.option("--show-config", is_flag=True, help="Print every setting and its source; send nothing.")
run_argument = click.argument("run_id", metavar="[RUN]", type=run_name, required=False, shell_complete=complete_run)
any_run_argument = click.argument("run_id", metavar="RUN", type=run_name, shell_complete=complete_run)
rows_argument = click.argument("named", metavar="FILE...", nargs=-1, required=True, shell_complete=complete_rows)


def _port(ctx: click.Context, _: click.Parameter, port: int | None) -> int | None:
    ctx.meta["port"] = port
    return port


def _web(ctx: click.Context, _: click.Parameter, web: bool) -> tuple[int | None] | None:
    """Return the port of the page, None in it for the usual one; None if none is wanted. Raises UsageError."""
    from runner.errors import UsageError

    port: int | None = ctx.meta.get("port")
    if not web:
        if port is not None:
            raise UsageError("--port is that of the page: give --web too")
        return None
    need_web()
    return (port,)


def need_web() -> None:
    """Raise UsageError if the libraries of the page are not there. Imports none of them."""
    from importlib.util import find_spec

    from runner.errors import UsageError

    try:
        there = all(find_spec(name) is not None for name in ("starlette", "uvicorn", "sse_starlette"))
    except (ImportError, ValueError):
        # somebody keeps them from being imported
        there = False
    if not there:
        raise UsageError("the page needs libraries that are not installed: `pip install 'prompt-runner[web]'`")


def web_options(command: F) -> F:
    """Add the options of a command that may show its session on a page: ``web``, and the port in it."""
    port = click.option(
        "--port", type=count(0, 65535), callback=_port, is_eager=True, expose_value=False, metavar="N", help="Port of the page."
    )
    page = click.option("--web", is_flag=True, callback=_web, help="Show the run on a page, whose address is printed.")
    return page(port(command))


def _telemetry(_: click.Context, __: click.Parameter, telemetry: bool) -> bool:
    if telemetry:
        # before anything is read or sent
        from runner.integrations.telemetry import need_otel

        need_otel()
    return telemetry


telemetry_option = click.option(
    "--telemetry",
    is_flag=True,
    callback=_telemetry,
    help="Tell OpenTelemetry of each attempt; the OTEL_* variables say where its collector is.",
)


def continue_options(command: F) -> F:
    """Add the argument and the options of a command that continues a run. What a run cannot take is refused by its state."""
    shown = detach_option(web_options(telemetry_option(yes_option(quiet_option(json_option(command))))))
    return run_argument(output_option(setting_options()(db_option(trust_option(shown)))))


def given_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that were given. The others are None, or an empty tuple if the option may be repeated."""
    return {name: value for name, value in settings.items() if value is not None and value != ()}


def warn_of_variables() -> None:
    """Say which ``RUNNER_*`` variables name no setting."""
    for sentence in unknown_variables(os.environ):
        click.echo(f"runner: {sentence}", err=True)


def gathered(into: str, *names: str) -> Callable[[F], F]:
    """Pass the named options to a command as one dictionary ``into``. This decorator must be the last, below the options."""

    def wrap(command: F) -> F:
        @functools.wraps(command)
        def call(**options: Any) -> Any:
            return command(**{into: {name: options.pop(name) for name in names}}, **options)

        return cast("F", call)

    return wrap


def csv_options(command: F) -> F:
    """Add the options for cells of CSV: ``raw``, ``csv_escape`` and ``csv_excel``."""
    for option in (
        click.option("--csv-excel", is_flag=True, help="Begin with the byte order mark by which Excel knows UTF-8."),
        click.option("--csv-escape", is_flag=True, help="Escape them in ids and in your own fields too."),
        click.option("--csv-raw", "raw", is_flag=True, help="Do not escape cells that look like formulas."),
    ):
        command = option(command)
    return command


def formats_of(formats: Sequence[str], targets: Sequence[str]) -> list[str | None]:
    """Return the format of each output, None where its ending tells it. Raises UsageError."""
    from runner.errors import UsageError
    from runner.text import plural

    if formats and len(formats) != len(targets):
        times = "once" if len(formats) == 1 else f"{len(formats):,} times"
        raise UsageError(f"--format is given {times} for {plural(len(targets), 'output')}; give it for each, in order")
    return [*formats] or [None] * len(targets)
