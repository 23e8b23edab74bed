"""The short form of the kill harness; ``python -m tests.kills`` is the long one."""

import secrets
from pathlib import Path

import pytest
from kills.campaign import AUTO, SHORT, SHORT_AROUND, Form, carry_out
from kills.command import table


@pytest.mark.parametrize("form", [SHORT, SHORT_AROUND, AUTO], ids=["fixed", "fixed around the work", "auto"])
def test_a_run_that_is_killed_again_and_again(tmp_path: Path, form: Form) -> None:
    said: list[str] = []
    verdict = carry_out(form, secrets.token_hex(4), tmp_path, said.append)
    assert verdict.broken == [], "\n".join([*table(verdict), *said])
    assert verdict.bill.kills == sum(form.aims.values())
