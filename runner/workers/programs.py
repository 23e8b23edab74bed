"""Calls the programs of a cluster: one answer in bounded time, or one sentence."""

import subprocess
from collections.abc import Sequence
from contextlib import suppress

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream

from runner.errors import UsageError
from runner.text import clean

CALL_S = 30.0
"""Seconds that a program has. Those of a busy cluster answer within a few."""
_SENTENCE = 300


async def output(command: Sequence[str], *, given: bytes = b"", within_s: float = CALL_S) -> str:
    """Run a program to its end; return its standard output. given: its standard input. Raises UsageError with one sentence."""
    name, out, errors = command[0], bytearray(), bytearray()
    try:
        with anyio.fail_after(within_s):
            # a start that is broken off would leave the process behind
            with anyio.CancelScope(shield=True):
                # a session of its own: Ctrl-C is for the run, which ends what it has placed in good order
                process = await anyio.open_process(command, start_new_session=True)
            # what is still there at the end of its time is killed
            async with process, anyio.create_task_group() as tasks:
                tasks.start_soon(_read, process.stdout, out)
                tasks.start_soon(_read, process.stderr, errors)
                await _give(process.stdin, given)
                code = await process.wait()
    except TimeoutError as error:
        raise UsageError(f"{name} has not answered within {within_s:g} s") from error
    except OSError as error:
        raise UsageError(f"{name} cannot be started ({error.strerror}); it must be on the PATH") from error
    if code:
        raise UsageError(f"{name} failed: {said(errors, f'{name}: error: ') or said(out) or f'exit code {code}'}")
    return out.decode(errors="replace")


async def _read(stream: ByteReceiveStream | None, into: bytearray) -> None:
    assert stream is not None
    async for chunk in stream:
        into += chunk


async def _give(stream: ByteSendStream | None, given: bytes) -> None:
    assert stream is not None
    # a program that does not read says itself what is wrong
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
        await stream.send(given)
        await stream.aclose()


def said(raw: bytes | bytearray, before: str = "") -> str:
    """Return the last line that is not empty of what a program has printed, for a person. before: what it begins with."""
    lines = [line for line in raw.decode(errors="replace").splitlines() if line.strip()]
    return clean(lines[-1].strip().removeprefix(before), _SENTENCE) if lines else ""


def ended(code: int) -> str:
    """Return how a process ended, in words that follow its name. code: as ``subprocess`` has it."""
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def started(command: Sequence[str], environment: dict[str, str], errors: int) -> "subprocess.Popen[bytes]":
    """Start a process in a session of its own, without input and output. errors: the file of its standard error."""
    nothing = subprocess.DEVNULL
    return subprocess.Popen(  # noqa: S603 - the program is what the user named
        list(command), env=environment, stdin=nothing, stdout=nothing, stderr=errors, start_new_session=True
    )  # fmt: skip
