"""The feed of a session: its ring, those who are too slow, and the text of answers that are open when somebody comes."""

import asyncio
import gc
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from following import Follower
from raw_server import MESSAGE_START, block_delta, delta

from runner.control.messages import Feed
from runner.engine.open_attempts import OpenAttempts
from runner.event_types import Finished, Noted, Progress, Saved, Started, Stopping
from runner.model import Attempt, Completion, Item, Outcome, Request, ServerSentEvent, Usage
from runner.pace import Pace
from runner.providers.chat_completions import OpenAIDecoder
from runner.providers.messages import AnthropicDecoder
from runner.session import feed as feed_module
from runner.session import feed_texts
from runner.session.feed import LINGER_S, SessionFeed
from runner.session.feed_ring import Ring
from runner.session.stats import SessionStats
from runner.text import Redactor

pytestmark = pytest.mark.anyio
SECRET = "secret-1234567890"
PROGRESS = Progress(
    rows=9,
    restored=3,
    restored_failed=1,
    done=2,
    failed=1,
    in_flight=1,
    output_tokens=5,
    elapsed_s=1.0,
    pace=Pace(at=1.0, lanes=()),
)


class Desk:
    """A feed with attempts that a test begins and ends, a clock that it sets, and turns that it makes."""

    def __init__(self, **bounds: int) -> None:
        self.now = 0.0
        self.feed, self.open = SessionFeed(Ring(**bounds), lambda: self.now), OpenAttempts()
        self.feed.follow(self.open, Redactor([SECRET]), SessionStats(), lambda: None)

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            timer = self.feed._timer
            assert timer is not None
            timer.cancel()
            self.feed._tick()

    def watch(self, behind: Follower | None = None, *, texts: bool = True, room: int | None = None) -> Follower:
        """Let somebody watch. behind: what it has seen before."""
        found, after = Follower(room), None
        if behind is not None:
            after = found.after = behind.after
            found.open = {which: [*said] for which, said in behind.open.items()}
        self.leave: Callable[[], None] = self.feed.subscribe(after, texts, found.put)
        return found

    def begin(self, name: str = "a", number: int = 1, decoder: Any = None) -> Any:
        item = Item(key=name, position=1, request=Request(model="m", messages=()), metadata={}, fingerprint=0)
        decoder = decoder or OpenAIDecoder()
        self.open.begin(item, Attempt(key=name, number=number, started_at=1.0, duration_s=0.0, model="m"), decoder)
        return decoder

    def end(self, text: str, name: str = "a", number: int = 1, *, code: str | None = None, **extra: Any) -> None:
        attempt = Attempt(key=name, number=number, started_at=1.0, duration_s=2.0, error_code=code, usage=Usage(output_tokens=4))
        self.open.end(name, attempt, Completion(text=text, finish_reason="stop", extra=extra))


@pytest.fixture
async def desk() -> Any:
    made = Desk()
    yield made
    made.feed.close()


def say(decoder: Any, *texts: str) -> None:
    """Let a decoder of Chat Completions take pieces, read by read."""
    for text in texts:
        feed(decoder, delta(text))


def feed(decoder: Any, data: bytes) -> None:
    name, _, rest = data.decode().rpartition("data: ")
    decoder.feed_all([ServerSentEvent(name.removeprefix("event: ").strip(), rest.strip().encode())])


def numbers(found: Sequence[Feed] | None) -> list[int] | None:
    return None if found is None else [one.number for one in found]


def test_a_ring_goes_on_behind_what_it_has_and_nothing_else() -> None:
    ring = Ring(most_frames=3, most_bytes=10)
    assert ring.since(0, texts=True) is None
    for data in (b"1", b"2", b"3", b"4"):
        ring.add("text" if data == b"3" else "note", data)
    # behind 1, nothing is missing, although it is not there itself any more
    assert [numbers(ring.since(after, texts=True)) for after in range(6)] == [None, [2, 3, 4], [3, 4], [4], [], None]
    assert numbers(ring.since(1, texts=False)) == [2, 4]
    ring.add("note", b"9" * 9)
    assert (len(ring), ring.size, numbers(ring.since(4, texts=True))) == (2, 10, [5])
    # one that is too large by itself is told, and cannot be gone on before
    ring.add("note", b"9" * 11)
    assert (len(ring), ring.size, numbers(ring.since(5, texts=True)), numbers(ring.since(6, texts=True))) == (0, 0, None, [])


