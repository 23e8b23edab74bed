"""``runner name`` and ``runner tag``: what a run is called, and how it is marked."""

from typing import TYPE_CHECKING

import click

from runner.cli.completing import complete_tags
from runner.cli.options import any_run_argument, db_option, json_option

if TYPE_CHECKING:
    from runner.model import Run


@click.command()
@any_run_argument
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--remove", is_flag=True, help="Take the name of the run away.")
@db_option
@json_option
def name(run_id: int | str, name: str | None, remove: bool, db: str, as_json: bool) -> None:
    """Give a run a name, by which every command finds it.

    RUN is its number, its name of before or its prompt file. A name has letters, digits, and - _ . between them, and is no
    number. Two runs of a store never have the same name.
    """
    from runner import api
    from runner.cli import chosen

    if (name is None) != remove:
        raise click.UsageError("write the new name behind RUN: `runner name 12 pilot`; or --remove, which takes the name away")
    found = api.name(chosen.run_number(run_id, db), name, db=db)
    _say(found, "has no name" if found.name is None else f"is called {found.name}", as_json=as_json)


@click.command()
@any_run_argument
@click.argument("tags", metavar="[TAG]...", nargs=-1)
@click.option("--remove", metavar="TAG", multiple=True, help="Take a tag away; repeatable.", shell_complete=complete_tags)
@db_option
@json_option
def tag(run_id: int | str, tags: tuple[str, ...], remove: tuple[str, ...], db: str, as_json: bool) -> None:
    """Add tags to a run, or take some away; without any, show them.

    RUN is its number, its name or its prompt file. TAG is a word, or a word and a value such as team=a. Another value of the same
    word replaces the old one. `runner list --tag TAG` shows the runs that have it.
    """
    from runner import api
    from runner.cli import chosen
    from runner.text import clean

    found = api.tag(chosen.run_number(run_id, db), tags, remove=remove, db=db)
    _say(found, f"has the tags {', '.join(map(clean, found.tags))}" if found.tags else "has no tags", as_json=as_json)


def _say(run: "Run", words: str, *, as_json: bool) -> None:
    from runner.cli import output

    click.echo(output.to_json({"run": run.id, "name": run.name, "tags": run.tags}) if as_json else f"run {run.id} {words}")
