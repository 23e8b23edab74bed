"""Generates the table of ``docs/reference/settings.md`` from the settings."""

from pathlib import Path

from pages import Part

from runner.config.settings import SETTINGS, Setting

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"
BEGIN, END = "<!-- made by tests/support/settings_page.py -->\n", "<!-- end -->\n"
HEAD = "| key, option, variable | what it does | value | default | another run |\n|---|---|---|---|---|\n"
KINDS = {
    "text": "text",
    "int": "whole number",
    "float": "number",
    "texts": "text, or a list of texts",
    "json": "JSON object",
    "slots": "`auto` or a whole number",
    "bool": "`true` or `false`",
    "span": "seconds, or a time such as `30m` or `02:00:00`",
    "share": "a number, or a percentage such as `2%`",
    "headers": "table of texts",
    "query": "table of texts",
    "messages": "list of messages",
    "tables": "list of tables",
    "prices": "`list`, or table of prices by model",
    "schema": "file, or a JSON Schema as a table",
}


def table() -> str:
    """Return the table, a row for each setting in the order of the code."""
    return HEAD + "".join(f"| {' | '.join(cells(setting))} |\n" for setting in SETTINGS)


def cells(setting: Setting) -> tuple[str, ...]:
    """Return the cells of a setting's row."""
    return (
        # three columns of long names would leave no room for what it does
        f"`{setting.key}`<br>`{setting.option}`<br>`{setting.variable}`",
        setting.help.replace("|", r"\|"),
        value(setting),
        default(setting),
        "yes" if setting.answer else "no",
    )


def value(setting: Setting) -> str:
    """Return words for the values that a setting accepts, with their bound."""
    if setting.choices:
        return " or ".join(f"`{choice}`" for choice in setting.choices)
    words = KINDS[setting.kind]
    if setting.least is None:
        return words
    included = setting.inclusive or setting.kind in ("int", "slots")
    return f"{words}, {setting.least:g} or more" if included else f"{words}, above {setting.least:g}"


def default(setting: Setting) -> str:
    """Return the default as it is written; empty if the setting has none."""
    if setting.default is None:
        return ""
    if isinstance(setting.default, bool):
        return f"`{str(setting.default).lower()}`"
    return f"`{setting.default:g}`" if isinstance(setting.default, int | float) else f"`{setting.default}`"


PART = Part(PAGE, BEGIN, END, table)
"""The table in its page."""
