"""Numbers that count how often they are calculated with: what a calculation takes, without a clock."""


class Counted(float):
    """A number. subtracted: how often one of them was part of a difference, since it was set to 0."""

    subtracted = 0

    def __sub__(self, other: float) -> float:
        Counted.subtracted += 1
        return float(self) - float(other)

    def __rsub__(self, other: float) -> float:
        Counted.subtracted += 1
        return float(other) - float(self)
