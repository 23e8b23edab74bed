"""Types one answer as it comes: its text on standard output, and everything else about it on standard error."""

import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from runner.cli.fitting import fitted
from runner.media import Media
from runner.model import Attempt, Completion, Json, Request
from runner.progress.screen import GREEN, RED, YELLOW
from runner.progress.terminal import is_live
from runner.providers.finish import is_cut
from runner.row_events import RowEvent, RowStarted, Token
from runner.text import as_text, clean, plural, redact

DIM = "2"
_MOST_MESSAGES = 4
_SHOWN = 3
"""Lines of a terminal that a text of the request takes, at most."""
_PLACE = 60
"""Columns that the place of a file takes, at most."""
_PATIENT_S = 1.0
"""Seconds without an answer after which that is said, on a terminal."""
_KEPT = re.compile(r"([\n\t])")


class Typewriter:
    """Shows a request and types its answer. What a terminal would obey is shown, and escape codes go to terminals alone.

    Where standard output is no terminal, the answer is written when it is complete: an attempt that fails leaves nothing there.
    broken: called when the answer cannot be written. lost: why it cannot; None if it can.
    """

    def __init__(self, broken: Callable[[], None]) -> None:
        self._out, self._err, self._broken = sys.stdout, sys.stderr, broken
        self._live = is_live()
        self._colour = self._live and "NO_COLOR" not in os.environ
        self._types = self._out.isatty()
        self._columns = shutil.get_terminal_size().columns
        # the stream whose last line on the screen has not ended
        self._unfinished: IO[str] | None = None
        # a line about a wait is on the screen, which the next thing replaces; or it has been printed, where there is no terminal
        self._waiting = False
        # characters that have come of each kind, and when the attempt began
        self._come = {"text": 0, "reasoning": 0}
        self._since = time.monotonic()
        self.lost: OSError | None = None

    def request(self, request: Request, where: str | None) -> None:
        """Show what is asked."""
        told = [where] if where is not None else []
        told += [f"system: {request.system}"] if request.system else []
        messages = request.messages
        if len(messages) > _MOST_MESSAGES:
            told.append(f"({plural(len(messages) - _MOST_MESSAGES, 'message')} before these)")
        told += [f"{one.get('role')}: {_content(one.get('content'))}" for one in messages[-_MOST_MESSAGES:]]
        for text in told:
            self.say(clean(text, _SHOWN * self._columns - 1), DIM)
        self.say("")

    def say(self, line: str, look: str = "") -> None:
        """Print a line about the answer. It is harmless already."""
        self._clear()
        if self._unfinished is not None:
            self._write(self._unfinished, "\n")
            self._unfinished = None
        self._write(self._err, self._painted(line, look) + "\n")

    def note(self, sentence: str) -> None:
        """Say what a person should know of the request."""
        self.say(fitted(clean(redact(sentence)), self._err), DIM)

    def wait(self, reason: str | None) -> None:
        """Say why nothing is sent, and on a terminal also that no answer has come yet."""
        if not self._live:
            if reason is not None and not self._waiting:
                self.say(clean(reason))
                self._waiting = True
            return
        waited_s = time.monotonic() - self._since
        if reason is None and not any(self._come.values()) and waited_s > _PATIENT_S:
            reason = f"no answer yet, {waited_s:.0f} s"
        if reason is not None and self._unfinished is None:
            self._write(self._err, f"\r{self._painted(clean(reason, self._columns - 1), YELLOW)}\x1b[K")
            self._waiting = True

    def hear(self, event: RowEvent) -> None:
        """Type a piece of the answer."""
        match event:
            case RowStarted():
                self._clear()
                self._waiting = False
                self._since = time.monotonic()
                if any(self._come.values()):
                    self.say("that attempt failed; the answer starts over:", YELLOW)
                self._come = {"text": 0, "reasoning": 0}
            case Token(kind=kind, text=text, at=at) if text:
                if at < self._come[kind]:
                    self.say("the text begins again:", YELLOW)
                elif not self._come[kind]:
                    self._begin(kind)
                self._come[kind] = at + len(text)
                self._type(kind, text)
            case _:
                pass

    def _begin(self, kind: str) -> None:
        if kind == "reasoning":
            self.say("reasoning:", DIM)
        elif self._come["reasoning"]:
            self.say("\nanswer:", DIM)

    def _type(self, kind: str, text: str) -> None:
        stream = self._err if kind == "reasoning" else self._out
        if stream is self._out and not self._types:
            return
        self._clear()
        if self._unfinished not in (None, stream):
            self.say("")
        words = harmless(text)
        self._write(stream, self._painted(words, DIM) if stream is self._err else words)
        self._unfinished = None if words.endswith("\n") else stream

    def answer(self, completion: Completion, attempt: Attempt, cost: str | None = None) -> None:
        """Finish the answer, and say how it came. cost: what was paid for it, failed attempts too; None: not known."""
        self._clear()
        if not self._types:
            text = harmless(completion.text)
            self._write(self._out, text if text[-1:] in ("", "\n") else f"{text}\n")
        for name, value in completion.extra.items():
            if name != "reasoning":
                self.say(f"{clean(name, 30)}: {harmless(as_text(value))}")
        self.say("")
        cut = is_cut(completion.finish_reason)
        if cut:
            self.say(f"cut off: the answer has reached its limit of tokens{_raised(attempt)}", YELLOW)
        notes = f" ({clean(', '.join(completion.notes))})" if completion.notes else ""
        paid = f", {cost}" if cost is not None else ""
        self.say(f"{clean(completion.finish_reason, 40)}{notes}, {told(attempt)}{paid}", YELLOW if cut else GREEN)

    def failed(self, line: str, todo: str) -> None:
        """Say why there is no answer, and what to do."""
        if any(self._come.values()):
            self.say("")
        self.say(clean(redact(line)), RED)
        self.say(clean(todo))

    def close(self) -> None:
        """Leave the terminal as it was found."""
        self._clear()
        if self._unfinished is not None:
            self._write(self._unfinished, "\n")
            self._unfinished = None

    def _clear(self) -> None:
        if self._waiting and self._live:
            self._write(self._err, "\r\x1b[K")
            self._waiting = False

    def _painted(self, text: str, look: str) -> str:
        return f"\x1b[{look}m{text}\x1b[0m" if self._colour and look and text else text

    def _write(self, stream: IO[str], text: str) -> None:
        """Write at once. What cannot be said of the answer is left out; an answer that cannot be written is no use any more."""
        if stream is self._err:
            with suppress(OSError):
                stream.write(text)
                stream.flush()
        elif self.lost is None:
            try:
                stream.write(text)
                stream.flush()
            except OSError as error:
                self.lost = error
                self._broken()


