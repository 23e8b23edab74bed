"""A mixed run with a time to be done by, at a provider that does not answer in time. Real processes and HTTP."""

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest
from processes import QUICK, rows, run, simulator, write_prompts

from runner import api
from runner.batches import BATCH_TIER

PRICES = ("--prices", json.dumps({"m": {"input": 2.0, "output": 8.0, "batch": 0.5}}))
KEYS = {"OPENAI_API_KEY": "sk-test-0000000000000001", "ANTHROPIC_API_KEY": "sk-ant-test-0000000001"}
ROWS, WITHIN_S = 120, 6


@pytest.mark.parametrize(("dialect", "answered"), [("openai", "0.3"), ("anthropic", "1")])
def test_what_is_not_back_goes_live_in_time_and_what_a_batch_answers_late_counts_once(
    tmp_path: Path, dialect: str, answered: str
) -> None:
    write_prompts(tmp_path / "prompts.jsonl", range(ROWS))
    slow = ("--batch-delay", "60", "--batch-cancel", "3", "--batch-cancel-done", answered)
    with simulator(*QUICK, *PRICES, *slow) as server:
        where = ("--provider", dialect, "--model", "m", "--base-url", server.base_url(dialect), "--max-tokens", "60")
        how = ("--mode", "mixed", "--within", f"{WITHIN_S}s", "--concurrency", "2")
        ended = run("run", "prompts.jsonl", *where, *PRICES, *how, cwd=tmp_path, env=KEYS)
        bill = server.invoice(lines=True)
    assert ended.code == 0, ended
    assert max(int(found.replace(",", "")) for found in re.findall(r"([\d,]+) done", ended.err)) <= ROWS
    run_, books = api.status(1, db=tmp_path / "runner.db")
    assert run_.done == ROWS
    # each answer is on the books at its own price: what was asked for live, and what the batches had answered by then
    assert books.tiers[BATCH_TIER] > 0
    assert sum(books.tiers.values()) == len(bill["lines"]) > ROWS
    ((spent,),) = rows(
        tmp_path / "runner.db",
        "SELECT sum(input_tokens * p.input + output_tokens * p.output) FROM attempts a JOIN prices p ON p.id = a.price_id",
    )
    assert Decimal(spent).scaleb(-12) == Decimal(bill["amount"])


def test_rows_go_live_at_flex_where_prices_say_it_is_cheaper_then_at_the_standard_tier(tmp_path: Path) -> None:
    write_prompts(tmp_path / "prompts.jsonl", range(20))
    priced = ("--prices", json.dumps({"m": {"input": 2.0, "output": 8.0, "batch": 0.5, "flex": 0.5}}))
    full = ("--batch-delay", "0.2", "--batch-expire", "1", "--flex-full", "0.4")
    with simulator(*QUICK, *priced, *full) as server:
        where = ("--provider", "openai", "--model", "m", "--base-url", server.base_url("openai"), "--max-tokens", "60")
        ended = run("run", "prompts.jsonl", *where, *priced, "--mode", "mixed", "--flex-patience", "0", cwd=tmp_path, env=KEYS)
        bill = server.invoice(lines=True)
    assert ended.code == 0, ended
    run_, books = api.status(1, db=tmp_path / "runner.db")
    assert run_.done == sum(books.tiers.values()) == len(bill["lines"]) == 20
    # answers of the standard tier, which was asked for by its name nowhere, name none
    assert set(books.tiers) == {"flex", ""}
