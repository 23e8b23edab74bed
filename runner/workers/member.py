"""One worker, as its driver sees it. ``states`` draws how it goes from one state to another."""

import secrets
from time import monotonic
from typing import Literal, Protocol

from runner.frames import MOST_BYTES, Batch, Link
from runner.text import clean
from runner.version import __version__
from runner.workers.protocol import (
    FULL_BYTES,
    PROTOCOL,
    Back,
    Beat,
    Bye,
    Cancel,
    Done,
    Hello,
    Route,
    Tries,
    Try,
    Welcome,
    decode_for_driver,
    encode,
    fingerprint,
)
from runner.workers.routes import MOST_ROUTES
from runner.workers.silence import Silence
from runner.workers.states import ENDED, LOST_S, START_S, SUSPECT_S, State
from runner.workers.trial import Trial
from runner.workers.work import Work


class Watcher(Protocol):
    """Whoever keeps the workers."""

    def changed(self, member: "Member", before: State) -> None:
        """A worker has another state."""
        ...

    def room(self) -> None:
        """A worker may take another request."""
        ...

    def late(self, trial: Trial, done: Done) -> None:
        """A worker that was given up tells how a request has ended."""
        ...


class Member:
    """One worker. name: as it is told to a person. why: it was lost or has failed, a sentence."""

    def __init__(self, number: int, name: str, work: Work, watcher: Watcher, link: Link | None = None) -> None:
        """link: one that is there already."""
        self.number, self.name, self._work, self._watcher = number, name, work, watcher
        self.state, self.why = State.STARTING, ""
        self.pid = 0
        self.began = monotonic()
        self.link = link or Link(self._take, self._gone)
        self._silence = Silence(self.link, self.began)
        self.link.take, self.link.lost, self.link.most = self._take, self._gone, MOST_BYTES
        # what is with the worker, by number; and what was, and was given up because nothing was heard of it
        self.trials: dict[int, Trial] = {}
        self._given_up: dict[int, Trial] = {}
        self._files = 0
        self._session = secrets.token_bytes(16)
        self._known: set[int] = set()
        self._batch = Batch(self._flush, self.link)
        self._tries: list[Trial] = []
        self._cancels: list[int] = []

    # -- requests

    @property
    def free(self) -> bool:
        """True if it may take another request."""
        return self.state is State.LIVE and len(self.trials) < self._files

    def give(self, trial: Trial) -> None:
        """Have it make a request."""
        trial.number = self._work.number()
        self.trials[trial.number] = trial
        self._tries.append(trial)
        self._batch.due(len(self._tries))

    def cancel(self, trial: Trial) -> None:
        """Have it end a request. One that has not left is taken back, and counts as not sent."""
        if trial in self._tries:
            self._tries.remove(trial)
            del self.trials[trial.number]
            trial.lost("the run was stopped", sent=False)
        elif trial.number in self.trials:
            trial.cancelled = True
            self._cancels.append(trial.number)
            self._batch.due()

    def settle(self, late: Trial, done: Done) -> Literal["sent", "unsent"] | None:
        """Give the answer that has come late to a request for the same call, and return whether that was sent; None: none is out.

        late: the request that was given up. What becomes of one that was sent is booked in its place.
        """
        trial = next((trial for trial in self.trials.values() if trial.call is late.call and not trial.watched), None)
        if trial is None:
            return None
        unsent = trial in self._tries
        if unsent:
            self._tries.remove(trial)
            del self.trials[trial.number]
        else:
            self.cancel(trial)
            self.forget(trial)
            trial.of = late.of
        trial.done(done)
        return "unsent" if unsent else "sent"

    def forget(self, trial: Trial) -> None:
        """Wait no longer for what comes of a request."""
        if self.trials.pop(trial.number, None) is not None:
            self._given_up[trial.number] = trial

    def _flush(self) -> None:
        tries, cancels = self._tries, self._cancels
        self._tries, self._cancels = [], []
        while tries:
            self._send_some(tries)
        if cancels:
            self.link.send(encode(Cancel(cancels)))

    def _send_some(self, tries: list[Trial]) -> None:
        """Send so many of the requests as one frame may hold, and remove them from the list."""
        sent: list[Try] = []
        new: list[Route] = []
        size = 0
        while tries and (not sent or size + len(tries[0].call.body) <= FULL_BYTES):
            trial = tries.pop(0)
            size += len(trial.call.body)
            route = self._work.route(trial.call)
            if route.number not in self._known:
                if len(self._known) >= MOST_ROUTES:
                    # the worker remembers more than these
                    self._known.clear()
                self._known.add(route.number)
                new.append(route)
            trial.sent()
            sent.append(Try(trial.number, route.number, trial.call.body, trial.fresh, trial.fallback, trial.watched))
        self.link.send(encode(Tries(sent, new)))

    # -- what it says

    def welcome(self) -> None:
        """Say the first word."""
        variables = tuple(self._work.secrets)
        setup = self._work.setup_now()
        self.link.send(encode(Welcome(PROTOCOL, __version__, self._session, self.number, variables, setup)))

    def _take(self, frame: bytes) -> None:
        message = decode_for_driver(frame)
        if isinstance(message, Beat):
            self._silence.told(message, monotonic())
        if self.state is State.SUSPECT and self._silence.deaf_s < SUSPECT_S:
            self._become(State.LIVE)
        elif self.state is State.LOST:
            # it gives back what it has, and ends
            self.link.send(encode(Bye("the run has given it up, as nothing was heard of it")))
        if isinstance(message, Back):
            self._back(message)
        elif isinstance(message, Hello):
            self._hello(message)
        elif isinstance(message, Bye):
            self._bye(message)

    def _hello(self, hello: Hello) -> None:
        if self.state is not State.STARTING:
            return
        self.pid, self._files = hello.pid, max(1, hello.files)
        if hello.host:
            self.name = f"{self.name} ({clean(hello.host, 60)}, process {hello.pid})"
        trouble = self._trouble(hello)
        if trouble is not None:
            self.fail(trouble)
        else:
            self._become(State.LIVE)

    def _trouble(self, hello: Hello) -> str | None:
        """Return why a worker cannot work here, a sentence; None if it can."""
        if (hello.protocol, hello.version) != (PROTOCOL, __version__):
            return f"the worker is runner {clean(hello.version, 30)}, and the run is {__version__}; install the same version"
        if hello.trouble:
            return clean(hello.trouble, 500)
        for name, value in self._work.secrets.items():
            found = hello.keys.get(name)
            if found is None:
                return f"{name} is not set in the environment of the worker; set it there to the key of the run"
            if found != fingerprint(self._session, value):
                return f"{name} holds another key in the environment of the worker than the run has; set it there to the same"
        return None

    def _back(self, back: Back) -> None:
        for heard in back.heard:
            trial = self.trials.get(heard.number)
            if trial is not None:
                trial.heard(heard.status, heard.headers)
        for piece in back.pieces:
            trial = self.trials.get(piece.number)
            if trial is None and (late := self._given_up.get(piece.number)) is not None:
                late.take_behind(piece)
            elif trial is not None and not trial.take(piece):
                self.cancel(trial)
        for said in back.said:
            if said.number in self.trials:
                self.trials[said.number].say(said)
        for done in back.done:
            trial = self.trials.pop(done.number, None)
            if trial is not None:
                if done.is_ended and not trial.cancelled:
                    # it is ending, so it gets nothing new
                    self._files = 0
                trial.done(done)
            elif (late := self._given_up.pop(done.number, None)) is not None:
                self._watcher.late(late, done)
        if back.done:
            self._watcher.room()
            self._look_empty()

    def _bye(self, bye: Bye) -> None:
        if self.state is State.STARTING:
            self.fail(clean(bye.reason, 500) or "it ended")
        elif self.state not in ENDED:
            self.why = clean(bye.reason, 500)
            self._lose(State.GONE if self.state is State.DRAINING and not self.trials else State.LOST)
        self.link.end()

    # -- states

    def look(self, now: float) -> None:
        """See whether it has been silent for too long."""
        silent_s = self._silence.seconds(now)
        if self.state is State.STARTING and now - self.began > START_S:
            self.fail(f"it was not ready within {START_S:g} s")
        elif self.state is State.LIVE and silent_s > SUSPECT_S:
            self._become(State.SUSPECT)
        if self.state in (State.SUSPECT, State.DRAINING) and silent_s > LOST_S:
            self.why = self._silence.words
            self._given_up |= self.trials
            self._lose(State.LOST)

    def excuse(self, now: float) -> None:
        """Begin to count its silence anew: this process itself has stood still."""
        self._silence.excuse(now)

    def beat(self) -> None:
        """Send a sign of life, to one that is lost too: it may still have something to tell."""
        self.link.send(encode(Beat(texts=self._work.texts)))

    def drain(self) -> None:
        """Give it no more requests, and end it when nothing is out."""
        if self.state in (State.LIVE, State.SUSPECT, State.STARTING):
            self._become(State.DRAINING)
            self._look_empty()

    def _look_empty(self) -> None:
        if self.state is State.DRAINING and not self.trials:
            self.link.send(encode(Bye()))
            self._become(State.GONE)

    def fail(self, why: str) -> None:
        """Record that it never came to work. why: a sentence."""
        self.why = why
        self.link.send(encode(Bye(why)))
        self.link.end()
        self._lose(State.FAILED)

    def _gone(self, why: str | None) -> None:
        """Its stream has ended."""
        self._given_up.clear()
        if self.state is State.STARTING:
            self.why = why or "it ended before it was ready"
            self._lose(State.FAILED)
        elif self.state not in ENDED:
            self.why = self.why or why or "it ended"
            self._lose(State.GONE if self.state is State.DRAINING and not self.trials else State.LOST)

    def _lose(self, state: State) -> None:
        unsent, self._tries = set(self._tries), []
        self._become(state)
        out, self.trials = self.trials, {}
        for trial in out.values():
            trial.lost(f"the worker {self.name} was lost: {self.why}", sent=trial not in unsent)

    def _become(self, state: State) -> None:
        before, self.state = self.state, state
        if state is State.LIVE:
            self._watcher.room()
        self._watcher.changed(self, before)
