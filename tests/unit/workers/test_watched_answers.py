"""Answers that are looked at while they come, at the driver of a worker: what is known of one that is ended early, or lost."""

import asyncio
from time import monotonic

import pytest
from asking import BOTH_LOOPS, PROGRAM_LOOP
from peers import Back, Peer, call, joined_by_another, paired
from raw_server import (
    BLOCK_START,
    BLOCK_STOP,
    DONE,
    LAST,
    MESSAGE_START,
    MESSAGE_STOP,
    STREAM,
    USAGE,
    block_delta,
    chunk,
    delta,
    finish,
    message_delta,
)
from remote import KEY, OneWorker
from simulating import until
from test_member import done, number_of

from runner.engine.late import Offer
from runner.errors import AttemptError, ProviderError, StreamError, TransportError, UnwantedTextError
from runner.model import Completion, HttpCall, Stage, Usage
from runner.providers.dialects import anthropic, openai
from runner.providers.http import Timeouts
from runner.providers.sse import SSEDecoder
from runner.providers.watched import Watch, WatchedDecoder
from runner.workers.client import RemoteClient
from runner.workers.faults import fault_of
from runner.workers.held import HeldProvider
from runner.workers.protocol import Cancel, Done, Piece, Tries
from runner.workers.states import LOST_S, SUSPECT_S, State

pytestmark = pytest.mark.anyio

DIALECTS = pytest.mark.parametrize("dialect", ["openai", "anthropic"])
FIRST = {"openai": (delta("It is "),), "anthropic": (MESSAGE_START, BLOCK_START, block_delta("It is "))}
BAD = {"openai": (delta("bad"),), "anthropic": (block_delta("bad"),)}
MORE = {"openai": (delta(" as ever"),), "anthropic": (block_delta(" as ever"),)}
REST = {"openai": (finish(), USAGE), "anthropic": (BLOCK_STOP, message_delta())}
END = {"openai": (DONE,), "anthropic": (MESSAGE_STOP,)}
FAILED = b'data: {"error": {"message": "it has failed", "type": "server_error"}}\n\n'
ENDED = fault_of(TransportError("the exchange was ended", code="cancelled"))
CUT = {"stage": int(Stage.OPEN), "ended": False, "fault": ENDED, "answer": None}


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return PROGRAM_LOOP


def look(new: str, again: bool) -> None:
    if "bad" in new:
        raise UnwantedTextError("it is bad", text=new, early=True)
    if "odd" in new:
        raise StreamError("it is odd", code="odd")


class Watching:
    """A request whose answer is looked at, through the client of a driver, while a test plays its worker."""

    def __init__(self, peer: Peer, dialect: str = "openai", same: HttpCall | None = None) -> None:
        make = {"openai": openai, "anthropic": anthropic}[dialect].make
        provider = HeldProvider(make("http://127.0.0.1:9/v1", None, version="0"))
        self.call = same or call()
        client = RemoteClient(peer.crew)
        self.exchange = client.exchange()
        self.decoder = WatchedDecoder(provider.decoder(), Watch(look))
        self.task = asyncio.ensure_future(client.stream(self.call, self.decoder, self.exchange, provider.error))

    async def error(self) -> AttemptError:
        with pytest.raises(AttemptError) as raised:
            await self.task
        return raised.value

    @property
    def known(self) -> tuple[Stage, Usage | None, str]:
        answer = self.decoder.completion()
        return self.decoder.stage, answer.usage, answer.text


def pieces(number: int, *reads: tuple[bytes, ...]) -> list[Piece]:
    """Return what a worker passes on of so many reads."""
    sse = SSEDecoder()
    return [Piece(number, [(event.event, event.data) for event in sse.feed(b"".join(read))]) for read in reads]


def told(number: int, *, watched: bool = True, **more: object) -> Done:
    """Return what a worker tells of an answer that its driver looks at: all but its text."""
    whole = Completion(text="" if watched else "It is", finish_reason="stop", usage=Usage(input_tokens=7, output_tokens=3))
    return done(number, **{"answer": whole, **more})


