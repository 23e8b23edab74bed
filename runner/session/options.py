"""How one session of a run is to go."""

from msgspec import Struct


class SessionOptions(Struct, frozen=True, kw_only=True):
    """How a session is to go.

    run_id: go on with this run; None finds the run by input and settings. new: begin one in any case. retry_failed: give
    failed items another chance. accept_changes: send rows again that ask something else now.
    limit: only the first so many rows. strict: refuse to start over a broken row.
    """

    run_id: int | None = None
    new: bool = False
    retry_failed: bool = False
    accept_changes: bool = False
    limit: int | None = None
    strict: bool = False
