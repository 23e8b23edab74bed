"""The limits that a server reports, in the two forms that exist."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.engine.limits.headers import LONG_S, Seen, read, speaks

NOW = 1_445_412_480.0
DATE = b"Wed, 21 Oct 2015 07:28:00 GMT"
Raw = list[tuple[bytes, bytes]]


def openai(**values: bytes) -> Raw:
    return [(f"x-ratelimit-{name.replace('_', '-')}".encode(), value) for name, value in values.items()]


def anthropic(**values: bytes) -> Raw:
    return [(f"anthropic-ratelimit-{name.replace('_', '-')}".encode(), value) for name, value in values.items()]


def test_the_openai_form() -> None:
    raw = openai(
        limit_requests=b"60", remaining_requests=b"59", reset_requests=b"1s",
        limit_tokens=b"150000", remaining_tokens=b"149984", reset_tokens=b"6m0s",
    )  # fmt: skip
    assert read(raw, NOW) == {
        "rpm": Seen(limit=60.0, remaining=59.0, reset_s=1.0),
        "tpm": Seen(limit=150_000.0, remaining=149_984.0, reset_s=360.0),
    }


def test_the_anthropic_form() -> None:
    raw = anthropic(
        requests_limit=b"50", requests_remaining=b"49", requests_reset=b"2015-10-21T07:28:02Z",
        input_tokens_limit=b"30000", input_tokens_remaining=b"29000", input_tokens_reset=b"2015-10-21T07:28:04Z",
        output_tokens_limit=b"8000", output_tokens_remaining=b"8000", output_tokens_reset=b"2015-10-21T07:28:00Z",
        tokens_limit=b"38000", tokens_remaining=b"37000",
    )  # fmt: skip
    assert read(raw, NOW) == {
        "rpm": Seen(limit=50.0, remaining=49.0, reset_s=2.0),
        "input_tpm": Seen(limit=30_000.0, remaining=29_000.0, reset_s=4.0),
        "output_tpm": Seen(limit=8_000.0, remaining=8_000.0, reset_s=0.0),
        "tpm": Seen(limit=38_000.0, remaining=37_000.0),
    }


@pytest.mark.parametrize(
    ("value", "reset_s"), [(b"20ms", 0.02), (b"1s", 1), (b"6m0s", 360), (b"1h2m3.5s", 3723.5), (b"7.5", 7.5), (b"soon", None)]
)
def test_spans(value: bytes, reset_s: float | None) -> None:
    (seen,) = read(openai(reset_tokens=value), NOW).values()
    assert seen.reset_s == (None if reset_s is None else pytest.approx(reset_s))


def test_an_instant_is_told_by_the_server_s_own_clock() -> None:
    raw = anthropic(requests_limit=b"50", requests_reset=b"2015-10-21T07:28:30Z")
    assert read([*raw, (b"Date", DATE)], NOW - 86_400)["rpm"].reset_s == 30
    assert read([*raw, (b"date", b"nonsense")], NOW + 10)["rpm"].reset_s == 20


def test_names_are_read_in_any_case() -> None:
    assert read([(b"X-RateLimit-Limit-Requests", b"60")], NOW) == {"rpm": Seen(limit=60.0)}
    assert speaks([(b"X-RateLimit-Limit-Requests", b"60")])


def test_other_headers_say_nothing() -> None:
    raw = [(b"content-type", b"text/event-stream"), (b"retry-after", b"5"), (b"x-request-id", b"ratelimit")]
    assert not speaks(raw)
    assert read(raw, NOW) == {}


@pytest.mark.parametrize(
    "name",
    [
        b"x-ratelimit-limit", b"x-ratelimit-limit-images", b"x-ratelimit-requests", b"anthropic-ratelimit-limit",
        b"anthropic-ratelimit-unified-limit", b"x-ratelimit-", b"ratelimit-limit", b"x-ratelimit-quota-requests",
    ],
)  # fmt: skip
def test_limits_of_other_things_are_passed_over(name: bytes) -> None:
    assert read([(name, b"60")], NOW) == {}


@pytest.mark.parametrize(
    ("seen", "per_minute"),
    [
        (Seen(limit=60.0), 60),
        (Seen(limit=60.0, reset_s=1.0), 60),
        (Seen(limit=60.0, reset_s=LONG_S), 60),
        (Seen(limit=14_400.0, reset_s=LONG_S + 1), None),
        (Seen(limit=14_400.0, reset_s=86_400.0), None),
        (Seen(limit=0.0), None),
        (Seen(remaining=5.0, reset_s=1.0), None),
        (Seen(), None),
    ],
)
def test_a_limit_that_comes_back_late_is_one_of_a_day_and_no_pace(seen: Seen, per_minute: float | None) -> None:
    assert seen.per_minute == per_minute


@pytest.mark.parametrize("value", [b"-1", b"nan", b"inf", b"1e999", b"", b"many", b"60, 60;w=60", "٣".encode(), b"9" * 400])
def test_nonsense_is_no_limit(value: bytes) -> None:
    assert all(seen.per_minute is None for seen in read(openai(limit_requests=value), NOW).values())


NAMES = st.sampled_from(
    [
        *(name for name, _ in openai(limit_requests=b"", remaining_tokens=b"", reset_requests=b"")),
        *(name for name, _ in anthropic(requests_limit=b"", tokens_remaining=b"", input_tokens_reset=b"")),
        b"date",
    ]
)


@given(st.lists(st.tuples(NAMES | st.binary(max_size=40), st.text("0123456789.-+eEsmhdTZ:").map(str.encode) | st.binary())))
@example([(b"anthropic-ratelimit-requests-reset", b"0001-01-01T00:00:00+23:59")])
@example([(b"x-ratelimit-reset-requests", b"\xb5" * 100)])
def test_no_header_whatever_is_in_it_raises(raw: Raw) -> None:
    speaks(raw)
    for seen in read(raw, NOW).values():
        for value in (seen.limit, seen.remaining, seen.reset_s):
            assert value is None or 0 <= value < float("inf")
        assert seen.per_minute is None or seen.per_minute > 0
