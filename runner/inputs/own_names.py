"""Adds what runner knows of a row to the fields that the row came with. Pure."""

from collections.abc import Mapping

from runner.model import Json

ANSWER = "answer"
"""The field that holds the answer."""
NUMBER = "answer_number"
"""The field that tells which answer it is, where a row has several."""


def added(fields: Mapping[str, Json], ours: Mapping[str, Json]) -> dict[str, Json]:
    """Return fields with ours behind them. A field of the row with the name of one of ours is called otherwise (``free``)."""
    found = dict(fields)
    for name, value in ours.items():
        if name in found:
            other = free(found, name)
            found = {other if key == name else key: kept for key, kept in found.items()}
        found[name] = value
    return found


def free(fields: Mapping[str, Json], ours: str) -> str:
    """Return a name for the field of a row that has the name of one of ours."""
    number = 2
    while f"{ours}_{number}" in fields:
        number += 1
    return f"{ours}_{number}"
