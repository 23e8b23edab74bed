"""The short form of the kill harness; ``python -m tests.kills`` is the long one."""

import secrets
from pathlib import Path

from kills.campaign import AUTO, PARQUET, SHORT, SHORT_AROUND, carry_out
from kills.command import table

FORMS = {"fixed": SHORT, "fixed around the work": SHORT_AROUND, "auto over CSV": AUTO, "Parquet": PARQUET}


def test_a_run_that_is_killed_again_and_again(tmp_path: Path) -> None:
    """One after another, in one test: side by side they would slow each other down and miss the instants of their kills."""
    for name, form in FORMS.items():
        said: list[str] = []
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        verdict = carry_out(form, secrets.token_hex(4), folder, said.append, fresh=False)
        assert verdict.broken == [], "\n".join([name, *table(verdict), *said])
        assert verdict.bill.kills == sum(form.aims.values())