@DIALECTS
async def test_an_answer_that_had_come_as_a_whole_when_it_was_ended_is_a_whole_answer(dialect: str) -> None:
    """What is on its way while the driver ends it is not thrown away: it is looked at as one that comes in one read."""
    async with paired() as peer:
        await peer.greet()
        asking = Watching(peer, dialect)
        number = await number_of(peer)
        peer.say(Back([], pieces(number, FIRST[dialect], BAD[dialect]), []))
        cancelled = await peer.hear()
        assert isinstance(cancelled, Cancel)
        assert cancelled.numbers == [number]
        peer.say(Back([], pieces(number, MORE[dialect], REST[dialect], END[dialect]), []))
        peer.say(Back([], [], [told(number)]))
        await asking.task
        assert asking.known == (Stage.ENDED, Usage(input_tokens=7, output_tokens=3), "It is bad as ever")
        assert asking.exchange.answered_s == 0.2


@DIALECTS
async def test_one_whose_end_was_cut_off_behind_its_text_is_whole_too(dialect: str) -> None:
    async with paired() as peer:
        await peer.greet()
        asking = Watching(peer, dialect)
        number = await number_of(peer)
        reads = [one[dialect] for one in (FIRST, BAD, MORE, REST)]
        peer.say(Back([], pieces(number, *reads), [told(number, fault=ENDED)]))
        await asking.task
        assert asking.known[1:] == (Usage(input_tokens=7, output_tokens=3), "It is bad as ever")
        assert asking.exchange.tail_lost


async def test_one_that_the_provider_takes_back_is_ended_early() -> None:
    async with paired() as peer:
        await peer.greet()
        asking = Watching(peer)
        number = await number_of(peer)
        fault = fault_of(ProviderError("overloaded", code="overloaded", verdict="retry"))
        peer.say(Back([], pieces(number, BAD["openai"], REST["openai"]), [told(number, fault=fault)]))
        assert (await asking.error()).early
        # what it has cost is known all the same
        assert asking.known == (Stage.COUNTED, Usage(input_tokens=7, output_tokens=3), "bad")


@pytest.mark.parametrize("broken", [False, True])
async def test_an_error_among_what_comes_behind_an_early_end_makes_it_no_whole_answer(broken: bool) -> None:
    """As without workers: only a connection may break behind the text. broken: that is all that has happened."""
    async with paired() as peer:
        await peer.greet()
        asking = Watching(peer)
        number = await number_of(peer)
        reads = pieces(number, BAD["openai"], (finish(),), *([] if broken else [(FAILED,)]))
        peer.say(Back([], reads, [told(number, **{**CUT, "stage": int(Stage.WHOLE)})]))
        if broken:
            await asking.task
        else:
            assert (await asking.error()).early


async def test_an_event_that_is_cut_off_behind_an_early_end_takes_nothing_from_a_whole_answer() -> None:
    async with paired() as peer:
        await peer.greet()
        asking = Watching(peer)
        number = await number_of(peer)
        cut = Piece(number, [("", b'{"choi')], doubtful=True)
        peer.say(Back([], [*pieces(number, BAD["openai"], REST["openai"]), cut], [told(number)]))
        await asking.task
        assert asking.known[1:] == (Usage(input_tokens=7, output_tokens=3), "bad")


@pytest.mark.parametrize("failed", [FAILED, delta("odd")])
async def test_what_the_driver_cannot_read_is_no_answer_though_the_worker_has_read_it(failed: bytes) -> None:
    """The text of what comes behind it is not fed to a decoder that has failed."""
    async with paired() as peer:
        await peer.greet()
        asking = Watching(peer)
        number = await number_of(peer)
        reads = pieces(number, FIRST["openai"], (failed,), MORE["openai"], REST["openai"], END["openai"])
        peer.say(Back([], reads, [told(number)]))
        error = await asking.error()
        assert (error.early, error.code != "worker_lost") == (False, True)
        assert (asking.known[1], "as ever" in asking.known[2]) == (None, False)


