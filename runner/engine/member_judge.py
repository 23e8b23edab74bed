"""Judges the errors of one endpoint among several: what would stop the run takes the endpoint out, as long as others are left."""

from collections.abc import Callable

from runner.engine.judge import OWN, Judge
from runner.engine.limits.roster import Member, Roster
from runner.errors import AttemptError, ProviderError, Verdict
from runner.text import clean, plural

_OF_ALL = ("no_workers",)
"""Codes of errors that no endpoint has caused, and that no other one would spare the run."""


class MemberJudge(Judge):
    """The judge of an endpoint. tell: receives a sentence for the user when it is taken out. peers: the judges of all."""

    def __init__(
        self, member: Member, roster: Roster, peers: list["MemberJudge"], tell: Callable[[str], None], *, model: str | None
    ) -> None:
        # what earlier sessions were answered tells nothing about this endpoint
        super().__init__(model=model)
        self._member, self._roster, self._peers, self._tell = member, roster, peers, tell
        peers.append(self)

    def verdict(self, error: AttemptError, model: str, now: float) -> Verdict:
        """Return what to do about an error. now: seconds on a monotonic clock."""
        verdict = super().verdict(error, model, now)
        if verdict != "stop" or error.code in _OF_ALL:
            return verdict
        if self._passes_on(error):
            # that it refuses the content of all rows shows no wrong setting: the fallback is asked each time
            return "fail"
        if not error.sent and error.verdict == "retry":
            return "retry" if any(peer.waits(now) for peer in self._peers if peer is not self) else "stop"
        if error.code == "not_found" and model != self._model:
            # a row names this model itself; for the others the endpoint is good
            return "fail"
        if not self._roster.others(self._member):
            return "stop"
        if self._member.out is None:
            self._leave_out(error)
        return "retry"

    def waits(self, now: float) -> bool:
        """Return True as long as the endpoint may answer: it gets requests, and has not been out of reach for too long."""
        return self._member in self._roster.serving() and not self.is_out_of_reach(now)

    def doubts(self, error: AttemptError, model: str = "", size: int | None = None) -> bool:
        """Return True if a refusal may be the endpoint's own. Where there are others, one of them is asked too."""
        if super().doubts(error, model, size):
            return True
        return isinstance(error, ProviderError) and error.code not in OWN and self._roster.others(self._member)

    def holds(self, error: AttemptError, model: str, size: int, *, patient: bool) -> bool:
        """Return True if a row that is to fail is held: its content may be asked of a fallback, or as with one endpoint."""
        return self._passes_on(error) or super().holds(error, model, size, patient=patient)

    def _passes_on(self, error: AttemptError) -> bool:
        return error.code == "content_policy" and self._roster.passes_on(self._member)

    def _leave_out(self, error: AttemptError) -> None:
        self._roster.take_out(self._member, error.code)
        left = len(self._roster.serving())
        words = clean(str(error), 300).rstrip(".")
        self._tell(f"endpoint {self._member.name} is left out: {words}; the run goes on with {plural(left, 'endpoint')}")
