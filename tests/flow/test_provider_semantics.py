"""What a provider's answers mean for a whole run (2.4 of the catalogue): real processes against raw servers.

The faults of the network that need a run to show (a server that comes up late, a proxy, a herd) are here too.
"""

import json
import signal
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
import trustme
from misbehaving import FAULTS, Misbehaving, text_of
from processes import Ended, Started, assert_clean, begins_ahead, count, free_port, rows, run, runner, write_prompts
from raw_server import (
    DONE,
    RST,
    Answers,
    RawServer,
    Received,
    Reply,
    Tunnel,
    anthropic_answer,
    delta,
    finish,
    head,
    in_thread,
    named,
    openai_answer,
    sse,
    stream,
    whole,
)

from runner import api
from runner.errors import RunStoppedError
from runner.event_types import Summary

DIALECTS = pytest.mark.parametrize("dialect", ["openai", "anthropic"])
ANSWER = {"openai": openai_answer, "anthropic": anthropic_answer}
FIRST = 8
"""Requests that go out before anything has come back, where nothing else is asked for."""


def failure(status: str, message: str = "so it is", *, code: str | None = None, kind: str = "error", **headers: str) -> Reply:
    return whole(status, {"type": "error", "error": {"type": kind, "code": code, "message": message}}, **headers)


UNAUTHORIZED = failure("401 Unauthorized", "Incorrect API key provided", kind="authentication_error")
NO_MONEY = failure("429 Too Many Requests", "You exceeded your current quota", code="insufficient_quota")
NO_MODEL = failure("404 Not Found", "The model `m` does not exist", code="model_not_found", kind="not_found_error")
PAGE = whole("200 OK", "<html><title>Log in</title></html>", kind="text/html")


def limited(after_s: float) -> Reply:
    return failure("429 Too Many Requests", "slow down", kind="rate_limit_error", retry_after_ms=str(int(after_s * 1000)))


class Case(NamedTuple):
    """A folder with prompts, and how to run them."""

    folder: Path
    number: int

    @property
    def store(self) -> Path:
        return self.folder / "runner.db"

    def command(self, base_url: str, *options: str, dialect: str = "openai") -> tuple[str, ...]:
        return ("run", "prompts.jsonl", "--provider", dialect, "--model", "m", "--base-url", base_url, *options)

    def run(self, base_url: str, *options: str, dialect: str = "openai", env: Mapping[str, str] | None = None) -> Ended:
        return run(*self.command(base_url, *options, dialect=dialect), cwd=self.folder, env=env)

    def start(self, base_url: str, *options: str, dialect: str = "openai", env: Mapping[str, str] | None = None) -> Started:
        return runner(*self.command(base_url, *options, dialect=dialect), cwd=self.folder, env=env)

    def go(self, base_url: str, **settings: Any) -> Summary:
        """Run it in this process, which is quicker: through the same API as the command."""
        given = {"model": "m", "base_url": base_url, **settings}
        return api.run(self.folder / "prompts.jsonl", db=self.store, **given)

    def statuses(self) -> dict[str, int]:
        return dict(rows(self.store, "SELECT status, count(*) FROM items GROUP BY 1"))

    def codes(self) -> dict[str | None, int]:
        return dict(rows(self.store, "SELECT error_code, count(*) FROM attempts GROUP BY 1"))

    def assert_all_done(self) -> None:
        assert self.statuses() == {"done": self.number}

    def assert_books(self, server: RawServer) -> None:
        """Hold that the books have as many attempts as the server has seen requests."""
        assert count(self.store, "attempts", "sent") == len(server.requests)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Case]:
    return lambda number: prepared(tmp_path, number)


def prepared(folder: Path, number: int) -> Case:
    write_prompts(folder / "prompts.jsonl", range(number))
    return Case(folder, number)


def base_url(server: RawServer, dialect: str) -> str:
    return server.base_url if dialect == "openai" else server.origin


def number_of(request: Received) -> int:
    return int(request.json["messages"][0]["content"].split()[-1].rstrip("."))


def assert_stopped(ended: Ended, *words: str) -> None:
    """Hold that a run ended with code 3 and said why in a sentence, once."""
    assert_clean(ended)
    assert ended.code == 3, ended
    for word in words:
        assert word in ended.out + ended.err, ended
    assert "resume" in ended.out + ended.err


