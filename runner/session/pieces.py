"""The pieces of one answer as they come, for a program that asks prompts one by one, and the row that such a prompt is."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, TypeAlias

import msgspec

from runner.errors import UsageError
from runner.model import Json, Result
from runner.row_events import PartialValue, Token
from runner.session.asks import Asks
from runner.session.blocking import LoopThread
from runner.text import clean

Prompt: TypeAlias = str | Sequence[Mapping[str, Any]] | Mapping[str, Any]
"""A text, the messages of a chat, or a whole row."""

_BATCH = 100
"""Pieces of an answer that are taken at once."""
_SHOWN = 60
"""Columns of a prompt that are shown."""


class Answer(AsyncIterator[Token]):
    """The pieces of one answer: its text and its reasoning, told apart by ``kind``. They start over where ``at`` is 0.

    An answer that the store has is one piece. result: of the row, at the end of the loop; None before that.
    """

    def __init__(self, asks: Callable[[], Asks], fields: Mapping[str, Any]) -> None:
        """asks: returns what asks, and raises UsageError outside of the session's block. fields: of the row."""
        self._asks, self._fields = asks, fields
        self._pieces = self._told()
        self.result: Result | None = None

    def __repr__(self) -> str:
        if self.result is not None:
            return f"<Answer: {self.result}>"
        asked = next((self._fields[name] for name in ("id", "prompt", "messages") if name in self._fields), self._fields)
        return f"<Answer to {clean(repr(asked), _SHOWN)}: its result comes at the end of the loop>"

    async def __anext__(self) -> Token:
        return await anext(self._pieces)

    async def next_or_none(self) -> Token | None:
        """Return the next piece; None at the end."""
        return await anext(self._pieces, None)

    async def aclose(self) -> None:
        """Stop listening. What was sent is paid for, and its answer is saved."""
        await self._pieces.aclose()

    async def values(self) -> AsyncGenerator[Json, None]:
        """Ask, and yield the JSON of an answer with a schema as far as it has come, each time that there is more of it.

        The last value is the answer. An answer that the store has is one value. Nothing is yielded for one that is no JSON.
        """
        some = False
        async with aclosing(self._heard()) as elements:
            async for element in elements:
                if isinstance(element, PartialValue):
                    some = True
                    yield element.value
        if not some and self.result is not None and self.result.status == "done":
            with suppress(msgspec.DecodeError, RecursionError):
                yield msgspec.json.decode(self.result.text or "")

    async def _told(self) -> AsyncGenerator[Token, None]:
        some = False
        async with aclosing(self._heard()) as elements:
            async for element in elements:
                if isinstance(element, Token):
                    some = True
                    yield element
        if (result := self.result) is not None and not some and result.text:
            yield Token(id=result.id, attempt=result.attempts, kind="text", text=result.text, at=0)

    async def _heard(self) -> AsyncGenerator[object, None]:
        """Yield what is told of the row until it has its result."""
        asks = self._asks()
        with asks.heard(self._fields) as told:
            asking = asyncio.create_task(asks.ask(self._fields))
            asking.add_done_callback(lambda _: told.end())
            try:
                while elements := await told.take(_BATCH):
                    for element in elements:
                        yield element
                self.result = await asking
            finally:
                asking.cancel()


class BlockingAnswer(Iterator[Token]):
    """The pieces of one answer in synchronous code. See ``Answer``."""

    def __init__(self, answer: Answer, loop: LoopThread) -> None:
        self._answer, self._loop = answer, loop

    def __repr__(self) -> str:
        return f"<Blocking{repr(self._answer)[1:]}"

    @property
    def result(self) -> Result | None:
        """The result of the row, at the end of the loop; None before that."""
        return self._answer.result

    def __next__(self) -> Token:
        token = self._loop.call(self._answer.next_or_none())
        if token is None:
            raise StopIteration
        return token

    def values(self) -> Iterator[Json]:
        """Yield the JSON of the answer as far as it has come. See ``Answer.values``."""
        values = self._answer.values()
        while one := self._loop.call(_next(values)):
            yield one[0]

    def close(self) -> None:
        """Stop listening. What was sent is paid for, and its answer is saved."""
        self._loop.call(self._answer.aclose())


async def _next(values: AsyncGenerator[Json, None]) -> tuple[Json] | None:
    """Return the next value; None at the end."""
    async for value in values:
        return (value,)
    return None


def fields_of(prompt: Any, own: str | int | None) -> dict[str, Any]:
    """Return the fields of the row that a prompt is."""
    if isinstance(prompt, str):
        fields: dict[str, Any] = {"prompt": prompt}
    elif isinstance(prompt, Mapping):
        fields = dict(prompt)
    elif isinstance(prompt, list | tuple):
        fields = {"messages": list(prompt)}
    else:
        raise UsageError(f"a prompt is a text, a list of messages or a dict, not {type(prompt).__name__}")
    if own is None:
        return fields
    if isinstance(own, bool) or not isinstance(own, str | int) or own == "":
        raise UsageError(f"id must be a text or a whole number, not {own!a}")
    return {**fields, "id": own}
