"""A lane that shares its limits, with all that its run knows of that."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from runner.engine.clock import Clock
from runner.engine.limits.shared_lane import SharedLane
from runner.sharing.hand import Hand
from runner.text import clean

_UNITS: Mapping[str, str] = {
    "rpm": "requests",
    "tpm": "tokens",
    "input_tpm": "input tokens",
    "output_tpm": "output tokens",
}


class Notes:
    """Tells the user of a session each sentence once, whichever of its lanes it comes from. tell: takes them."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell, self._told = tell, set[str]()

    def once(self, sentence: str, about: str | None = None) -> None:
        """Tell a sentence. about: nothing more is told about that, in whatever words."""
        key = about or sentence
        if key not in self._told:
            self._told.add(key)
            self._tell(sentence)


class Party(NamedTuple):
    """What is the same whoever serves. identity: of endpoint, model and key. name: of the run.

    failed: takes an error that nobody else catches, as in what the event loop calls; the lane then goes on by itself.
    """

    lane: SharedLane
    hand: Hand
    clock: Clock
    identity: str
    name: str
    notes: Notes
    failed: Callable[[Exception], None]

    def tell(self, sentence: str) -> None:
        """Tell the user something, once."""
        self.notes.once(sentence)

    def shares_with(self, name: str) -> None:
        """Tell that the limits are shared. Only of the first run: how many there are is seen elsewhere."""
        self.notes.once(f"limits are shared with {self._called(name)}: it has the same endpoint, model and key", "sharing")

    def tell_of_limits(self) -> None:
        """Tell of each limit that the user of another run has set, where it holds for this one."""
        for kind, (limit, name) in self.hand.borrowed.items():
            what = f"a limit of {limit:,.10g} {_UNITS[kind]} a minute holds for all runs that share it"
            self.tell(f"{what}: {self._called(name)} set it; --no-share keeps this run apart")

    def _called(self, name: str) -> str:
        return "another run of this process" if name == self.name else clean(name, 100)