# -- long ones, which wait far more than they work: where one process runs all tests, they begin together before the first one


class Begun(dict[str, "Future[None]"]):
    """The long ones by name; each begins when it is asked for, at the latest."""

    def __init__(self, pool: ThreadPoolExecutor, folders: pytest.TempPathFactory) -> None:
        super().__init__()
        self._pool, self._folders = pool, folders

    def __missing__(self, name: str) -> "Future[None]":
        number, work = SCENARIOS[name]
        self[name] = self._pool.submit(work, prepared(self._folders.mktemp("scenario"), number))
        return self[name]


class Outage:
    """Answers, then fails in one way for a while by the clock, then answers again."""

    LASTS_S = 5.0

    def __init__(self, dialect: str, reply: Reply, good: int) -> None:
        self.dialect, self.reply, self.good = dialect, reply, good
        self.until: float | None = None
        self.failed = 0

    def __call__(self, request: Received) -> Reply:
        if request.number > self.good:
            self.until = self.until or time.monotonic() + self.LASTS_S
            if time.monotonic() < self.until:
                self.failed += 1
                return self.reply
        return ANSWER[self.dialect](f"echo {number_of(request)}")


OUTAGES = {
    "500": ("openai", failure("500 Internal Server Error")),
    "503": ("openai", failure("503 Service Unavailable")),
    "529": ("anthropic", failure("529 Overloaded", kind="overloaded_error")),
    "error event": ("anthropic", stream(named("error", error={"type": "overloaded_error", "message": "busy"}))),
    "reset": ("openai", Reply((1.1, RST))),
}


Scenario: TypeAlias = Callable[[Case], None]
SCENARIOS: dict[str, tuple[int, Scenario]] = {}
"""By name: how many rows, and what is to be done and held; a raised error is its test's."""


