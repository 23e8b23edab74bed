"""One worker as its driver sees it, against a peer that says what a test wants."""

import asyncio
from time import monotonic

import pytest
from asking import PROGRAM_LOOP
from peers import SECRETS, Back, Bye, Peer, call, joined_by_another, paired
from simulating import until

from runner.errors import AttemptError, ProviderError, TransportError
from runner.model import Completion, HttpCall, Stage, Usage
from runner.providers.dialects import openai
from runner.workers.client import RemoteClient
from runner.workers.faults import error_of, fault_of
from runner.workers.held import HeldDecoder, HeldProvider
from runner.workers.protocol import Cancel, Done, Heard, Tries
from runner.workers.states import LOST_S, START_S, SUSPECT_S, State

pytestmark = pytest.mark.anyio

PROVIDER = HeldProvider(openai.make("http://127.0.0.1:9/v1", None, version="0"))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return PROGRAM_LOOP


def done(number: int, **more: object) -> Done:
    """Return a whole answer, but for what is given."""
    answer = Completion(text="Hi", finish_reason="stop", usage=Usage(input_tokens=3, output_tokens=1))
    fields = {
        "status": 200, "connected": True, "received": 5, "first_s": 0.1, "answered_s": 0.2, "tail_lost": False,
        "stage": int(Stage.ENDED), "ended": True, "started": True, "chars": 2, "answer": answer, **more,
    }  # fmt: skip
    return Done(number=number, **fields)  # type: ignore[arg-type]


class Asking:
    """A request through the client of a driver, while a test plays its worker."""

    def __init__(self, peer: Peer, same: HttpCall | None = None) -> None:
        self.call = same or call()
        client = RemoteClient(peer.crew)
        self.heard: list[int] = []
        self.exchange = client.exchange(heard=lambda status, _: self.heard.append(status))
        self.decoder = PROVIDER.decoder()
        self.task = asyncio.ensure_future(client.stream(self.call, self.decoder, self.exchange, PROVIDER.error))

    async def error(self) -> AttemptError:
        with pytest.raises(AttemptError) as raised:
            await self.task
        return raised.value


async def number_of(peer: Peer) -> int:
    """Return the number of the next request that comes to the worker."""
    tries = await peer.hear()
    assert isinstance(tries, Tries), tries
    return tries.tries[0].number


async def test_an_answer_comes_and_no_key_crosses() -> None:
    async with paired() as peer:
        await peer.greet()
        asking = Asking(peer)
        number = await number_of(peer)
        peer.say(Back([Heard(number, 200)], [], []))
        await until(lambda: asking.heard == [200])
        peer.say(Back([], [], [done(number)]))
        await asking.task
        assert asking.decoder.completion().text == "Hi"
        assert (asking.exchange.time_to_first_token_s, asking.exchange.bytes_received) == (0.1, 5)
        assert SECRETS["THE_KEY"].encode() not in peer.sent
        assert b"THE_KEY" in peer.sent


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"version": "0.0.1"}, "the worker is runner 0.0.1, and the run is"),
        ({"protocol": 99}, "install the same version"),
        ({"keys": {}}, "THE_KEY is not set in the environment of the worker"),
        ({"keys": {"THE_KEY": "0" * 32}}, "THE_KEY holds another key"),
        ({"trouble": "there is no provider 'mine'\x1b[2J"}, "there is no provider 'mine'"),
    ],
)
async def test_a_worker_that_does_not_fit_is_told_why(more: dict[str, object], words: str) -> None:
    async with paired() as peer:
        await peer.greet(**more)
        answer = await peer.hear()
        assert isinstance(answer, Bye)
        assert words in answer.reason
        await until(lambda: peer.member.state is State.FAILED and bool(peer.told))
        assert words in peer.told[0]
        assert "\x1b" not in peer.told[0] + answer.reason


async def test_a_worker_that_ends_before_its_hello_has_failed() -> None:
    async with paired() as peer:
        peer.end()
        await until(lambda: peer.member.state is State.FAILED)
        assert peer.member.why == "it ended before it was ready"


async def test_a_worker_that_says_nothing_has_failed_after_30_s() -> None:
    async with paired() as peer:
        assert START_S <= 30
        peer.member.look(monotonic() + START_S + 0.1)
        assert (peer.member.state, peer.member.why) == (State.FAILED, "it was not ready within 30 s")
        await until(lambda: bool(peer.told))
        assert "could not start: it was not ready within 30 s" in peer.told[0]


@pytest.mark.parametrize("frame", [b"\xc1", b"\x93\x63", b"", b"\x92\x06\x01"], ids=repr)
async def test_what_is_no_message_ends_the_worker_and_not_the_run(frame: bytes) -> None:
    async with paired() as peer:
        await peer.greet()
        asking = Asking(peer)
        await number_of(peer)
        peer.say_bytes(frame)
        error = await asking.error()
        assert (error.code, error.sent, error.mended) == ("worker_lost", True, True)
        assert peer.member.state is State.LOST
        assert "it sent what cannot be read" in peer.member.why


