"""The states of a worker, as its driver sees it.

    STARTING --Hello--> LIVE --2.5 s of silence--> SUSPECT --a frame--> LIVE
       |                 |                           |
       | 30 s, the end   | the end of its stream     | 5 s of silence, or the end of its stream
       v                 v                                v
     FAILED             LOST <-----------------------+           DRAINING --Bye, or nothing is out--> GONE

STARTING: it has said nothing yet. LIVE: it gets requests. SUSPECT: it gets no new ones, and what it has stays with it. LOST: what
was out on it has failed with ``worker_lost``; if it was only silent, it may still give answers to that. FAILED: it never came
to work, and ``why`` says the reason. DRAINING: it gets no more, and gives back what it has. GONE: it has ended as it was told to.
Silence: nothing is read of it, or it says in its beats that it reads nothing of its driver. Times are seconds of the monotonic
clock of the driver.
"""

from enum import Enum

START_S = 30.0
SUSPECT_S = 2.5
LOST_S = 5.0


class State(Enum):
    """The states of the diagram above."""

    STARTING = "starting"
    LIVE = "live"
    SUSPECT = "suspect"
    LOST = "lost"
    FAILED = "failed"
    DRAINING = "draining"
    GONE = "gone"


ENDED = (State.LOST, State.FAILED, State.GONE)
