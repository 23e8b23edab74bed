"""What was learned of the slots of a server, for others that go on with it."""

from msgspec import Struct


class Learned(Struct, frozen=True, array_like=True):
    """The state of the slots of a lane. calm_s, pause_s: since the last trouble."""

    limit: int
    ramping: bool = True
    calm_s: float = 0.0
    pause_s: float = 0.0
    answers: int = 0
    raised_from: int = 0
