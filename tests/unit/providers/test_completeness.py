"""The stages of an answer, and what the answers of an endpoint teach about its finish reasons."""

import pytest

from runner.model import Stage
from runner.providers.completeness import MOST_MODELS, Completeness, Habits


def after(*calls: str, habits: Habits | None = None, model: str | None = "m") -> Stage:
    answer = Completeness(habits)
    for call in calls:
        match call:
            case "text":
                answer.text(model)
            case "usage":
                answer.usage(model)
            case _:
                answer.reason(model, behind_text=call == "reason")
    return answer.stage


@pytest.mark.parametrize(
    ("calls", "stage"),
    [
        ((), Stage.OPEN),
        (("text",), Stage.OPEN),
        (("usage",), Stage.OPEN),
        (("text", "usage"), Stage.OPEN),
        (("text", "with text"), Stage.REASON),
        (("text", "reason"), Stage.WHOLE),
        (("with text", "reason"), Stage.WHOLE),
        (("reason", "with text"), Stage.WHOLE),
        (("text", "with text", "usage"), Stage.COUNTED),
        (("text", "reason", "usage"), Stage.COUNTED),
        (("text", "reason", "usage", "reason"), Stage.COUNTED),
        (("reason", "text"), Stage.OPEN),
        (("with text", "text"), Stage.OPEN),
        (("reason", "usage", "text"), Stage.OPEN),
        # from then on, a reason shows nothing but that the body may end
        (("reason", "text", "reason"), Stage.REASON),
        (("with text", "text", "reason"), Stage.REASON),
        (("with text", "text", "reason", "usage"), Stage.COUNTED),
        # and the usage neither, where text has followed one
        (("reason", "usage", "text", "reason", "usage"), Stage.REASON),
    ],
)
def test_what_leads_to_which_stage(calls: tuple[str, ...], stage: Stage) -> None:
    assert after(*calls) is stage


def test_the_next_answers_of_the_model_are_doubted_and_those_of_others_are_not() -> None:
    habits = Habits()
    assert after("reason", habits=habits) is Stage.WHOLE
    after("reason", "text", habits=habits)
    assert after("text", "reason", habits=habits) is Stage.REASON
    assert after("text", "reason", habits=habits, model="another") is Stage.WHOLE
    assert after("text", "reason", habits=Habits()) is Stage.WHOLE


def test_a_server_that_makes_up_models_fills_no_memory() -> None:
    habits = Habits()
    for number in range(3 * MOST_MODELS):
        after("reason", "text", habits=habits, model=f"m-{number}")
    assert len(habits._models) == MOST_MODELS
    # what it has done once it may do with any model
    assert after("reason", habits=habits, model="new") is Stage.REASON


def test_another_answer_begins_open() -> None:
    answer = Completeness()
    answer.reason("m", behind_text=True)
    answer.restart()
    assert (answer.stage, answer.reasoned) == (Stage.OPEN, False)