def test_a_ring_without_texts_for_a_while_cannot_be_gone_on_by_those_who_want_them() -> None:
    ring = Ring()
    ring.add("note", b"1")
    ring.without_texts()
    frame = ring.add("text", b"2")
    assert (numbers(ring.since(1, texts=True)), numbers(ring.since(1, texts=False))) == (None, [])
    assert numbers(ring.since(frame.number - 1, texts=True)) == [frame.number]
    ring.restart()
    assert ring.since(frame.number, texts=False) is None


async def test_nothing_is_collected_while_nobody_watches(desk: Desk) -> None:
    say(desk.begin(), "hello")
    desk.feed.tell(Noted(note="n"))
    desk.feed.tell(PROGRESS)
    desk.end("hello")
    assert (desk.open.watcher, desk.feed.newest, desk.feed._timer, len(desk.open)) == (None, 0, None, 0)
    # it is known all the same when somebody comes
    watcher = desk.watch()
    desk.turn()
    (state,) = (frame for frame in watcher.frames if frame.kind == "state")
    assert (watcher.frames[-1], watcher.last["notes"], watcher.last["answers"]) == (state, ["n"], [])
    progress = watcher.last["progress"]
    assert (progress["all_done"], progress["all_failed"], progress["left"], progress["rows"]) == (4, 2, 3, 9)
    # and nothing any more when the last one has gone, after a while
    desk.leave()
    desk.now = LINGER_S
    desk.turn()
    desk.now += LINGER_S + 1
    desk.turn()
    assert (desk.open.watcher, desk.feed._timer, desk.feed._texts) == (None, None, None)


async def test_frames_of_a_turn_are_one_of_each_kind_and_the_same_for_all(desk: Desk) -> None:
    one, other, mute = desk.watch(), desk.watch(), desk.watch(texts=False)
    desk.turn()
    for name in ("a", "b"):
        say(desk.begin(name), "hel", "lo")
    desk.end("hello!")
    outcome = Outcome(key="a", position=1, status="done", metadata={"id": 7}, fingerprint=0, attempts=1)
    for _ in range(2):
        desk.feed.tell(Saved(outcomes=(outcome,)))
    desk.feed.tell(PROGRESS)
    desk.feed.steered("page", "paused")
    desk.turn()
    assert [frame.kind for frame in one.frames] == ["state", "open", "text", "closed", "rows", "progress", "steered"]
    assert [frame.kind for frame in mute.frames] == ["state", "open", "closed", "rows", "progress", "steered"]
    assert all(first is second for first, second in zip(one.frames, other.frames, strict=True))
    assert (one.ended, one.open) == ({("a", 1, 1): ["hello!", ""]}, {("b", 1, 1): ["hello", ""]})
    assert one.rows[7, 1]["attempts"] == 1
    desk.turn()
    assert len(one.frames) == 7


async def test_who_comes_in_the_middle_of_answers_has_all_of_them(desk: Desk) -> None:
    first, claude = desk.begin(), desk.begin("c", decoder=AnthropicDecoder())
    feed(claude, MESSAGE_START)
    feed(
        claude,
        b'event: content_block_start\ndata: {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}}',
    )
    feed(claude, block_delta("so"))
    say(first, "one ", "two ")
    early = desk.watch()
    desk.turn()
    assert early.open == {("a", 1, 1): ["one two ", ""], ("c", 1, 1): ["so", ""]}
    say(first, "three ")
    feed(claude, block_delta(" far"))
    late = desk.watch()
    desk.turn()
    say(first, "four")
    desk.end("one two three four")
    desk.end("so far", "c")
    desk.turn()
    assert early.ended == late.ended == {("a", 1, 1): ["one two three four", ""], ("c", 1, 1): ["so far", ""]}
    assert (early.restarts, late.restarts, late.kinds["text"]) == (0, 0, 1)


async def test_who_leaves_and_comes_back_goes_on_behind_what_it_has_seen(desk: Desk) -> None:
    decoder, watcher = desk.begin(), desk.watch()
    desk.turn()
    desk.leave()
    say(decoder, "one ")
    desk.turn()
    say(decoder, "two")
    desk.turn()
    again = desk.watch(watcher)
    assert (again.kinds, again.open) == ({"text": 2}, {("a", 1, 1): ["one two", ""]})
    # with a number that nobody has had it gets the state, and of another session that of this one
    for after in (0, 1_000):
        other = Follower()
        desk.feed.subscribe(after, True, other.put)
        desk.turn()
        assert list(other.kinds) == ["state"]
    # who has come without texts does not go on with them
    mute = desk.watch(again, texts=False)
    say(decoder, "!")
    desk.turn()
    assert (mute.frames, again.open) == ([], {("a", 1, 1): ["one two!", ""]})