async def test_a_worker_that_ends_leaves_its_requests_perhaps_billed() -> None:
    async with paired() as peer:
        await peer.greet()
        asking = Asking(peer)
        peer.say(Back([Heard(await number_of(peer), 200)], [], []))
        await until(lambda: asking.heard == [200])
        peer.end()
        error = await asking.error()
        assert (error.code, error.sent, error.mended, asking.exchange.connected) == ("worker_lost", True, True, True)
        assert asking.exchange.status == 200


async def test_each_request_goes_to_the_worker_with_the_fewest() -> None:
    async with paired() as one, joined_by_another(one) as two:
        crew = one.crew
        for peer in (one, two):
            await peer.greet()
            await until(lambda peer=peer: peer.member.state is State.LIVE)

        def counts() -> list[int]:
            return [len(peer.member.trials) for peer in (one, two)]

        asking = [Asking(one) for _ in range(5)]
        await until(lambda: sum(counts()) == 5)
        assert counts() == [3, 2]
        tries = await one.hear()
        assert isinstance(tries, Tries)
        one.say(Back([], [], [done(each.number) for each in tries.tries]))
        await until(lambda: counts() == [0, 2])
        asking += [Asking(one) for _ in range(4)]
        await until(lambda: sum(counts()) == 6)
        assert counts() == [3, 3]
        two.end()
        await until(lambda: two.member.state is State.LOST)
        found = crew.free()
        assert found is one.member
        for each in asking:
            each.task.cancel()
        one.end()
        await asyncio.wait([each.task for each in asking], timeout=60)


async def test_a_worker_that_is_suspect_gets_none_though_it_was_the_next() -> None:
    async with paired() as one, joined_by_another(one) as two:
        members = [each.member for each in (one, two)]
        for each in (one, two):
            await each.greet()
        await until(lambda: all(member.state is State.LIVE for member in members))
        crew = one.crew
        crew.room()
        first = crew.free()
        (other,) = (member for member in members if member is not first)
        other.look(monotonic() + SUSPECT_S + 0.1)
        assert (other.state, crew.free()) == (State.SUSPECT, first)


async def test_silence_suspects_and_then_gives_up_and_a_frame_in_between_brings_back() -> None:
    async with paired() as peer:
        await peer.greet()
        member = peer.member
        await until(lambda: member.state is State.LIVE)
        now = monotonic()
        member.look(now + SUSPECT_S + 0.1)
        assert member.state is State.SUSPECT
        assert peer.crew.free() is None
        peer.say(Back([], [], []))
        await until(lambda: member.state is State.LIVE)
        asking = Asking(peer)
        number = await number_of(peer)
        now = monotonic()
        member.look(now + SUSPECT_S + 0.1)
        member.look(now + LOST_S + 0.1)
        error = await asking.error()
        assert (error.code, member.state) == ("worker_lost", State.LOST)
        # what it tells now changes nothing, and it is told to end
        peer.say(Back([], [], [done(number)]))
        answer = await peer.hear()
        assert isinstance(answer, Bye)
        assert asking.decoder.completion().text == ""


async def test_a_driver_that_has_stood_still_gives_nobody_up_before_it_has_read() -> None:
    async with paired() as peer:
        await peer.greet()
        await until(lambda: peer.member.state is State.LIVE)
        for late_s, state in ((0.0, State.LOST), (LOST_S, State.LIVE)):
            peer.member.state = State.SUSPECT if state is State.LOST else State.LIVE
            peer.member.link.read_at = monotonic() - LOST_S - 1
            peer.crew._due = monotonic() - late_s
            peer.crew._tick()
            assert peer.member.state is state


async def given_up(peer: Peer) -> tuple[Asking, int]:
    """Return a request that was given up because nothing was heard of its worker, and its number."""
    asking = Asking(peer)
    number = await number_of(peer)
    now = monotonic()
    peer.member.look(now + SUSPECT_S + 0.1)
    peer.member.look(now + LOST_S + 0.1)
    error = await asking.error()
    assert error.booked is not None
    # as the engine does when the attempt is on the books
    error.booked("row", 1, lambda *_: False)
    return asking, number


async def test_an_answer_that_comes_late_is_booked() -> None:
    async with paired() as peer:
        await peer.greet()
        _, number = await given_up(peer)
        peer.say(Back([], [], [done(number)]))
        await until(lambda: bool(peer.late))
        assert peer.late == [("row", 1, done(number).answer)]


async def test_a_late_answer_is_taken_where_the_row_is_still_open() -> None:
    async with paired() as peer, joined_by_another(peer) as other:
        await peer.greet()
        first, number = await given_up(peer)
        await other.greet()
        again = Asking(peer, first.call)
        second = await number_of(other)
        peer.say(Back([], [], [done(number)]))
        await again.task
        assert again.decoder.completion().text == "Hi"
        cancelled = await other.hear()
        assert isinstance(cancelled, Cancel)
        assert cancelled.numbers == [second]
        # that one was answered as well, so it is what the first attempt stands for now
        other.say(Back([], [], [done(second)]))
        await until(lambda: bool(peer.late))
        assert peer.late == [("row", 1, done(second).answer)]


