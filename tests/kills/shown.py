"""What a session showed before it was killed, up to its last whole line: rows and counts that must then be in the store."""

import json
import re
from typing import Any, NamedTuple

_LINE = re.compile(r"\d{4}-\d\d-\d\d [\d:]{8} .*  ([\d,]+) done, ([\d,]+) failed, [\d,]+ left of ")
_HEADLINE = re.compile(r"run \d+: .*, [\d,]+ rows?, ([\d,]+) already done(?:, ([\d,]+) already failed)?$")
_SUMMARY = re.compile(r"run \d+ (?:not )?finished: ([\d,]+) done, ([\d,]+) failed")


class Shown(NamedTuple):
    """The rows that were named as done, the highest count of finished rows, and how many lines held such a count."""

    keys: frozenset[str]
    settled: int
    counts: int


NOTHING = Shown(frozenset(), 0, 0)


def shown(out: str, err: str) -> Shown:
    """Return what a process has shown, with ``--json`` or without."""
    keys: set[str] = set()
    counts: list[int] = []
    for line in [*_whole_lines(out), *_whole_lines(err)]:
        if line.startswith("{"):
            event = json.loads(line)
            if event["event"] == "item" and event["status"] == "done":
                keys.add(event["id"])
            counts += _counted(event)
        elif match := _HEADLINE.match(line) or _LINE.match(line) or _SUMMARY.match(line):
            counts.append(sum(_numbers(match)))
    return Shown(frozenset(keys), max(counts, default=0), len(counts))


def _counted(event: dict[str, Any]) -> list[int]:
    match event["event"]:
        case "started":
            return [event["restored"]]
        case "progress":
            return [event["restored"] + event["done"] + event["failed"]]
        case "finished":
            return [event["done"] + event["failed"]]
    return []


def _numbers(match: re.Match[str]) -> list[int]:
    return [int(group.replace(",", "")) for group in match.groups() if group]


def _whole_lines(text: str) -> list[str]:
    """Return the lines that were written to their end."""
    return text.split("\n")[:-1]