@pytest.mark.parametrize("how", ["cut off", "lost"])
async def test_one_that_is_ended_amidst_its_text_is_of_unknown_usage(how: str) -> None:
    async with paired() as peer:
        await peer.greet()
        asking = Watching(peer)
        number = await number_of(peer)
        peer.say(Back([], pieces(number, FIRST["openai"], BAD["openai"]), []))
        await peer.hear()
        if how == "lost":
            peer.end()
        else:
            peer.say(Back([], pieces(number, MORE["openai"]), [told(number, **CUT)]))
        error = await asking.error()
        assert (error.code, error.early, asking.known[:2]) == ("stopped_by_rule", True, (Stage.OPEN, None))
        assert error.booked is None


async def test_what_was_ended_early_stays_so_though_the_run_is_stopped() -> None:
    async with paired() as peer:
        await peer.greet()
        asking = Watching(peer)
        number = await number_of(peer)
        peer.say(Back([], pieces(number, FIRST["openai"], BAD["openai"]), []))
        await peer.hear()
        asking.task.cancel()
        await peer.hear()
        peer.say(Back([], [], [told(number, **CUT)]))
        assert (await asking.error()).code == "stopped_by_rule"


@pytest.mark.parametrize(("bad", "usage"), [(False, True), (True, True), (False, False)])
async def test_an_answer_that_has_come_as_a_whole_is_one_though_its_worker_is_lost(bad: bool, usage: bool) -> None:
    """As behind a connection that breaks: the driver has all of it."""
    async with paired() as peer:
        await peer.greet()
        asking = Watching(peer)
        number = await number_of(peer)
        rest = REST["openai"] if usage else REST["openai"][:1]
        peer.say(Back([], pieces(number, FIRST["openai"], *([BAD["openai"]] if bad else []), rest), []))
        await until(lambda: asking.decoder.stage is (Stage.COUNTED if usage else Stage.WHOLE))
        peer.end()
        await asking.task
        known = Usage(input_tokens=7, output_tokens=3) if usage else None
        assert (asking.decoder.completion().usage, asking.exchange.tail_lost) == (known, True)


async def test_one_that_is_cut_off_with_its_worker_is_lost() -> None:
    async with paired() as peer:
        await peer.greet()
        asking = Watching(peer)
        peer.say(Back([], pieces(await number_of(peer), FIRST["openai"]), []))
        await until(lambda: asking.decoder.started)
        peer.end()
        assert (await asking.error()).code == "worker_lost"


