"""Options of ``runner simulate`` about batches."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from runner.cli.options import count, seconds

F = TypeVar("F", bound=Callable[..., Any])


def _share(name: str, about: str) -> Callable[[F], F]:
    return click.option(name, type=float, default=0, metavar="SHARE", help=about)


def batch_options(command: F) -> F:
    """Add the options to a command. Their names are those of the fields of ``Behaviour``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--batch-delay",
        "batch_delay_s",
        type=seconds,
        default=1,
        show_default=True,
        metavar="SECONDS",
        help="Mean time until a batch ends, such as 30s.",
    ),
    click.option(
        "--batch-window",
        "batch_window_s",
        type=seconds,
        default=86_400,
        show_default="24h",
        metavar="SECONDS",
        help="Time after which a batch expires.",
    ),
    _share("--batch-expire", "Share of the requests in batches that expire."),
    _share("--batch-fail", "Share of the requests in batches that are refused with an error."),
    click.option(
        "--batch-fail-status",
        type=count(),
        default=400,
        metavar="400|429|500|503|529",
        show_default=True,
        help="Status of such an error.",
    ),
    _share("--batch-missing", "Share of the answers in batches that are billed, but not among the results."),
    _share("--batch-twice", "Share of the answers in batches that are twice among the results."),
    _share("--batch-odd", "Share of the answers in batches that come with status 0 or without a body."),
    _share("--batch-unasked", "Lines of results that nobody asked for, as a share of the answers."),
    click.option("--batch-shuffle", is_flag=True, help="Give results in random order."),
    click.option(
        "--batch-cancel",
        "batch_cancel_s",
        type=seconds,
        default=0,
        metavar="SECONDS",
        help="Time that a cancelled batch takes to end.",
    ),
    _share("--batch-cancel-done", "Share of a cancelled batch that is answered in any case; 1: the cancel comes too late."),
    click.option("--batch-queue-tokens", type=count(1), metavar="N", help="Tokens that all open batches may hold together."),
    click.option(
        "--batch-queue-full",
        type=click.Choice(["fail", "refuse"]),
        default="fail",
        show_default=True,
        help="What happens to a batch for which there is no room: it fails after its creation, or is refused with 429.",
    ),
    click.option("--batch-lines", type=count(1), metavar="N", help="Most requests of a batch. Default: 50,000 or 100,000."),
    click.option("--batch-bytes", type=count(1), metavar="N", help="Most bytes of a batch. Default: 200 or 256 MB."),
    click.option(
        "--batch-break", "batch_break_bytes", type=count(1), metavar="N", help="Break each download off once, after N bytes."
    ),
    click.option("--batch-gzip", is_flag=True, help="Send results with gzip, whatever the client accepts."),
    click.option(
        "--batch-create", "batch_create_s", type=seconds, default=0, metavar="SECONDS", help="Answer late that a batch was made."
    ),
    click.option(
        "--batch-not-found",
        "batch_404",
        type=count(),
        default=0,
        metavar="N",
        help="Answer the first N looks at each batch with 404.",
    ),
    click.option(
        "--batch-kept",
        "batch_kept_s",
        type=seconds,
        metavar="SECONDS",
        help="Time for which results are kept. Default: to the end.",
    ),
)
