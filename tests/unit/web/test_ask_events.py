"""What a single prompt is told: words that are about a prompt, and not about a run."""

import re

import pytest

from runner.errors import RunStoppedError
from runner.remedies import ADVICE, OF_A_PROMPT, OTHERWISE
from runner.row_events import FirstToken, RowStarted, Token
from runner.web import ask_events
from runner.web.ask_limits import Window

NEVER = {"deadline", "killed", "no_workers", "worker_lost", *(code for code in ADVICE if code.startswith("batch_"))}
"""Codes that no prompt has: it has no deadline, no workers and no batch, and a killed server tells nobody."""


@pytest.mark.parametrize("code", sorted({*ADVICE, *OF_A_PROMPT, "another"} - NEVER))
def test_what_to_do_is_about_a_prompt(code: str) -> None:
    _, data = ask_events.failed(RunStoppedError("It is so. To go on: `runner resume`.", code=code), "ask-1")
    assert data["todo"] == (OF_A_PROMPT[code] if code != "another" else OTHERWISE)
    told = f"{data['error']} {data['todo']}"
    assert not re.search(r"`runner (?!web`)|\brows\b|command", told), told
    assert set(re.findall(r"--[a-z-]+", told)) <= {"--max-cost-ask"}


def test_pieces_that_follow_on_each_other_are_one() -> None:
    def piece(text: str, at: int, kind: str = "text", attempt: int = 1) -> Token:
        return Token(id="a", attempt=attempt, kind=kind, text=text, at=at)  # type: ignore[arg-type]

    told = [
        RowStarted(id="a", line=1, attempt=1, model="m"),
        FirstToken(id="a", attempt=1, after_s=1.0),
        piece("a", 0),
        piece("\U0001f600", 1),
        piece("b", 2),
        piece("c", 0, "reasoning"),
        piece("d", 3),
        piece("e", 3),
        RowStarted(id="a", line=1, attempt=2, model="n"),
        piece("f", 0, attempt=2),
    ]
    found = [(data["text"], data["at"], data["kind"], data["attempt"]) for data in ask_events.tokens(told)]
    texts = [("a\U0001f600b", 0, "text", 1), ("c", 0, "reasoning", 1), ("d", 3, "text", 1), ("e", 3, "text", 1)]
    assert found == [*texts, ("f", 0, "text", 2)]
    begun = ask_events.started(told)
    assert begun is not None
    assert (begun.attempt, begun.model) == (2, "n")
    assert ask_events.encoded({"text": "\ud800\n"}) == '{"text":"\N{REPLACEMENT CHARACTER}\\n"}'


def test_the_window_slides_and_forgets() -> None:
    now = 0.0
    window = Window(2, 60.0, lambda: now)
    assert [window.ask("a"), window.ask("a"), window.ask("b")] == [0, 0, 0]
    now = 30.5
    assert window.ask("a") == 30
    now = 60.0
    # what was refused did not count
    assert [window.ask("a"), window.ask("a"), window.ask("a")] == [0, 0, 60]
    for number in range(2_000):
        window.ask(str(number))
    assert len(window._asked) <= 1_000
