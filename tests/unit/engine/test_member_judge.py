"""What one of several endpoints refuses: which rows are held for a fallback."""

import pytest

from runner.engine.limits.roster import Member, Roster
from runner.engine.member_judge import MemberJudge
from runner.errors import ProviderError


@pytest.mark.parametrize(
    ("code", "at", "on", "held"),
    [
        pytest.param("content_policy", 0, {"content_policy"}, True, id="content that a fallback may answer"),
        pytest.param("invalid_request", 0, {"content_policy"}, False, id="something else"),
        pytest.param("content_policy", 0, {"outage"}, False, id="not wanted"),
        pytest.param("content_policy", 1, {"content_policy"}, False, id="the fallback itself"),
    ],
)
def test_a_row_whose_content_is_refused_is_held_for_a_fallback(code: str, at: int, on: set[str], held: bool) -> None:
    members = [Member(number=0, name="e0"), Member(number=1, name="e1", fallback=True)]
    judge = MemberJudge(members[at], Roster(members, frozenset(on)), [], lambda _: None, model="m")
    error = ProviderError("refused", code=code, verdict="fail", status=400)
    # the user does not want refusals to be held
    assert judge.holds(error, "m", 10, patient=False) is held