@BOTH_LOOPS
async def test_a_worker_reads_what_has_arrived_before_it_ends_an_exchange() -> None:
    begun = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(STREAM + b"".join(map(chunk, FIRST["openai"])))
        begun.set_result(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, OneWorker(Timeouts()) as client:
        port = server.sockets[0].getsockname()[1]
        provider = openai.make(f"http://127.0.0.1:{port}", KEY, version="0")
        sent = HttpCall(url=f"http://127.0.0.1:{port}/x", headers={}, body=b"{}")
        decoder = provider.decoder()
        asking = asyncio.ensure_future(client.stream(sent, decoder, client.exchange(), provider.error))
        writer = await begun
        await until(lambda: decoder.started)
        assert client._worker._hands is not None
        # from one turn of the loop
        writer.write(b"".join(map(chunk, (*REST["openai"], *END["openai"]))) + LAST)
        client._worker._hands.cancel([*client.member.trials])
        await asking
        assert decoder.completion().usage == Usage(input_tokens=7, output_tokens=3)
        writer.close()


# -- what comes late


class Row:
    """The row of a lost request, to which an answer is offered that comes late. takes: it is still open."""

    def __init__(self, *, takes: bool) -> None:
        self.takes, self.texts = takes, list[str]()

    def offer(self) -> Offer:
        def offered(decoder: object, exchange: object, used: object) -> bool:
            self.texts.append(decoder.completion().text)  # type: ignore[attr-defined]
            self.used, self.exchange = used, exchange
            return self.takes

        return offered


async def given_up(peer: Peer, asking: Watching, row: Row) -> None:
    """Have a request given up because nothing was heard of its worker, and put on the books as the engine does."""
    now = monotonic()
    peer.member.look(now + SUSPECT_S + 0.1)
    peer.member.look(now + LOST_S + 0.1)
    error = await asking.error()
    assert (error.code, peer.member.state) == ("worker_lost", State.LOST)
    assert error.booked is not None
    error.booked("row", 1, row.offer())


@pytest.mark.parametrize("taken", [True, False])
async def test_a_late_answer_that_was_looked_at_is_offered_with_all_of_its_text(taken: bool) -> None:
    async with paired() as peer:
        await peer.greet()
        asking, row = Watching(peer), Row(takes=True)
        number = await number_of(peer)
        peer.say(Back([], pieces(number, FIRST["openai"]), []))
        await until(lambda: asking.decoder.started)
        await given_up(peer, asking, row)
        peer.say(Back([], pieces(number, MORE["openai"], REST["openai"], END["openai"]), [told(number)]))
        await until(lambda: bool(row.texts))
        assert (row.texts, row.exchange.answered_s) == (["It is  as ever"], 0.2)  # type: ignore[attr-defined]
        assert peer.late == []
        row.used(taken)  # type: ignore[operator]
        await until(lambda: bool(peer.late))
        # booked once: with the attempt that its row makes of it, or with the lost one
        ((key, at, answer),) = peer.late
        assert (key, at, answer and answer.usage) == ("row", 1, None if taken else Usage(input_tokens=7, output_tokens=3))


async def test_a_late_answer_that_its_row_does_not_take_is_booked() -> None:
    async with paired() as peer:
        await peer.greet()
        asking, row = Watching(peer), Row(takes=False)
        number = await number_of(peer)
        await given_up(peer, asking, row)
        peer.say(Back([], pieces(number, FIRST["openai"], REST["openai"], END["openai"]), [told(number)]))
        await until(lambda: bool(peer.late))
        assert (len(row.texts), [late.number for late in peer.late]) == (1, [1])


@pytest.mark.parametrize("reads", [(), (REST["openai"], (FAILED,))])
async def test_a_late_answer_of_which_the_driver_lacks_a_part_is_booked_and_not_offered(
    reads: tuple[tuple[bytes, ...], ...],
) -> None:
    async with paired() as peer:
        await peer.greet()
        asking, row = Watching(peer), Row(takes=True)
        number = await number_of(peer)
        peer.say(Back([], pieces(number, FIRST["openai"]), []))
        await until(lambda: asking.decoder.started)
        await given_up(peer, asking, row)
        peer.say(Back([], pieces(number, *reads), [told(number)]))
        await until(lambda: bool(peer.late))
        assert (row.texts, [late.answer is not None for late in peer.late]) == ([], [True])


@pytest.mark.parametrize("more", [CUT, {"stage": 0, "refusal": None, "fault": fault_of(TransportError("x", code="cut"))}])
async def test_no_error_is_offered(more: dict[str, object]) -> None:
    async with paired() as peer:
        await peer.greet()
        asking, row = Watching(peer), Row(takes=True)
        number = await number_of(peer)
        await given_up(peer, asking, row)
        peer.say(Back([], pieces(number, FIRST["openai"]), [told(number, **more)]))
        await until(lambda: not peer.member._given_up)
        assert (row.texts, peer.late) == ([], [])


async def test_a_row_that_is_out_with_another_call_is_offered_the_answer_and_the_other_request_is_left_to_it() -> None:
    """With several endpoints, a row is sent again with another address, key or model."""
    async with paired() as peer, joined_by_another(peer) as other:
        await peer.greet()
        asking, row = Watching(peer), Row(takes=True)
        number = await number_of(peer)
        await given_up(peer, asking, row)
        await other.greet()
        again = Watching(peer)
        assert isinstance(await other.hear(), Tries)
        peer.say(Back([], pieces(number, FIRST["openai"], REST["openai"], END["openai"]), [told(number)]))
        await until(lambda: bool(row.texts))
        assert not again.task.done()
        again.task.cancel()
        assert isinstance(await other.hear(), Cancel)
        other.end()
        with pytest.raises(asyncio.CancelledError):
            await again.task
