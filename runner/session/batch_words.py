"""What is said of batches in which rows wait."""

from collections.abc import Mapping, Sequence
from typing import Any

from runner.batches import State, StoredBatch
from runner.engine.batch.outlook import Decision
from runner.event_types import WAITING
from runner.text import plural

_HERE: Mapping[str, str] = {
    "writing": "being written",
    "written": "to be sent",
    "uploading": "being sent",
    "uploaded": "being sent",
    "creating": "being sent",
    "ended": "to be read",
    "refused": "refused",
    "gone": "given up",
}
"""What is said of states in which the provider's own word tells nothing."""


def word_of(batch: StoredBatch) -> str:
    """Return the state of a batch as people read it: the provider's word, or what is done with it here."""
    return state_word(batch.state, batch.word)


def state_word(state: State, word: str | None) -> str:
    """Return the same of its state and the provider's word."""
    return _HERE.get(state) or word or state


def waits(batches: Sequence[StoredBatch]) -> str:
    """Return the stop reason of a session that leaves rows which wait in batches; what else they may answer is no row of it."""
    rows = sum(one.waiting for one in batches)
    return f"{WAITING}: {plural(rows, 'row')} in {len(batches):,} {'batch' if len(batches) == 1 else 'batches'}"


def decided(decision: Decision) -> list[str]:
    """Return what a decision about the batches of a mixed run means, each kind in a sentence that is the same each time."""
    words = []
    if decision.cancel:
        words.append("batches are cancelled from now on, so that the run is done in time: what they have not answered goes live")
    if decision.overtake:
        words.append("batches do not end in time: their rows go live, and what these batches still answer is paid for twice")
    return words


def summed(batches: Sequence[StoredBatch]) -> dict[str, Any]:
    """Return what a summary has of the batches that are open at its end."""
    if not batches:
        return {}
    kept = [one.kept_until for one in batches if one.kept_until is not None]
    return {
        "waiting": sum(one.waiting for one in batches),
        "batches": tuple(one.id for one in batches),
        "kept_until": min(kept, default=None),
    }