async def test_texts_begin_when_somebody_wants_them(desk: Desk) -> None:
    decoder, mute = desk.begin(), desk.watch(texts=False)
    desk.turn()
    assert (mute.last["answers"][0]["text"], desk.feed._texts) == (None, None)
    say(decoder, "one ")
    desk.turn()
    watcher = desk.watch(mute)
    say(decoder, "two")
    desk.turn()
    assert (watcher.kinds["state"], watcher.open) == (1, {("a", 1, 1): ["one two", ""]})


async def test_who_is_too_slow_is_skipped_and_nobody_else(desk: Desk) -> None:
    decoder, slow, quick = desk.begin(), desk.watch(room=2), desk.watch()
    for number in range(5):
        say(decoder, f"{number} ")
        desk.turn()
    assert (slow.kinds, quick.open) == ({"state": 1, "text": 1}, {("a", 1, 1): ["0 1 2 3 4 ", ""]})
    slow.room = 1
    desk.turn()
    # there was room for one word only; the state is not made again at once
    assert slow.frames[-1].kind == "skipped"
    slow.room = None
    desk.turn(20)
    assert ([frame.kind for frame in slow.frames[2:]], slow.open) == (["skipped", "state"], quick.open)
    say(decoder, "5")
    desk.turn()
    assert slow.open == quick.open == {("a", 1, 1): ["0 1 2 3 4 5", ""]}


async def test_secrets_are_in_no_frame(desk: Desk) -> None:
    decoder, watcher = desk.begin(), desk.watch()
    desk.turn()
    for piece in ("it is secret-", "12345", "67890!", " secret-12"):
        say(decoder, piece)
        desk.turn()
    late = desk.watch()
    desk.turn()
    assert late.open == watcher.open == {("a", 1, 1): ["it is [redacted]! ", ""]}
    desk.end("it is [redacted]! secret-12")
    desk.feed.tell(Noted(note="key sk-abcdefghijklmnop"))
    desk.turn()
    assert watcher.ended == {("a", 1, 1): ["it is [redacted]! secret-12", ""]}
    assert b"sk-abcdef" not in b"".join(frame.data for frame in watcher.frames)


async def test_a_text_that_starts_over_is_told_from_there(desk: Desk) -> None:
    decoder, watcher = desk.begin(), desk.watch()
    desk.turn()
    feed(decoder, b'data: {"id": "i", "model": "m", "choices": [{"index": 1, "delta": {"content": "wrong"}}]}')
    desk.turn()
    assert watcher.open == {("a", 1, 1): ["wrong", ""]}
    feed(decoder, b'data: {"choices": [{"index": 0, "delta": {"content": "right"}}]}')
    desk.turn()
    assert (watcher.open, watcher.restarts) == ({("a", 1, 1): ["right", ""]}, 1)
    # what is left at the end is another text than what was told, as of one that was cut out of a fence
    desk.end("other", reasoning="why")
    desk.turn()
    assert (watcher.ended, watcher.restarts) == ({("a", 1, 1): ["other", "why"]}, 2)


class Plugin:
    """A decoder that has no pieces, or breaks when it is asked for them."""

    text_chars = 3


class Broken(Plugin):
    def pieces(self) -> Any:
        raise ValueError("no")


@pytest.mark.parametrize("kind", [Plugin, Broken])
async def test_the_answer_of_a_decoder_without_pieces_is_told_when_it_is_complete(desk: Desk, kind: Any) -> None:
    watcher = desk.watch()
    desk.begin(decoder=kind())
    desk.turn(2)
    assert watcher.open == {("a", 1, 1): ["", ""]}
    desk.end("all of it")
    desk.turn()
    assert watcher.ended == {("a", 1, 1): ["all of it", ""]}


async def test_a_row_that_is_sent_again_is_another_attempt(desk: Desk) -> None:
    watcher = desk.watch()
    desk.turn()
    say(desk.begin(), "one")
    desk.end("one", code="truncated")
    say(desk.begin(number=2), "two")
    desk.turn()
    assert (watcher.ended, watcher.open) == ({("a", 1, 1): ["one", ""]}, {("a", 2, 1): ["two", ""]})
    assert watcher.codes == {("a", 1, 1): "truncated"}