async def test_a_late_answer_spares_a_request_that_has_not_left() -> None:
    async with paired() as peer, joined_by_another(peer) as other:
        await peer.greet()
        first, number = await given_up(peer)
        await other.greet()
        await until(lambda: other.member.state is State.LIVE)
        # what is given to it waits for others that would go along
        other.member._batch.DELAY_S = 60.0
        again = Asking(peer, first.call)
        await until(lambda: bool(other.member.trials))
        peer.say(Back([], [], [done(number)]))
        await again.task
        assert (again.decoder.completion().text, len(other.member.trials)) == ("Hi", 0)
        # its usage is that of the attempt that took it, so the one that was given up has none of its own
        await until(lambda: bool(peer.late))
        assert peer.late == [("row", 1, None)]


async def test_what_was_never_sent_is_booked_as_that() -> None:
    async with paired() as peer:
        await peer.greet()
        _, number = await given_up(peer)
        failed = fault_of(TransportError("it is ending", code="cancelled"))
        peer.say(Back([], [], [done(number, connected=False, stage=0, answer=None, fault=failed)]))
        await until(lambda: bool(peer.late))
        assert peer.late == [("row", 1, None)]


@pytest.mark.parametrize("sent", [True, False])
async def test_a_worker_that_ends_itself_gives_requests_back_as_lost_and_gets_no_more(sent: bool) -> None:
    async with paired() as peer:
        await peer.greet()
        asking = Asking(peer)
        number = await number_of(peer)
        ended = fault_of(TransportError("the worker is ending", code="cancelled"))
        peer.say(Back([], [], [done(number, connected=sent, stage=0, ended=False, answer=None, fault=ended)]))
        error = await asking.error()
        # it goes out again at once, counts against no row, and is billed only if it has left
        assert (error.code, error.mended, error.sent) == ("worker_lost", True, sent)
        assert not peer.member.free


async def test_what_failed_late_is_not_booked() -> None:
    async with paired() as peer:
        await peer.greet()
        _, number = await given_up(peer)
        peer.say(Back([], [], [done(number, fault=fault_of(TransportError("cut off", code="cut")))]))
        await until(lambda: not peer.member._given_up)
        assert peer.crew._late.waiting == []


async def test_a_request_that_is_cancelled_waits_for_what_has_come_of_it() -> None:
    async with paired() as peer:
        await peer.greet()
        asking = Asking(peer)
        number = await number_of(peer)
        asking.task.cancel()
        cancelled = await peer.hear()
        assert isinstance(cancelled, Cancel)
        assert cancelled.numbers == [number]
        peer.say(Back([], [], [done(number, stage=0, ended=False, fault=fault_of(TransportError("cut off", code="cut")))]))
        with pytest.raises(asyncio.CancelledError):
            await asking.task
        # the books have what was received
        assert asking.exchange.bytes_received == 5
        usage = asking.decoder.completion().usage
        assert usage is not None
        assert usage.input_tokens == 3


async def test_a_complete_answer_is_kept_though_the_request_is_cancelled() -> None:
    async with paired() as peer:
        await peer.greet()
        asking = Asking(peer)
        number = await number_of(peer)
        asking.task.cancel()
        await peer.hear()
        peer.say(Back([], [], [done(number)]))
        await asking.task
        assert asking.decoder.complete


async def test_a_request_that_has_not_left_is_taken_back_and_not_billed() -> None:
    async with paired() as peer:
        await peer.greet()
        await until(lambda: peer.member.state is State.LIVE)
        asking = Asking(peer)
        await asyncio.sleep(0)
        asking.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking.task
        assert (asking.exchange.connected, len(peer.member.trials)) == (False, 0)


def test_errors_cross_with_what_they_say_and_nothing_else() -> None:
    error = ProviderError("slow down", code="rate_limited", verdict="retry", status=429, throttled=True, retry_after_s=2.5)
    vars(error)["__class__"] = "harm"
    vars(error)["harm"] = {"x": 1}
    again = error_of(fault_of(error))
    assert type(again) is ProviderError
    assert (str(again), again.code, again.status, again.throttled, again.retry_after_s) == (
        "slow down",
        "rate_limited",
        429,
        True,
        2.5,
    )
    assert "harm" not in vars(again)
    bug = error_of(fault_of(KeyError("x")))
    assert (type(bug), bug.code, bug.verdict, str(bug)) == (AttemptError, "internal", "fail", "KeyError: 'x'")


def test_a_decoder_that_nobody_watches_makes_no_decoder_of_the_provider() -> None:
    decoder = PROVIDER.decoder()
    assert isinstance(decoder, HeldDecoder)
    assert not decoder.watched
    assert decoder.pieces() == ([[]], [[]])
    assert decoder.watched
