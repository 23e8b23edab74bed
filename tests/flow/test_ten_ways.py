"""A server that misbehaves in more than ten ways at once: at the end every row is accounted for, once, and rightly."""

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from misbehaving import ANSWERS, FAULTS, PARTIAL, Misbehaving, text_of
from processes import Started, assert_clean, rows, run, runner, write_prompts
from raw_server import RawServer, in_thread, stream

NUMBER = 300
ALWAYS = {90: "bad_request", 120: "server_error", 150: "not_an_api"}
"""Rows that never get an answer, and the code under which they must end; far from the first ones, which show that all is well."""


class Begun(NamedTuple):
    """A run on its way."""

    folder: Path
    server: RawServer
    faults: Misbehaving
    process: Started


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Begun]]:
    """Begin a run in either dialect, both at once: they wait far more than they work."""
    with ExitStack() as stack:
        runs = {}
        for dialect in ("openai", "anthropic"):
            folder, faults = tmp_path_factory.mktemp(dialect), Misbehaving(dialect, always=ALWAYS)
            write_prompts(folder / "prompts.jsonl", range(NUMBER))
            server = stack.enter_context(in_thread(RawServer(faults)))
            base_url = server.base_url if dialect == "openai" else server.origin
            command = (
                "run",
                "prompts.jsonl",
                "--provider",
                dialect,
                "--model",
                "m",
                "--base-url",
                base_url,
                "--silence-s",
                "1.5",
            )
            runs[dialect] = Begun(folder, server, faults, stack.enter_context(runner(*command, cwd=folder)))
        yield runs


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_ten_ways_at_once_and_every_row_is_accounted_for(begun: dict[str, Begun], dialect: str) -> None:
    folder, server, faults, process = begun[dialect]
    store = folder / "runner.db"
    ended = process.ended()
    assert_clean(ended)
    assert ended.code == 1, ended
    # it did meet them all
    assert set(faults.played) == {*FAULTS, *ANSWERS, *ALWAYS.values()}

    found: list[tuple[Any, ...]] = rows(store, "SELECT key, status, text, error_code FROM items ORDER BY position")
    expected = [
        (f"row-{number}", "failed", None, ALWAYS[number])
        if number in ALWAYS
        else (f"row-{number}", "done", text_of(number), None)
        for number in range(NUMBER)
    ]
    assert found == expected

    # the books hold what the server saw: all of it, and nothing else
    asked = {f"row-{number}": times for number, times in faults.asked.items()}
    booked: dict[str, int] = dict(rows(store, "SELECT item_key, count(*) FROM attempts GROUP BY 1"))
    assert booked == asked
    assert sum(booked.values()) == len(server.requests)
    assert rows(store, "SELECT count(*) FROM attempts WHERE sent") == [(sum(booked.values()),)]
    assert rows(store, "SELECT count(*) FROM attempts WHERE error_code IS NULL") == [(NUMBER - len(ALWAYS),)]
    # a refusal for good is sent once; a row that the server cannot do while it does others gets its attempts, and no more
    assert [faults.asked[number] for number in ALWAYS] == [1, 5, 1]
    assert rows(store, "SELECT number, error_code FROM attempts WHERE item_key = 'row-120' ORDER BY 1") == [
        (number, "server_error") for number in range(1, 6)
    ]
    # and of what broke off nothing is kept
    for path in folder.iterdir():
        assert PARTIAL.encode() not in path.read_bytes(), path.name

    # what failed can be had once the server can do it
    server.answers = lambda request: stream(*faults.events("at last", random.Random(0)))
    again = run("retry", cwd=folder)
    assert again.code == 0, again
    assert rows(store, "SELECT count(*) FROM items WHERE text = 'at last'") == [(len(ALWAYS),)]
    assert rows(store, "SELECT count(*) FROM items WHERE status = 'done'") == [(NUMBER,)]