def scenario(number: int, *names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a test's work begin with the module, so that its waits fall together with others'. names: a variant for each."""

    def wrap(work: Callable[..., None]) -> Callable[..., None]:
        for name in names or ("",):
            SCENARIOS[f"{work.__name__} {name}".strip()] = number, partial(work, name) if name else work
        return work

    return wrap


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begun]:
    """Run them, a few at a time."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        yield Begun(pool, tmp_path_factory)


@pytest.fixture(scope="module", autouse=True)
def _ahead(request: pytest.FixtureRequest) -> None:
    """Let them begin before the first test, unless none of their tests is to run, or other processes may run them."""
    if begins_ahead(request):
        begun = request.getfixturevalue("begun")
        # those first that wait the longest
        for name in sorted(SCENARIOS, key=lambda name: not name.startswith("never_reached")):
            assert begun[name]


# -- P1 to P3, P7: stop


STOPS = {
    "wrong key": ("openai", UNAUTHORIZED, ("401", "Incorrect API key")),
    "no money": ("openai", NO_MONEY, ("429", "You exceeded your current quota")),
    "no money 402": ("anthropic", failure("402 Payment Required", "pay", kind="billing_error"), ("402", "pay")),
    "unknown model": ("anthropic", NO_MODEL, ("404", "does not exist")),
    "redirect": ("openai", whole("308 Permanent Redirect", location="http://127.0.0.1:9/v1"), ("redirect", "127.0.0.1:9")),
    "page": ("openai", PAGE, ("Log in",)),
}


@pytest.mark.parametrize(("dialect", "reply", "words"), STOPS.values(), ids=STOPS)
def test_p1_p3_p7_a_run_that_cannot_work_stops_within_its_first_requests(
    make: Callable[..., Case], dialect: str, reply: Reply, words: Sequence[str]
) -> None:
    case = make(100)
    slowly = Reply((0.1, *reply.steps))
    with in_thread(RawServer(slowly)) as server:
        ended = case.run(base_url(server, dialect), dialect=dialect)
        assert_stopped(ended, *words)
        assert 1 <= len(server.requests) <= FIRST
        assert case.statuses() == {}
        case.assert_books(server)
        # set right, the same command does all of it
        server.answers = ANSWER[dialect]()
        assert case.go(base_url(server, dialect), provider=dialect).finished
    case.assert_all_done()


def test_n4_a_certificate_that_is_not_valid_stops_the_run(make: Callable[..., Case]) -> None:
    case = make(100)
    stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(stranger)
    with in_thread(RawServer(openai_answer(), tls=stranger)) as server:
        assert_stopped(case.run(server.base_url), "certificate")
        assert server.requests == []
        assert server.connections <= FIRST


@DIALECTS
def test_p2_a_key_that_turns_wrong_in_the_middle_stops_after_a_few(make: Callable[..., Case], dialect: str) -> None:
    case = make(300)

    def answers(request: Received) -> Reply:
        return ANSWER[dialect]() if request.number <= 60 else UNAUTHORIZED

    with in_thread(RawServer(answers)) as server:
        with pytest.raises(RunStoppedError, match="401"):
            case.go(base_url(server, dialect), concurrency=6, provider=dialect)
        assert case.statuses() == {"done": 60}
        assert 60 < len(server.requests) <= 60 + 3 * 6
        case.assert_books(server)
        server.answers = ANSWER[dialect]()
        assert api.resume(db=case.store).finished
        assert len(server.requests) <= 300 + 3 * 6
    case.assert_all_done()


MONEY = {
    "insufficient_quota": ("openai", NO_MONEY),
    "billing_hard_limit_reached": ("openai", failure("400 Bad Request", code="billing_hard_limit_reached")),
    "billing_not_active": ("openai", failure("429 Too Many Requests", code="billing_not_active")),
    "quota by its type": ("openai", failure("429 Too Many Requests", kind="insufficient_quota")),
    "forbidden for want of credit": ("openai", failure("403 Forbidden", code="insufficient_credits")),
    "402": ("openai", failure("402 Payment Required")),
    "error event": ("openai", stream(sse({"error": {"code": "insufficient_quota", "message": "pay"}}))),
    "credit balance": ("anthropic", failure("400 Bad Request", "Your credit balance is too low to access the Anthropic API.")),
    "spend limit": ("anthropic", failure("429 Too Many Requests", "You have reached your specified API usage limits.")),
    "billing_error": ("anthropic", failure("402 Payment Required", kind="billing_error")),
    # also when the answer asks to come back
    "with a hint": ("openai", failure("429 Too Many Requests", code="insufficient_quota", retry_after="1")),
}


@pytest.mark.parametrize(("dialect", "reply"), MONEY.values(), ids=MONEY)
def test_p3_no_money_in_the_middle_stops_with_one_request_for_each_place(
    make: Callable[..., Case], dialect: str, reply: Reply
) -> None:
    case = make(100)

    def answers(request: Received) -> Reply:
        return ANSWER[dialect]() if request.number <= 20 else reply

    with in_thread(RawServer(answers)) as server:
        with pytest.raises(RunStoppedError) as caught:
            case.go(base_url(server, dialect), concurrency=4, provider=dialect)
        assert caught.value.code == "billing"
        assert case.statuses() == {"done": 20}
        assert set(case.codes()) <= {None, "billing", "cancelled"}
        # those that were out when the first of them came
        assert 20 < len(server.requests) <= 20 + 4


def test_h11_a_rate_limit_that_speaks_of_a_quota_is_no_want_of_money(make: Callable[..., Case]) -> None:
    """As of gateways that speak of a quota and of a rate in one name."""
    case = make(20)
    odd = failure("429 Too Many Requests", code="Throttling.RateQuota", retry_after_ms="50")
    with in_thread(RawServer([odd, openai_answer()])) as server:
        assert case.go(server.base_url).finished
    case.assert_all_done()
    assert case.codes() == {None: 20, "rate_limited": 1}


def test_p7_a_model_that_does_not_exist_stops_the_run_although_another_one_works(tmp_path: Path) -> None:
    lines = [{"id": f"row-{one}", "prompt": "x", "params": {"model": "none" if one == 70 else "m"}} for one in range(100)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    case = Case(tmp_path, 100)

    def answers(request: Received) -> Reply:
        return NO_MODEL if request.json["model"] == "none" else openai_answer()

    with in_thread(RawServer(answers)) as server:
        with pytest.raises(RunStoppedError, match="404"):
            case.go(server.base_url)
        assert case.statuses().get("failed") is None


# -- P4: rate limits


@scenario(150, "openai", "anthropic")
def storm(dialect: str, case: Case) -> None:
    """Everything is refused for a while; nobody comes back before the time that was asked for, and all come in the end."""
    hint_s = 2.0
    # when each storm began, and when each request of it was refused
    storms: list[float] = []
    refused: list[tuple[int, float]] = []
    good = 0

    def answers(request: Received) -> Reply:
        nonlocal good
        if good >= 50 * (len(storms) + 1) and len(storms) < 2:
            storms.append(request.at)
        if storms and request.at < storms[-1] + hint_s / 4:
            refused.append((len(storms), request.at))
            return limited(hint_s)
        good += 1
        return ANSWER[dialect](f"echo {number_of(request)}")

    with in_thread(RawServer(answers)) as server:
        ended = case.run(base_url(server, dialect), "--attempts", "1", dialect=dialect)
        assert ended.code == 0, ended
        case.assert_all_done()
        case.assert_books(server)
        assert len(server.requests) == 150 + len(refused)
        assert len(storms) == 2
        # nothing came between the middle of a wait and its end
        for number in (1, 2):
            times = [at for which, at in refused if which == number]
            early = [one for one in server.requests if times[-1] + hint_s / 3 < one.at < times[0] + hint_s - 0.01]
            assert early == []
    assert case.codes() == {None: 150, "rate_limited": len(refused)}


@DIALECTS
def test_p4_a_storm_of_rate_limits_costs_no_row_and_no_attempt(begun: Begun, dialect: str) -> None:
    begun[f"storm {dialect}"].result()


@scenario(20)
def parked(case: Case) -> None:
    with in_thread(RawServer(limited(7200))) as server:
        with case.start(server.base_url, "--json") as process:
            process.until(lambda: "until" in process.out and "asked by the server" in process.out, "the pause to be told")
            process.until(lambda: count(case.store, "attempts") == len(server.requests), "the refusals on the books")
            sent = len(server.requests)
            assert sent <= FIRST
            time.sleep(1.5)
            assert (process.alive, len(server.requests)) == (True, sent)
            process.signal(signal.SIGTERM)
            ended = process.ended()
        assert_clean(ended)
        assert ended.code == 143
        assert case.statuses() == {}
        # and a session that may not last so long ends at once
        ended = case.run(server.base_url, "--deadline", "1h")
        assert_stopped(ended, "deadline")
        assert len(server.requests) <= sent + FIRST
        server.answers = openai_answer()
        assert run("resume", cwd=case.folder).code == 0
    case.assert_all_done()


def test_p4_a_hint_however_long_parks_the_run_and_a_signal_ends_it(begun: Begun) -> None:
    begun["parked"].result()


def test_p4_a_deadline_ends_a_session_and_the_next_one_goes_on(make: Callable[..., Case]) -> None:
    case = make(60)
    slow = stream(delta("Hello"), 0.2, finish(), DONE)
    with in_thread(RawServer(slow)) as server:
        ended = case.run(server.base_url, "--concurrency", "2", "--deadline", "4")
        assert_stopped(ended, "the deadline of")
        done = case.statuses()["done"]
        # what was out when it passed has come in
        assert 1 <= done == len(server.requests) < 60
        server.answers = openai_answer()
        # the stored deadline is short; a busy machine may need longer than that for the rest
        assert api.resume(db=case.store, deadline=120).finished
        assert len(server.requests) == 60
    case.assert_all_done()


# -- P5: outages


@scenario(400, *OUTAGES)
def outage(name: str, case: Case) -> None:
    """It lasts longer than two attempts of a row do, and every row in flight when it began has used one."""
    dialect, reply = OUTAGES[name]
    answers = Outage(dialect, reply, good=60)
    with in_thread(RawServer(answers)) as server:
        ended = case.run(base_url(server, dialect), "--max-concurrency", "16", "--attempts", "2", dialect=dialect)
    assert ended.code == 0, ended
    case.assert_all_done()
    case.assert_books(server)
    # enough to know it for an outage, what was out with them, and a few to see whether it is over
    assert 20 <= answers.failed < 70
    assert len(server.requests) == 400 + answers.failed
    assert answers.until is not None
    probes = [one for one in server.requests if answers.until - 2.5 < one.at < answers.until]
    assert len(probes) <= 4
    assert rows(case.store, "SELECT count(*) FROM items WHERE text NOT LIKE 'echo %'") == [(0,)]


@pytest.mark.parametrize("name", OUTAGES)
def test_p5_an_outage_is_waited_out_and_costs_no_row(begun: Begun, name: str) -> None:
    begun[f"outage {name}"].result()


@scenario(200)
def gone(case: Case) -> None:
    port = free_port()

    def answers(request: Received) -> Reply:
        return stream(delta(f"echo {number_of(request)}"), 0.05, finish(), DONE)

    with ExitStack() as stack:
        with in_thread(RawServer(answers, port=port)) as first:
            process = stack.enter_context(case.start(first.base_url, "--max-concurrency", "16", "--attempts", "2"))
            process.until(lambda: count(case.store) > 50, "the first rows")
        process.until(lambda: count(case.store, "attempts", "error_code = 'connect'") > 3, "refused connections")
        time.sleep(2)
        with in_thread(RawServer(answers, port=port)) as second:
            ended = process.ended()
    assert_clean(ended)
    assert ended.code == 0, ended
    case.assert_all_done()
    # what never had a connection is on the books as such
    assert count(case.store, "attempts", "error_code = 'connect' AND sent") == 0
    seen = len(first.requests) + len(second.requests)
    # of one that was closed unanswered nobody can tell whether the server had it; all that it had are on the books
    unsure = count(case.store, "attempts", "error_code = 'closed'")
    sent = count(case.store, "attempts", "sent")
    assert sent - unsure <= seen <= sent
    assert seen <= 200 + 2 * 16


def test_p5_a_server_that_is_gone_for_a_while_costs_no_row(begun: Begun) -> None:
    begun["gone"].result()


def test_n2_a_server_that_comes_up_late_is_found(make: Callable[..., Case]) -> None:
    case, port = make(30), free_port()
    with case.start(f"http://127.0.0.1:{port}/v1") as process:
        process.until(lambda: count(case.store, "attempts", "error_code = 'connect'") > 0, "a refused connection")
        with in_thread(RawServer(openai_answer(), port=port)) as server:
            ended = process.ended()
            assert len(server.requests) == 30
    assert_clean(ended)
    assert ended.code == 0, ended
    case.assert_all_done()


NOWHERE = {"unknown name": "no-such-host.invalid", "refused": "127.0.0.1"}


@scenario(20, *NOWHERE)
def never_reached(name: str, case: Case) -> None:
    host = NOWHERE[name] if name == "unknown name" else f"127.0.0.1:{free_port()}"
    # where no resolver answers, glibc's has given up soon
    assert_stopped(case.run(f"http://{host}/v1", env={"RES_OPTIONS": "timeout:1 attempts:1"}), NOWHERE[name])
    assert case.statuses() == {}
    assert count(case.store, "attempts", "sent") == 0
    # not at the first failure, for a server may be about to come up
    ((tried_s,),) = rows(case.store, "SELECT max(started_at) - min(started_at) FROM attempts")
    assert tried_s > 5


@pytest.mark.parametrize("name", NOWHERE)
def test_n1_n2_an_endpoint_that_nobody_ever_reached_stops_the_run(begun: Begun, name: str) -> None:
    begun[f"never_reached {name}"].result()


# -- P6, P8, P9: rows that fail for themselves


REFUSED = {
    3: ("context_length", failure("400 Bad Request", "maximum context length is 8192", code="context_length_exceeded")),
    5: ("too_large", failure("413 Content Too Large", "too large", kind="request_too_large")),
    7: ("content_policy", failure("400 Bad Request", "flagged by our content policy", code="content_policy_violation")),
    9: ("content_policy", failure("400 Bad Request", "Output blocked by content filtering policy")),
    11: ("bad_request", failure("422 Unprocessable Entity", "temperature must be a number")),
    13: ("context_length", failure("400 Bad Request", "prompt is too long: 210000 tokens > 200000 maximum")),
    15: ("bad_request", stream(named("error", error={"type": "invalid_request_error", "message": "no"}))),
}


@DIALECTS
def test_p6_p8_p9_a_row_that_is_refused_for_itself_fails_alone_and_once(make: Callable[..., Case], dialect: str) -> None:
    case = make(30)

    def answers(request: Received) -> Reply:
        refused = REFUSED.get(number_of(request))
        return refused[1] if refused is not None else ANSWER[dialect]()

    with in_thread(RawServer(answers)) as server:
        summary = case.go(base_url(server, dialect), provider=dialect)
        assert (summary.finished, summary.failed, len(server.requests)) == (True, len(REFUSED), 30)
        case.assert_books(server)
    found = rows(case.store, "SELECT key, error_code FROM items WHERE status = 'failed' ORDER BY position")
    assert found == [(f"row-{number}", code) for number, (code, _) in REFUSED.items()]
    with api.errors(db=case.store) as found_again:
        told = str(found_again.failed)
    for words in ("8192", "flagged by our content policy", "temperature must be a number"):
        assert words in told
    assert case.statuses() == {"done": 30 - len(REFUSED), "failed": len(REFUSED)}


# -- P10, P11: limits


@scenario(200)
def two_models(case: Case) -> None:
    """Its pause lasts until all rows of the other one are done, however long that takes."""
    lines = [{"id": f"row-{one}", "prompt": f"{one}", "params": {"model": "ab"[one % 2]}} for one in range(200)]
    (case.folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked: list[tuple[float, str]] = []

    def answers(request: Received) -> Reply:
        model = request.json["model"]
        asked.append((time.monotonic(), model))
        first = next((at for at, other in asked if other == "b"), None)
        return limited(4) if model == "b" and first is not None and asked[-1][0] < first + 3.5 else openai_answer()

    with in_thread(RawServer(answers)) as server:
        ended = case.run(server.base_url)
        assert ended.code == 0, ended
        case.assert_all_done()
        case.assert_books(server)
    b_began = next(at for at, model in asked if model == "b")
    # all of one model had been asked for before the other one went on
    resumed = min(at for at, model in asked if model == "b" and at > b_began + 3.5)
    assert max(at for at, model in asked if model == "a") < resumed
    assert case.codes()[None] == 200
    assert case.codes()["rate_limited"] <= FIRST


def test_p10_a_model_that_must_wait_holds_no_other_up(begun: Begun) -> None:
    begun["two_models"].result()


LIMITS: dict[str, Callable[[int], dict[str, str]]] = {
    "openai": lambda limit: {
        "x-ratelimit-limit-requests": str(limit),
        "x-ratelimit-remaining-requests": str(limit - 1),
        "x-ratelimit-reset-requests": f"{60 / limit:.3f}s",
    },
    "anthropic": lambda limit: {
        "anthropic-ratelimit-requests-limit": str(limit),
        "anthropic-ratelimit-requests-remaining": str(limit - 1),
        "anthropic-ratelimit-requests-reset": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60 / limit)),
    },
}


@scenario(3000, "openai", "anthropic")
def shrinking(dialect: str, case: Case) -> None:
    # so few that a busy machine gets there long before the deadline
    shrunk, before = [0.0], 40

    def answers(request: Received) -> Reply:
        if request.number == before:
            shrunk[0] = time.monotonic()
        limit = 60_000 if request.number < before else 120
        first, *rest = ANSWER[dialect]().steps
        assert isinstance(first, bytes)
        lines = "".join(f"{name}: {value}\r\n" for name, value in LIMITS[dialect](limit).items())
        return Reply((first.removesuffix(b"\r\n") + lines.encode() + b"\r\n", *rest))

    with in_thread(RawServer(answers)) as server:
        ended = case.run(base_url(server, dialect), "--deadline", "10", "--max-concurrency", "8", dialect=dialect)
        assert_stopped(ended, "deadline")
        after = [one.at - shrunk[0] for one in server.requests if one.at > shrunk[0] + 0.5]
    # two a second, where it had been many more; and two seconds' worth of grace
    assert 1 <= len(after) <= 2 * (max(after) - 0.5) + 4
    assert len(server.requests) > before
    assert case.statuses() == {"done": len(server.requests)}


@DIALECTS
def test_p11_when_the_servers_limit_shrinks_the_rate_follows(begun: Begun, dialect: str) -> None:
    begun[f"shrinking {dialect}"].result()


OPTIONS = {"--rpm": "120", "--tpm": "1200", "--output-tpm": "360"}


@scenario(500, *OPTIONS)
def smaller(option: str, case: Case) -> None:
    """Each of the three allows two requests a second, of 7 and 3 tokens, although the server would take a thousand."""
    first, *rest = openai_answer().steps
    assert isinstance(first, bytes)
    lines = "".join(f"x-ratelimit-limit-{what}: 60000000\r\n" for what in ("requests", "tokens"))
    reply = Reply((first.removesuffix(b"\r\n") + lines.encode() + b"\r\n", *rest))
    with in_thread(RawServer(reply)) as server:
        ended = case.run(
            server.base_url, option, OPTIONS[option], "--max-tokens", "3", "--deadline", "5", "--max-concurrency", "4"
        )
        assert_stopped(ended, "deadline")
        began = server.requests[0].at
        after = [one.at - began for one in server.requests]
    # the first few go out before it is known how much a request takes
    assert len(after) <= 2 * max(after) + 4 + 2


@pytest.mark.parametrize("option", OPTIONS)
def test_p11_the_smaller_of_the_option_and_the_servers_limit_holds(begun: Begun, option: str) -> None:
    begun[f"smaller {option}"].result()


# -- P12, N18: many at once


def memory_kb(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * 4


def test_p12_a_fifth_of_everything_goes_wrong_and_all_is_done_in_flat_memory(make: Callable[..., Case]) -> None:
    quick = [fault for fault in FAULTS if fault not in ("stall", "late reset before headers")]
    faults, case = Misbehaving("openai", quick, likely=(0.2, 0.2)), make(1200)
    with in_thread(RawServer(faults)) as server:
        with case.start(server.base_url) as process:
            process.until(lambda: count(case.store) > 400, "a third of the rows")
            early = memory_kb(process.pid)
            process.until(lambda: count(case.store) > 1000, "nearly all of the rows")
            late = memory_kb(process.pid)
            ended = process.ended()
        assert_clean(ended)
        assert ended.code == 0, ended
        assert count(case.store, "attempts", "sent") == len(server.requests)
        assert len(server.requests) > 1350
    found = rows(case.store, "SELECT key, status, text FROM items ORDER BY position")
    assert found == [(f"row-{number}", "done", text_of(number)) for number in range(1200)]
    assert late < early + (16 << 10), (early, late)


@scenario(800)
def herd(case: Case) -> None:
    """A server that takes 20 at a time and refuses whoever is beyond, with a hint that is the same for all."""
    most_taken, think_s = 20, 0.4
    refused: list[float] = []

    def answers(request: Received) -> Reply:
        if request.at < server.requests[0].at + think_s:
            # nothing has come back yet
            return Reply((think_s, *openai_answer().steps))
        if server.in_flight > most_taken:
            refused.append(request.at)
            return limited(0.3)
        return stream(delta("Hello"), 0.05, finish(), DONE)

    with in_thread(RawServer(answers)) as server:
        ended = case.run(server.base_url, "--attempts", "1")
        assert ended.code == 0, ended
        case.assert_all_done()
        case.assert_books(server)
    assert len(server.requests) == 800 + len(refused)
    assert sum(one.at < server.requests[0].at + think_s for one in server.requests) <= FIRST
    # it did go too far, but those that were refused did not come back all at once
    assert 0 < len(refused) < 800 * 0.15


def test_n18_many_begin_slowly_and_do_not_come_back_as_a_herd(begun: Begun) -> None:
    begun["herd"].result()


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest.mark.parametrize(
    "held", [None, b"", b"no certificate\n", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_n4_certificates_that_cannot_be_read_are_refused_before_anything_starts(
    make: Callable[..., Case], tmp_path: Path, variable: str, held: bytes | None
) -> None:
    path = tmp_path / "trusted.pem"
    if held is not None:
        path.write_bytes(held)
    ended = assert_refused_before_anything_starts(make(2), variable, str(path), "https")
    assert str(path) in ended.err


# -- N17: proxies


@contextmanager
def proxied(answers: Answers, far: RawServer | None = None) -> Iterator[RawServer]:
    """Run a proxy: it answers plain requests itself, and joins tunnels to the far end."""

    def proxy(request: Received) -> Reply:
        if request.method == "CONNECT":
            assert far is not None
            return Reply((head("200 Connection established"), Tunnel(far.port)))
        assert callable(answers)
        return answers(request)

    with in_thread(RawServer(proxy)) as server:
        yield server


def test_n17_a_proxy_is_used_and_told(make: Callable[..., Case]) -> None:
    case = make(20)
    with proxied(lambda _: openai_answer()) as proxy:
        env = {"http_proxy": f"http://someone:secret-word@127.0.0.1:{proxy.port}"}
        ended = case.run("http://api.provider.example/v1", env=env)
    assert ended.code == 0, ended
    assert f"proxy http://127.0.0.1:{proxy.port}" in ended.out
    assert "secret-word" not in ended.out + ended.err
    assert {one.path for one in proxy.requests} == {"http://api.provider.example/v1/chat/completions"}
    assert "proxy-authorization" in proxy.requests[0].headers
    case.assert_all_done()
    assert b"secret-word" not in b"".join(path.read_bytes() for path in case.folder.iterdir())


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:99999", "http://:9", "http://", "http://u:secret-word@127.0.0.1:notaport", "http://[::1", "socks5://h:1"],
)
def test_n17_a_proxy_that_is_no_address_is_refused_before_anything_starts(
    make: Callable[..., Case], variable: str, address: str
) -> None:
    assert_refused_before_anything_starts(make(2), variable, address)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("address", ["http://u:secret-word%E2%82%AC@127.0.0.1:9", "http://secret%3Au:p@127.0.0.1:9"])
def test_n17_a_proxy_whose_user_cannot_be_sent_is_refused_before_anything_starts(
    make: Callable[..., Case], scheme: str, address: str
) -> None:
    assert_refused_before_anything_starts(make(2), f"{scheme}_proxy", address, scheme)


def assert_refused_before_anything_starts(case: Case, variable: str, value: str, scheme: str = "http") -> Ended:
    """Hold that a variable is refused in one sentence that names it, and that no run was made."""
    ended = case.run(f"{scheme}://api.provider.example/v1", env={"SSL_CERT_FILE": "", variable: value, "OPENAI_API_KEY": "k"})
    assert (ended.code, ended.out) == (2, ""), ended
    proxy = variable.lower().endswith("_proxy")
    beginning = f"the proxy in {variable} cannot be used: " if proxy else f"{variable} is {value!r}, which "
    assert ended.err.startswith(f"runner: {beginning}"), ended
    assert ended.err.count("\n") == 1
    assert "secret" not in ended.err
    assert not case.store.exists()
    return ended


def test_n17_tls_goes_through_the_proxy_in_a_tunnel(make: Callable[..., Case], tmp_path_factory: pytest.TempPathFactory) -> None:
    case, authority = make(20), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("api.provider.example").configure_cert(context)
    trusted = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    with in_thread(RawServer(openai_answer(), tls=context)) as far, proxied(lambda _: UNAUTHORIZED, far) as proxy:
        env = {"https_proxy": f"http://127.0.0.1:{proxy.port}", "SSL_CERT_FILE": str(trusted), "OPENAI_API_KEY": "sk-secret-word"}
        ended = case.run("https://api.provider.example/v1", env=env)
        assert ended.code == 0, ended
        assert {(one.method, one.path) for one in proxy.requests} == {("CONNECT", "api.provider.example:443")}
        assert len(far.requests) == 20
        # the key is for the far end alone
        assert all("sk-secret-word" not in str(one.headers) for one in proxy.requests)
    case.assert_all_done()


def test_n17_a_proxy_that_dies_and_comes_back_costs_no_row(make: Callable[..., Case]) -> None:
    case, port = make(300), free_port()

    def answers(request: Received) -> Reply:
        return stream(delta("Hello"), 0.05, finish(), DONE)

    with ExitStack() as stack:
        with in_thread(RawServer(answers, port=port)):
            env = {"http_proxy": f"http://127.0.0.1:{port}"}
            url = "http://api.provider.example/v1"
            process = stack.enter_context(case.start(url, "--max-concurrency", "16", "--attempts", "2", env=env))
            process.until(lambda: count(case.store) > 30, "the first rows")
        process.until(lambda: count(case.store, "attempts", "error_code = 'proxy'") > 3, "the proxy to be missed")
        with in_thread(RawServer(answers, port=port)):
            ended = process.ended()
    assert_clean(ended)
    assert ended.code == 0, ended
    case.assert_all_done()
    assert count(case.store, "attempts", "error_code = 'proxy' AND sent") == 0
