"""What the store knows of the rows of an input before they are read: of one key, and of a beginning in which all is settled."""

from msgspec import Struct

from runner.model import Status


class Settled(Struct, frozen=True):
    """What the store holds for a key. The fields are in the order of the columns of the query."""

    # None: only attempts, no outcome
    status: Status | None
    position: int | None
    fingerprint: int | None
    attempts: int
    # True for a broken row: no request could be made from it
    broken: bool = False
    # True: a retry has chosen the row, and has not asked it again yet
    again: bool = False
    # True: its request waits in a batch at a provider, so that nothing else may send the row
    waiting: bool = False


class Head(Struct, frozen=True, kw_only=True):
    """The beginning of an input, up to the end of a line, in which each row was settled, unchanged and in its place."""

    # its content: bytes and their hash, lines and rows
    bytes: int
    digest: str
    lines: int
    rows: int
    # of its rows: those without an id that are identical to an earlier one
    identical: int
