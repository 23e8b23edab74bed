"""The simulator's pure parts: shares of faults, draws, text, limits, scripts. No socket, no clock."""

import json
from collections import Counter

import pytest

from runner import simulator
from runner.errors import UsageError
from runner.simulator import FAULTS, Behaviour, Simulator, parse_faults
from runner.simulator.anthropic import Anthropic
from runner.simulator.dialect import Ask, Dialect, Refusal, Window
from runner.simulator.draw import Chance, Draw
from runner.simulator.limits import Limits
from runner.simulator.openai import OpenAI, duration
from runner.simulator.script import Script, answer, script
from runner.simulator.stats import Flight
from runner.simulator.text import compose, echo

DIALECTS: list[Dialect] = [OpenAI(), Anthropic()]
ASK = Ask(model="m", stream=True, max_tokens=None)


def draw(fault: str | None = None, *, tokens: int = 5, cut: float = 0.5) -> Draw:
    return Draw(answer_id="ab" * 16, fault=fault, wait_s=0.0, tokens=tokens, cut=cut, root=b"root")


def played(dialect: Dialect, ask: Ask, drawn: Draw) -> Script:
    whole = answer(ask, drawn, input_tokens=3, created=1_700_000_000)
    return script(dialect, ask, drawn, whole, "req_1")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_every_public_name_exists_and_is_documented() -> None:
    for name in simulator.__all__:
        # A mapping has no docstring of its own.
        assert getattr(simulator, name) is FAULTS or getattr(simulator, name).__doc__
    assert simulator.__doc__


def test_faults_are_named_and_described() -> None:
    assert list(FAULTS) == [
        "429",
        "500",
        "503",
        "529",
        "disconnect",
        "truncate",
        "stall",
        "malformed",
        "error_event",
        "length",
        "json",
        "empty",
        "invalid_json",
    ]
    assert all(line and "\n" not in line for line in FAULTS.values())