def harmless(text: str) -> str:
    """Return a text with its lines and tabs, in which a terminal obeys nothing else."""
    parts = _KEPT.split(text.replace("\r\n", "\n"))
    return "".join(part if part in ("\n", "\t") else clean(part) for part in parts)


def _content(content: Json) -> str:
    """Return the content of a message: texts as they are, and the place of a file or the kind of another part in brackets."""
    if not isinstance(content, list):
        return as_text(content)
    return " ".join(map(_part, content))


def _part(part: Json) -> str:
    if isinstance(part, Media):
        return f"[{part.kind} {clean(part.source, _PLACE)}]"
    own = part if isinstance(part, dict) else {}
    return str(own["text"]) if isinstance(own.get("text"), str) else f"[{own.get('type', 'part')}]"


def _raised(attempt: Attempt) -> str:
    tokens = attempt.usage.output_tokens if attempt.usage is not None else None
    return f" ({tokens:,}); --max-tokens allows more" if tokens is not None else "; --max-tokens allows more"


def tokens_per_s(attempt: Attempt) -> float | None:
    """Return how fast an answer came behind its first token; None if that cannot be told."""
    tokens = attempt.usage.output_tokens if attempt.usage is not None else None
    took_s = attempt.duration_s - (attempt.time_to_first_token_s or 0.0)
    return tokens / took_s if tokens is not None and tokens > 1 and took_s > 0.001 else None


def told(attempt: Attempt) -> str:
    """Return the figures of an attempt: times, speed, tokens, model."""
    first_s, speed, usage = attempt.time_to_first_token_s, tokens_per_s(attempt), attempt.usage
    words = [f"first token {first_s:.2f} s"] if first_s is not None else [f"{attempt.duration_s:.2f} s"]
    words += [f"{speed:,.1f} tokens/s"] if speed is not None else []
    if usage is not None and usage.input_tokens is not None:
        words.append(f"{usage.input_tokens:,} tokens in")
    if usage is not None and usage.output_tokens is not None:
        words.append(f"{usage.output_tokens:,} out")
    words += ["tokens unknown"] if usage is None else []
    return ", ".join([*words, *([clean(attempt.served_model, 40)] if attempt.served_model else [])])
