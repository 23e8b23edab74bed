"""The beginnings of requests that others may share."""

from typing import Any

import pytest

from runner.engine.prefixes import Link, only_head, size_of, whole_texts
from runner.model import Params, Request

LONG = "x" * 100


def request(*messages: dict[str, Any], **more: Any) -> Request:
    return Request(**{"model": "m", "messages": messages, **more})


def said(*texts: str, roles: str = "user") -> tuple[dict[str, str], ...]:
    return tuple({"role": roles, "content": text} for text in texts)


ALL = whole_texts(None, 0)


def shared(one: Request, other: Request) -> list[tuple[int, int]]:
    """The places up to which two requests are the same."""
    hashes = {link.hash for link in ALL(other)}
    return [link.place for link in ALL(one) if link.hash in hashes]


def test_a_beginning_ends_with_the_system_text_and_with_each_message() -> None:
    links = ALL(request(*said("a", "b"), system="S"))
    assert [link.place for link in links] == [(0, 0), (1, 0), (2, 0)]
    assert [link.size for link in links] == sorted(link.size for link in links)
    assert [link.place for link in ALL(request(*said("a")))] == [(1, 0)]


def test_what_two_requests_share() -> None:
    one = request(*said("a", "b"), system="S")
    assert shared(one, request(*said("a", "c"), system="S")) == [(0, 0), (1, 0)]
    assert shared(one, request(*said("b", "a"), system="S")) == [(0, 0)]
    # nothing behind a difference is shared, whatever it says
    assert shared(one, request(*said("a", "b"), system="T")) == []
    # the system text is not sent if a message has one
    assert shared(request(*said("a"), system="S"), request({"role": "system", "content": "S"}, *said("a"))) == [(0, 0), (1, 0)]
    assert shared(request({"role": "system", "content": "S"}, system="A"), request({"role": "system", "content": "S"})) == [
        (1, 0)
    ]


@pytest.mark.parametrize("more", [{"model": "n"}, {"params": Params(extra_body={"tools": []})}])
def test_another_model_or_other_tools_share_nothing(more: dict[str, Any]) -> None:
    assert shared(request(*said("a")), request(*said("a"), **more)) == []
    # a limit of the answer is no part of what is cached
    assert shared(request(*said("a")), request(*said("a"), params=Params(max_tokens=5))) == [(1, 0)]


def test_a_short_beginning_does_not_count() -> None:
    links = whole_texts(None, 300)(request(*said(LONG, LONG, LONG, LONG)))
    assert [link.place for link in links] == [(3, 0), (4, 0)]


@pytest.mark.parametrize(
    ("head", "one", "other", "places"),
    [
        ((0, 4), request(*said("Sum: a")), request(*said("Sum: b")), [(0, 4)]),
        ((1, 2), request(*said("a", "Q: b"), system="S"), request(*said("a", "Q: c"), system="S"), [(0, 0), (1, 0), (1, 2)]),
        # within the system text
        ((-1, 3), request(*said("a"), system="In de"), request(*said("a"), system="In fr"), [(-1, 3)]),
        # a system text of the row's own
        ((0, 4), request(*said("Sum: a")), request(*said("Sum: a"), system="S"), []),
    ],
)
def test_the_head_of_a_template_is_a_beginning(head: Any, one: Request, other: Request, places: Any) -> None:
    find = whole_texts(head, 0)
    hashes = {link.hash for link in find(other)}
    assert [link.place for link in find(one) if link.hash in hashes] == places
    (first, second) = (only_head(head)(each) for each in (one, other))
    assert ([link.place for link in first if link in second]) == [place for place in places if place == head]


def test_the_size_is_that_of_the_text_in_bytes() -> None:
    (link,) = only_head((0, 4))(request(*said("äöü a")))
    assert link == Link(link.hash, (0, 4), 7)


def test_files_and_what_is_no_text_end_the_beginnings() -> None:
    parts = {"role": "user", "content": [object()]}
    assert [link.place for link in ALL(request(*said("a"), parts, *said("b"), media=True))] == [(1, 0)]
    assert [link.place for link in ALL(request(*said("a"), parts, *said("b")))] == [(1, 0)]
    assert [link.place for link in ALL(request({"role": "user"}, {"role": "user", "content": None}))] == [(1, 0), (2, 0)]
    assert ALL(request(*said("\ud800"))) == []
    assert size_of(request(*said("abc"), parts)) == 1_003
