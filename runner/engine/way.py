"""Where an attempt goes: the provider that makes its request there, and the judge of what comes back. A job may have several."""

from msgspec import Struct

from runner.engine.answers import InformedProvider
from runner.engine.judge import Judge


class Way(Struct, eq=False):
    """One endpoint with one key. number: among those of the job. endpoint: its name, where the job has several.

    model: the one that is asked for there in place of another, as (that other one, it); None: what the row asks for.
    """

    provider: InformedProvider
    judge: Judge
    number: int = 0
    endpoint: str | None = None
    model: tuple[str | None, str] | None = None

    def asks_for(self, model: str) -> str:
        """Return the model that a request for another one asks for here."""
        return model if self.model is None or model != self.model[0] else self.model[1]
