"""When an answer is complete: a small machine for each attempt, and what the answers of an endpoint have taught. Pure.

              reason in one event with text
          +--------------------------------> REASON --+
          |                                           |  final usage             end mark
        OPEN                                          +-------------> COUNTED -----------> ENDED
          |                                           |
          +--------------------------------> WHOLE  --+
              reason behind the text

        Text behind a reason leads from REASON, WHOLE and COUNTED back to OPEN.

What each stage is worth when the body ends:

    ================  ==============================  ===========================================
    stage             the body ends in good order     the connection breaks, or a timeout expires
    ================  ==============================  ===========================================
    OPEN              cut off: tried again            tried again
    REASON            done                            tried again
    WHOLE, COUNTED    done                            done, with the note ``tail_lost``
    ENDED             done                            done
    ================  ==============================  ===========================================

Some servers put a finish reason on every chunk. Once text has come behind a reason of a model, a reason of that model is never
more than REASON: only the end mark or the end of the body completes its answers. ``Habits`` remembers that for a session.
"""

from runner.model import Stage

MOST_MODELS = 100
"""Models whose habits are remembered one by one; beyond that, what one of them does is expected of all."""


class Habits:
    """At which stages text has come nevertheless, for each model that an endpoint has named."""

    __slots__ = ("_all", "_models", "any")

    def __init__(self) -> None:
        # something has been noted
        self.any = False
        self._models: dict[str | None, Stage] = {}
        self._all = Stage.OPEN

    def note(self, model: str | None, stage: Stage) -> None:
        """Remember that text came when an answer of this model had reached ``stage``."""
        # a reason that came with text and one that came behind it are the same to a server that means neither
        stage = max(stage, Stage.WHOLE, self.doubted(model))
        self.any = True
        if len(self._models) < MOST_MODELS or model in self._models:
            self._models[model] = stage
        else:
            self._all = max(stage, self._all)

    def doubted(self, model: str | None) -> Stage:
        """Return the highest stage that shows nothing for this model; ``Stage.OPEN`` if each means what it says."""
        return max(self._all, self._models.get(model, Stage.OPEN))


class Completeness:
    """The stage of one answer. The decoder calls a method for each thing that it meets, with the model as far as it is known."""

    __slots__ = ("_habits", "reasoned", "stage")

    def __init__(self, habits: Habits | None = None) -> None:
        self._habits = habits if habits is not None else Habits()
        self.stage = Stage.OPEN
        # a finish reason has come, whatever came behind it
        self.reasoned = False

    def text(self, model: str | None) -> None:
        """A piece of text, reasoning, refusal or tool call has come."""
        if self.stage is not Stage.OPEN:
            self._habits.note(model, self.stage)
            self.stage = Stage.OPEN

    def reason(self, model: str | None, *, behind_text: bool) -> None:
        """A finish reason has come. behind_text: no piece came in the same event, and nothing that was begun is unfinished."""
        self.reasoned = True
        stage = (
            Stage.WHOLE if behind_text and (not self._habits.any or self._habits.doubted(model) < Stage.WHOLE) else Stage.REASON
        )
        if stage > self.stage:
            self.stage = stage

    def usage(self, model: str | None) -> None:
        """The usage of the whole answer has come. It means something only behind a finish reason."""
        if self.stage is not Stage.OPEN and (not self._habits.any or self._habits.doubted(model) < Stage.COUNTED):
            self.stage = Stage.COUNTED

    def restart(self) -> None:
        """Forget the answer: another one counts."""
        self.stage, self.reasoned = Stage.OPEN, False