def test_shares_are_read() -> None:
    assert parse_faults([]) == {}
    assert parse_faults(["429=0.1", " truncate = 5e-2 ", "stall=0"]) == {"429": 0.1, "truncate": 0.05, "stall": 0.0}
    assert sum(parse_faults([f"{name}=0.1" for name in list(FAULTS)[:10]]).values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["429"], "fault '429' needs a share, such as 429=0.1"),
        (["=0.1"], "unknown fault ''"),
        (["truncat=0.1"], "unknown fault 'truncat'; did you mean 'truncate'?"),
        (["Stalled=0.1"], "did you mean 'stall'?"),
        (["xyz=0.1"], "available: 429, 500"),
        (["429=ten"], "the share of fault '429' must be a number from 0 to 1, not 'ten'"),
        (["429=1.5"], "the share of fault '429' must be from 0 to 1, not 1.5"),
        (["429=-0.1"], "must be from 0 to 1"),
        (["429=nan"], "must be from 0 to 1"),
        (["429=0.1", "429=0.2"], "fault '429' is given twice"),
        (["429=0.6", "500=0.6"], "the shares of all faults add up to 1.2"),
    ],
)
def test_wrong_shares_are_one_clear_sentence(texts: list[str], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_faults(texts)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"tokens": 0},
        {"rpm": 0},
        {"tpm": -1},
        {"max_in_flight": 0},
        {"chunk_s": -0.1},
        {"first_token_s": float("inf")},
        {"fill": -0.1},
        {"fill": 1.1},
        {"fill": float("nan")},
        {"faults": {"nope": 0.1}},
        {"faults": {"429": 2.0}},
    ],
)
def test_a_behaviour_that_makes_no_sense_cannot_be_built(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Behaviour(**wrong)  # type: ignore[arg-type]


def test_the_key_is_not_shown() -> None:
    shown = repr(Behaviour(key="sk-canary", rpm=3))
    assert "sk-canary" not in shown
    assert "rpm=3" in shown


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_cannot_exist_is_refused(port: int) -> None:
    with pytest.raises(UsageError):
        Simulator(Behaviour(), port=port)


def test_a_simulator_that_was_not_started_has_no_address() -> None:
    with pytest.raises(RuntimeError):
        _ = Simulator(Behaviour()).url


def test_draws_depend_on_seed_body_and_repetition_only() -> None:
    bodies = [b"body %d" % number for number in range(50)]
    one, other = Chance(Behaviour(faults={"429": 0.5})), Chance(Behaviour(faults={"429": 0.5}))
    first = {body: [one.draw(body), one.draw(body)] for body in bodies}
    for body in reversed(bodies):
        assert other.draw(body) == first[body][0]
    for body in bodies:
        assert other.draw(body) == first[body][1]
    assert all(once != again for once, again in first.values())
    assert len({drawn.answer_id for pair in first.values() for drawn in pair}) == 100
    assert Chance(Behaviour(seed=1, faults={"429": 0.5})).draw(bodies[0]) != first[bodies[0]][0]


def test_draws_follow_the_shares_and_the_means() -> None:
    behaviour = Behaviour(tokens=40, first_token_s=2.0, faults={"429": 0.2, "stall": 0.1})
    chance = Chance(behaviour)
    drawn = [chance.draw(b"%d" % number) for number in range(4000)]
    faults = Counter(each.fault for each in drawn)
    assert faults["429"] / 4000 == pytest.approx(0.2, abs=0.03)
    assert faults["stall"] / 4000 == pytest.approx(0.1, abs=0.03)
    assert set(faults) == {None, "429", "stall"}
    assert sum(each.tokens for each in drawn) / 4000 == pytest.approx(40, abs=1)
    assert sum(each.wait_s for each in drawn) / 4000 == pytest.approx(2, abs=0.1)
    assert min(each.tokens for each in drawn) >= 20
    assert max(each.tokens for each in drawn) <= 60
    assert all(0 <= each.cut < 1 for each in drawn)


def test_faults_change_nothing_else_and_their_order_does_not_matter() -> None:
    calm = Chance(Behaviour()).draw(b"x")
    one = Chance(Behaviour(faults={"500": 0.5, "429": 0.5})).draw(b"x")
    other = Chance(Behaviour(faults={"429": 0.5, "500": 0.5})).draw(b"x")
    assert one == other
    assert (calm.tokens, calm.wait_s, calm.noise(99)) == (one.tokens, one.wait_s, one.noise(99))


def test_a_share_of_one_strikes_always() -> None:
    chance = Chance(Behaviour(faults={"empty": 1.0}))
    assert {chance.draw(b"same").fault for _ in range(200)} == {"empty"}


def test_old_bodies_are_forgotten() -> None:
    chance = Chance(Behaviour(), remembered=2)
    first = chance.draw(b"a")
    for body in (b"b", b"a", b"c", b"d"):
        chance.draw(body)
    assert chance.draw(b"a") == first


def test_text_is_plainly_synthetic_and_fit_for_json() -> None:
    drawn = draw()
    chunks = compose(drawn.noise(3000), finished=True)
    assert len(chunks) == 3000
    text = json.loads(b'"' + b"".join(chunks) + b'"')
    assert text.startswith("[simulated answer] ")
    assert text.endswith(".")
    assert not text.isascii()
    assert "\n\n" in text
    assert '"roughly"' in text.lower()
    assert compose(b"", finished=True) == []
    assert compose(drawn.noise(10), finished=False) == chunks[:10]


@pytest.mark.parametrize("count", range(1, 40))
def test_a_finished_text_ends_its_sentence(count: int) -> None:
    chunks = compose(draw().noise(count), finished=True)
    assert len(chunks) == count
    assert count == 1 or chunks[-1].endswith(b".")


def test_max_tokens_cuts_the_answer() -> None:
    cut = answer(Ask(model="m", stream=True, max_tokens=3), draw(tokens=5), input_tokens=1, created=0)
    assert (len(cut.chunks), cut.finish) == (3, "length")
    exact = answer(Ask(model="m", stream=True, max_tokens=5), draw(tokens=5), input_tokens=1, created=0)
    assert (len(exact.chunks), exact.finish) == (5, "stop")


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("cut", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("tokens", [1, 2, 9])
def test_cut_answers_carry_some_text_and_no_ending(dialect: Dialect, cut: float, tokens: int) -> None:
    for fault, ending in (("truncate", "end"), ("disconnect", "reset"), ("stall", "stall"), ("error_event", "end")):
        shown = played(dialect, ASK, draw(fault, tokens=tokens, cut=cut))
        stream = b"".join(shown.parts)
        assert shown.ending == ending
        assert b"[simulated answer]" in stream
        assert b"[DONE]" not in stream
        assert b"message_stop" not in stream
        assert stream.count(b"overloaded") > 0 if fault == "error_event" else b"overloaded" not in stream


@pytest.mark.parametrize("dialect", DIALECTS)
def test_faults_in_plain_answers(dialect: Dialect) -> None:
    ask = Ask(model="m", stream=False, max_tokens=None)
    whole = json.loads(played(dialect, ask, draw()).parts[0])
    assert whole["model"] == "m"
    for fault, ending in (("truncate", "end"), ("disconnect", "reset"), ("stall", "stall"), ("malformed", "end")):
        shown = played(dialect, ask, draw(fault))
        assert shown.ending == ending
        with pytest.raises(json.JSONDecodeError):
            json.loads(shown.parts[0])
    assert "error" in json.loads(played(dialect, ask, draw("error_event")).parts[0])


def test_a_bucket_admits_a_minute_s_worth_and_then_refills_evenly() -> None:
    clock = Clock()
    limits = Limits(rpm=3, tpm=None, max_in_flight=None, clock=clock)
    for _ in range(3):
        limits.admit(10)
    with pytest.raises(Refusal) as caught:
        limits.admit(10)
    assert caught.value.retry_after_s == 20
    assert caught.value.limit == "requests"
    assert limits.windows() == [Window(kind="requests", limit=3, remaining=0, reset_s=60.0)]
    clock.now = 19.5
    with pytest.raises(Refusal) as caught:
        limits.admit(10)
    assert caught.value.retry_after_s == 1
    clock.now = 20.0
    limits.admit(10)
    clock.now = 1000.0
    assert limits.windows()[0].remaining == 3
    assert limits.windows()[0].reset_s == 0


def test_tokens_of_answers_count_and_may_go_into_debt() -> None:
    clock = Clock()
    limits = Limits(rpm=100, tpm=600, max_in_flight=None, clock=clock)
    limits.admit(100)
    limits.spend(700)
    requests, tokens = limits.windows()
    assert (requests.remaining, tokens.remaining) == (99, 0)
    assert tokens.reset_s == pytest.approx(80)
    with pytest.raises(Refusal) as caught:
        limits.admit(10)
    assert caught.value.limit == "tokens"
    assert caught.value.retry_after_s == 21
    # A refused request takes nothing from any limit.
    assert limits.windows()[0].remaining == 99


def test_a_request_above_the_limit_goes_when_the_bucket_is_full() -> None:
    clock = Clock()
    limits = Limits(rpm=None, tpm=60, max_in_flight=None, clock=clock)
    limits.admit(100)
    with pytest.raises(Refusal) as caught:
        limits.admit(100)
    assert caught.value.retry_after_s == 100
    clock.now = 100.0
    limits.admit(100)


def test_no_more_at_once_than_allowed() -> None:
    limits = Limits(rpm=None, tpm=None, max_in_flight=2)
    limits.admit(1)
    limits.admit(1)
    with pytest.raises(Refusal) as caught:
        limits.admit(1)
    assert (caught.value.status, caught.value.retry_after_s) == (429, 1)
    limits.leave()
    limits.admit(1)
    assert limits.flight.most == 2
    assert limits.windows() == []


def test_a_bucket_may_begin_with_a_part_or_nothing() -> None:
    clock = Clock()
    limits = Limits(rpm=60, tpm=None, max_in_flight=None, fill=0.05, clock=clock)
    for _ in range(3):
        limits.admit(1)
    with pytest.raises(Refusal):
        limits.admit(1)
    empty = Limits(rpm=60, tpm=None, max_in_flight=None, fill=0.0, clock=clock)
    with pytest.raises(Refusal) as caught:
        empty.admit(1)
    assert (caught.value.cause, caught.value.retry_after_s) == ("limit", 1)
    clock.now = 1.0
    empty.admit(1)


def test_limits_change_while_they_are_in_force() -> None:
    clock = Clock()
    limits = Limits(rpm=60, tpm=None, max_in_flight=None, clock=clock)
    for _ in range(50):
        limits.admit(1)
    # The level stays, and the refill up to now took place at the old rate.
    clock.now = 5.0
    limits.change(rpm=6000, tpm=None, max_in_flight=None)
    assert limits.windows()[0].remaining == 15
    clock.now = 6.0
    assert limits.windows()[0].remaining == 115
    limits.change(rpm=10, tpm=600, max_in_flight=50)
    requests, tokens = limits.windows()
    assert (requests.limit, requests.remaining) == (10, 10)
    assert (tokens.limit, tokens.remaining) == (600, 600)
    with pytest.raises(Refusal, match="at once"):
        limits.admit(1)
    limits.change(rpm=None, tpm=None, max_in_flight=None)
    limits.admit(1)
    assert limits.windows() == []
    # Requests that were admitted before are still counted.
    assert limits.flight.now == 51


def test_answers_under_way_are_summed_over_time() -> None:
    clock = Clock()
    flight = Flight(clock)
    clock.now = 10.0
    flight.begin()
    clock.now = 12.0
    flight.begin()
    clock.now = 15.0
    assert flight.sum_s == 1 * 2 + 2 * 3
    flight.end()
    clock.now = 16.0
    flight.end()
    clock.now = 99.0
    assert (flight.sum_s, flight.now, flight.most) == (2 + 6 + 1, 0, 2)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("text", ['One two.\n\n  three\t“four” \\ "5"', " leading and trailing \n ", "   ", "", "0", "日本 語😀"])
def test_an_echo_is_the_last_message_word_by_word(dialect: Dialect, text: str) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
    said = echo(json.dumps({"messages": messages}).encode())
    assert json.loads(b'"' + b"".join(said) + b'"') == text
    whole = answer(ASK, draw(), input_tokens=1, created=0, echoed=said)
    assert (whole.chunks, whole.finish) == (said, "stop")
    assert len(dialect.pieces(whole)) == len(said)


def test_an_echo_of_parts_and_of_nothing() -> None:
    def said(content: object) -> list[bytes]:
        return echo(json.dumps({"messages": [{"role": "user", "content": content}]}).encode())

    assert said([{"type": "text", "text": "a b"}, {"type": "image_url"}, {"type": "text", "text": "c"}]) == [b"a", b" bc"]
    assert said(None) == said(7) == []
    assert echo(b'{"messages":[{"role":"user"}]}') == []


def test_an_echo_is_cut_by_max_tokens_and_emptied_by_its_fault() -> None:
    said = [b"a", b" b", b" c"]
    cut = answer(Ask(model="m", stream=True, max_tokens=2), draw(), input_tokens=1, created=0, echoed=said)
    assert (cut.chunks, cut.finish) == ([b"a", b" b"], "length")
    assert answer(ASK, draw("empty"), input_tokens=1, created=0, echoed=said).chunks == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0001, "1ms"),
        (0.02, "20ms"),
        (0.0204, "21ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (59.9999, "1m0s"),
        (59.999, "59.999s"),
        (90.25, "1m30.25s"),
        (360, "6m0s"),
        (3600, "1h0m0s"),
    ],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_limit_headers_of_both_dialects() -> None:
    windows = [
        Window(kind="requests", limit=60, remaining=59, reset_s=1.0),
        Window(kind="tokens", limit=9000, remaining=0, reset_s=60.2),
    ]
    assert OpenAI().limit_headers(windows, 0.0) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "9000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1m0.2s",
    }
    assert Anthropic().limit_headers(windows, 1_700_000_000.0) == {
        "anthropic-ratelimit-requests-limit": "60",
        "anthropic-ratelimit-requests-remaining": "59",
        "anthropic-ratelimit-requests-reset": "2023-11-14T22:13:21Z",
        "anthropic-ratelimit-tokens-limit": "9000",
        "anthropic-ratelimit-tokens-remaining": "0",
        "anthropic-ratelimit-tokens-reset": "2023-11-14T22:14:21Z",
    }


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"nonsense",
        b"null",
        b'{"model":1}',
        b'{"x":"\\ud800"}',
        b'{"x":' + b"[" * 200_000,
        b'{"model":"\xff"}',
        b'{"messages":[1]}',
    ],
)
def test_bodies_that_are_no_request(dialect: Dialect, body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        dialect.read(body, {"anthropic-version": "2023-06-01"})
    assert caught.value.status == 400


def test_refusals_name_what_is_missing() -> None:
    messages = [{"role": "user", "content": "hello"}]

    def openai(**body: object) -> Refusal:
        with pytest.raises(Refusal) as caught:
            OpenAI().read(json.dumps(body).encode(), {})
        return caught.value

    def anthropic(headers: dict[str, str], **body: object) -> str | None:
        with pytest.raises(Refusal) as caught:
            Anthropic().read(json.dumps(body).encode(), headers)
        return caught.value.message

    assert openai(messages=messages).param == "model"
    assert openai(model="m").code == "missing_required_parameter"
    assert openai(model="m", messages=[]).code == "empty_array"
    assert openai(model="m", messages=messages, max_tokens=0).param == "max_tokens"
    version = {"anthropic-version": "2023-06-01"}
    assert anthropic({}, model="m", messages=messages, max_tokens=1) == "anthropic-version: header is required"
    assert anthropic(version, messages=messages, max_tokens=1) == "model: Field required"
    assert anthropic(version, model="m", max_tokens=1) == "messages: Field required"
    assert anthropic(version, model="m", messages=messages) == "max_tokens: Field required"
    assert anthropic(version, model="m", messages=[], max_tokens=1) == "messages: at least one message is required"
    assert "max_tokens" in (anthropic(version, model="m", messages=messages, max_tokens=0) or "")


def test_what_a_request_asks_for() -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "é"}]}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": None,
        "max_completion_tokens": 7,
        "temperature": 0.5,
    }
    assert OpenAI().read(json.dumps(body).encode(), {}) == Ask(model="m", stream=True, max_tokens=7, with_usage=True)
    plain = {"model": "m", "messages": [{"role": "user"}], "max_tokens": 9}
    asked = Anthropic().read(json.dumps(plain).encode(), {"anthropic-version": "x"})
    assert asked == Ask(model="m", stream=False, max_tokens=9, with_usage=True)
