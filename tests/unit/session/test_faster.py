"""The sentence on what would make a session faster: true for each case, silent where nobody can tell, and its options exist."""

import re
from typing import Any

import pytest

from runner.cli.time_spent import WIDTH, lines, percents
from runner.config.settings import SETTINGS
from runner.config.values import check
from runner.session.faster import advice, with_advice
from runner.time_ledger import CAUSES, TimeLedger, ledger_of

LONG: dict[str, Any] = {"elapsed_s": 100.0, "requests": 1_000, "slots": 64, "ceiling": 64, "in_flight": 60.0}
SPEED: dict[str, Any] = {"streamed": 1_000, "first_token_s": 3.04, "best_first_token_s": 0.4}


def ledger(causes: dict[str, float], **more: Any) -> TimeLedger:
    return ledger_of(causes, sum(causes.values()), **{**LONG, **more})


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (
            ledger({"rpm": 94, "answering": 6}, limits={"rpm": 500.0}),
            "94 % of the time the limit of 500 requests a minute held requests back: ask the provider for a higher limit",
        ),
        (
            ledger({"input_tpm": 60, "answering": 40}, limits={"input_tpm": 2e6}, own_limits=("input_tpm",)),
            (
                "60 % of the time the limit of 2,000,000 input tokens a minute held requests back: "
                "raise --input-tpm, if the server allows more"
            ),
        ),
        (
            ledger({"rpm": 94, "answering": 6}, limits={"rpm": 6.0}, own_limits=("rpm",), borrowed_limits=("rpm",)),
            (
                "94 % of the time a limit of requests a minute held requests back, which another run had set: "
                "raise it there, or keep this run apart with --no-share"
            ),
        ),
        (
            # a queue of less than a fifth is no sentence of its own
            ledger({"answering": 84, "first_token": 12, "end": 4}, slots=8, ceiling=8, **SPEED),
            "all 8 slots were in use 96 % of the time: --concurrency 16 sends more at once, if the server takes it",
        ),
        (
            ledger({"pause": 50, "answering": 50}),
            (
                "50 % of the time requests waited after the server had refused some: ask for a higher limit, or set --rpm, "
                "--tpm or --concurrency to what it takes"
            ),
        ),
        (
            ledger({"halt": 21, "rpm": 1, "answering": 78}),
            "21 % of the time the session was paused by hand: nothing was sent",
        ),
        (
            ledger({"answering": 20, "first_token": 80}, **SPEED),
            (
                "the server took 3 s to its first token with 60 requests in flight, and 0.4 s at best: more at once will not be "
                "faster, more of its replicas will"
            ),
        ),
        (
            ledger({"answering": 98, "turn": 2}),
            "all 64 slots were in use 98 % of the time: --concurrency 128 sends more at once, if the server takes it",
        ),
        (
            ledger({"answering": 98, "turn": 2}, tuned=True, slots=256, ceiling=256),
            "all 256 slots were in use 98 % of the time: --max-concurrency 512 sends more at once, if the server takes it",
        ),
        (ledger({"outage": 70, "answering": 30}), "70 % of the time the server was down: nothing here would have made it faster"),
        (
            ledger({"retry": 30, "answering": 70}),
            "30 % of the time rows waited for another attempt: what the failed attempts ended with is to be mended first",
        ),
        (
            ledger({"saving": 30, "answering": 70}),
            "30 % of the time answers waited to be saved: put the store on a local disk, with --db",
        ),
        (
            ledger({"answering": 100}, busy_s=96.0),
            (
                "this process is the limit, it computed 96 % of the time: several processes do more: give each a part of the "
                "rows as an input of its own"
            ),
        ),
    ],
)
def test_the_sentence(found: TimeLedger, sentence: str) -> None:
    assert advice(found) == sentence


@pytest.mark.parametrize(
    "found",
    [
        ledger({"rpm": 94, "answering": 6}, elapsed_s=4.0),
        ledger({"rpm": 94, "answering": 6}, requests=20),
        TimeLedger(),
        # it tunes itself, and has found that the server takes no more
        ledger({"answering": 95, "turn": 5}, tuned=True, slots=48, ceiling=256),
        # the rows were too few, or their number ended
        ledger({"answering": 40, "end": 60}),
        ledger({"turn": 40, "answering": 60}),
    ],
)
def test_no_sentence_where_nobody_can_tell(found: TimeLedger) -> None:
    assert advice(found) is None


def sentences() -> list[str]:
    cases = [ledger({cause: 60, "answering": 40}, **SPEED, **more) for cause in CAUSES for more in ({}, {"tuned": True})]
    cases += [
        ledger({kind: 60, "answering": 40}, limits={kind: 5e4}, own_limits=(kind,)) for kind in ("rpm", "tpm", "output_tpm")
    ]
    cases.append(ledger({"rpm": 60, "answering": 40}, borrowed_limits=("rpm",)))
    return [words for words in map(advice, [*cases, ledger({"answering": 100})]) if words is not None]


def test_each_option_in_a_sentence_exists_and_takes_its_value() -> None:
    known = {setting.option: setting for setting in SETTINGS}
    known |= {setting.option.replace("--", "--no-"): setting for setting in SETTINGS if setting.kind == "bool"}
    found = [pair for words in sentences() for pair in re.findall(r"(--[a-z-]+)(?: (\d+))?", words)]
    assert {"--concurrency", "--rpm", "--db", "--max-cost", "--flex-patience", "--no-warm-prefix"} <= {name for name, _ in found}
    for name, value in found:
        if name == "--db":
            continue
        assert not value or check(known[name], int(value), "given") == int(value)
        assert name in known


def test_the_lines_fit_a_narrow_terminal_and_the_shares_add_up_to_100() -> None:
    for cause in CAUSES:
        found = with_advice(ledger({cause: 61.4, "answering": 33.3, "retry": 3.3, "turn": 1.7, "end": 0.3}, **SPEED))
        assert found is not None
        assert sum(percents(found).values()) == 100
        shown = lines(found)
        assert max(map(len, shown)) <= WIDTH
        assert shown[0].startswith("  time          ")
        assert all(line.startswith(" " * 16) for line in shown[1:])
    assert lines(None) == lines(TimeLedger()) == []