async def test_what_is_large_comes_in_parts(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_texts, "LONGEST", 10)
    monkeypatch.setattr(feed_module, "LONGEST", 10)
    monkeypatch.setattr(feed_texts, "AT_BEGINNING", 40)
    one, other, watcher = desk.begin(), desk.begin("b"), desk.watch()
    desk.turn()
    say(one, "0123456789" * 4)
    say(other, "x")
    desk.turn()
    assert (watcher.kinds["text"], watcher.open["a", 1, 1]) == (5, ["0123456789" * 4, ""])
    late = desk.watch()
    desk.turn()
    # all that is open is more than a state may have: of the longest answer it has the end
    assert [(found["text"], found["text_at"]) for found in late.last["answers"]] == [("0123456789", 30), ("x", 0)]


async def test_ids_that_no_json_can_hold_are_told_as_well_as_can_be(desk: Desk) -> None:
    watcher = desk.watch()
    desk.turn()
    for own in ("\ud800", 10**30, 1.5):
        desk.feed.tell(Saved(outcomes=(Outcome(key="k", position=1, status="failed", metadata={"id": own}, fingerprint=0),)))
    desk.turn()
    assert [one["id"] for one in watcher.last["rows"]] == ["\N{REPLACEMENT CHARACTER}", 10**30, 1.5]


async def test_the_beginning_the_end_and_what_is_said_between(desk: Desk) -> None:
    watcher = desk.watch()
    desk.feed.tell(Started(run=3, input="p", rows=1, restored=0, notes=("first",)))
    desk.feed.tell(Stopping(reason="stopped by Ctrl-C", in_flight=1, grace_s=10.0))
    desk.turn()
    assert [frame.kind for frame in watcher.frames] == ["state"]
    assert (watcher.last["run"], watcher.last["notes"], watcher.last["stopping"]["in_flight"]) == (3, ["first"], 1)
    late = desk.watch()
    summary: Any = dict.fromkeys(feed_module.frames.FinishedFrame.__struct_fields__)
    desk.feed.tell(Finished(summary=feed_module.frames.FinishedFrame(**{**summary, "run": 3})))
    # at once, also to somebody who has just come: the loop may end
    assert (watcher.last["run"], [frame.kind for frame in late.frames]) == (3, ["state"])
    assert (watcher.frames[-1].kind, desk.feed._timer) == ("finished", None)


async def test_memory_is_bounded_however_long_it_goes_on() -> None:
    desk = Desk(most_frames=50, most_bytes=20_000)
    seen: list[tuple[int, int]] = []
    for number in range(3_000):
        if number % 60 == 0:
            # two come back, and a third one is stuck
            leaves = [desk.feed.subscribe(None, True, put) for put in (lambda _: True, lambda _: True, lambda _: False)]
        say(desk.begin(f"k{number}"), "some words ", "of text")
        desk.turn()
        desk.end("some words of text", f"k{number}")
        outcome = Outcome(key=f"k{number}", position=number, status="done", metadata={}, fingerprint=0, attempts=1)
        desk.feed.tell(Saved(outcomes=(outcome,)))
        desk.feed.tell(Noted(note=f"note {number}"))
        desk.feed.tell(PROGRESS)
        desk.turn()
        if number % 60 == 59:
            for leave in leaves:
                leave()
        # the loop forgets the timers that were set off by hand
        await asyncio.sleep(0)
        if number % 1_000 == 999:
            gc.collect()
            seen.append((len(gc.get_objects()), desk.feed._ring.size))
    # thousands of events more leave not a hundred objects more
    assert seen[2][0] - seen[1][0] < 100
    assert max(size for _, size in seen) <= 20_000
    desk.feed.close()


async def test_what_was_told_of_an_answer_that_failed_without_a_word_stays(desk: Desk) -> None:
    watcher = desk.watch()
    desk.turn()
    say(desk.begin(), "one ", "two")
    desk.turn()
    desk.end("", code="closed")
    desk.turn()
    assert (watcher.ended, watcher.restarts) == ({("a", 1, 1): ["one two", ""]}, 0)


async def test_who_comes_back_without_texts_gets_none_and_behind_the_end_nothing_is_collected(desk: Desk) -> None:
    desk.watch()
    desk.turn()
    after, kinds = desk.feed.newest, list[str]()
    for kind in ("text", "note"):
        desk.feed._ring.add(kind, b"{}")
    desk.feed.subscribe(after, False, lambda frame: not kinds.append(frame.kind))
    assert kinds == ["note"]
    summary: Any = dict.fromkeys(feed_module.frames.FinishedFrame.__struct_fields__)
    desk.feed.tell(Finished(summary=feed_module.frames.FinishedFrame(**summary)))
    desk.watch()
    assert desk.feed._timer is None
