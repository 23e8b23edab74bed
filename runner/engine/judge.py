"""Decides what an error means for the run, from what the run has seen so far.

A key error on the first answer stops the run; after ten thousand good answers the same error is only an oddity.
"""

from runner.errors import MODEL_STAYS, UNKNOWN, AttemptError, ProviderError, Verdict, advice, to_address, to_row
from runner.model import Item
from runner.text import shell_word

AUTH_AFTER_SUCCESS = 3
"""Consecutive key errors that stop a run in which the key has worked; rotating proxies return a single one occasionally."""
MONEY_AFTER_SUCCESS = 3
"""Consecutive refusals that stop a run with answers if only words that may be a row's say that there is no money."""
MISSES_AFTER_SUCCESS = 3
"""Consecutive redirects, missing models or answers of no API that stop a run with answers from earlier sessions.

Counted until the model answers in this session. In a run without earlier answers, the first one stops the run."""
SAME_REFUSAL = 20
"""Identical refusals, before any success, that show a wrong setting rather than wrong rows."""
UNREACHED_S = 15.0
"""Seconds after which a run stops if its endpoint has never been reached."""
OUTAGE_S = 3600.0
"""Seconds after which a run stops if an endpoint that has answered is unreachable, or refuses everything."""

_CONFIGURATION = ("redirect", "not_an_api", "not_found")
OWN = ("content_policy", "context_length", "too_large")
"""Codes of refusals that are about one row, whatever else the server does."""
_OF_SIZE = ("context_length", "too_large")
"""Of these, a row that is no larger than one which was answered need not be too large."""
_ABOUT_ROWS = (400, 422)
"""Statuses that a row alone causes, until the run has an answer: by then all rows with a wrong setting get one of them."""


class Judge:
    """Receives every success and every error of the run, in the order in which the attempts end."""

    def __init__(self, *, succeeded: bool = False, model: str | None = None) -> None:
        """succeeded: earlier sessions have answers, so identical refusals are blamed on the rows and not on the settings.

        model: the run's, to tell it from a model that a row names itself; None if unknown.
        """
        self._answered = False
        self._model = model
        self._succeeded = succeeded
        # by model: the size of the largest request that was answered in this session
        self._good_models: dict[str, int] = {}
        self._auth_errors = 0
        self._misses = self._money = 0
        self._refusals = 0
        self._refusal: tuple[str, str] | None = None
        self._unreached_since: float | None = None

    def success(self, model: str, size: int = 0) -> None:
        """Record a completion. size: bytes of its request."""
        self._answered = True
        if size > self._good_models.get(model, -1):
            self._good_models[model] = size
        self._auth_errors = self._misses = self._money = 0
        self._unreached_since = None

    def verdict(self, error: AttemptError, model: str, now: float) -> Verdict:
        """Return what to do about an error. now: seconds on a monotonic clock."""
        if not error.sent:
            return self._unreached(now) if error.verdict == "retry" else error.verdict
        self._answered, self._unreached_since = True, None
        if error.code == "auth":
            self._auth_errors += 1
            wrong = not self._good_models or self._auth_errors >= AUTH_AFTER_SUCCESS
            return "stop" if wrong else "retry"
        self._auth_errors = 0
        if error.code in _CONFIGURATION:
            return self._configured(model)
        self._misses = 0
        if isinstance(error, ProviderError) and error.code == "billing" and error.words and self.answered:
            self._money += 1
            return "stop" if self._money >= MONEY_AFTER_SUCCESS else "fail"
        if isinstance(error, ProviderError) and error.verdict == "fail" and not (self.answered or self.doubts(error)):
            return self._refused(error)
        return error.verdict

    @property
    def answered(self) -> bool:
        """True if the run has an answer, from this session or an earlier one."""
        return self._succeeded or bool(self._good_models)

    def doubts(self, error: AttemptError, model: str = "", size: int | None = None) -> bool:
        """Return True if a refusal for which the verdict is to fail the row may be the endpoint's: the row is then held.

        size: bytes of the refused request; None if unknown. Before the first answer of the run, a 400 of every row shows a
        wrong setting, which ``verdict`` finds.
        """
        if not (isinstance(error, ProviderError) or error.code in _CONFIGURATION):
            return False
        if error.code in OWN:
            return error.code in _OF_SIZE and size is not None and size <= self._good_models.get(model, -1)
        return self.answered or getattr(error, "status", None) not in _ABOUT_ROWS

    def holds(self, error: AttemptError, model: str, size: int, *, patient: bool) -> bool:
        """Return True if a row that is to fail is held until it is known what its refusal means. patient: the user wants that."""
        return patient and self.doubts(error, model, size)

    def advice(self, error: AttemptError, item: Item, said: str | None) -> str:
        """Return what a person can do about an error that stops the run. said: its message as it is stored, without secrets."""
        address = error.address or ""
        # a command is put between backticks, and what was concealed is not told here either
        if address and "`" not in address and address.partition("?")[0] in (said or ""):
            return to_address(shell_word(address))
        if error.code != "not_found":
            return advice(error.code)
        if error.misplaced:
            return to_address(UNKNOWN)
        if self._is_own(item.request.model):
            return to_row(item.position)
        return MODEL_STAYS if self.answered else advice(error.code)

    def _is_own(self, model: str) -> bool:
        """Return True if a row names this model itself, and the run has another one."""
        return self._model is not None and model != self._model

    def _configured(self, model: str) -> Verdict:
        """Judge a redirect, a missing model or an endpoint that is no API.

        If the model has answered in this session, only the row fails. If earlier sessions have answers, the first few rows fail,
        then the run stops. Otherwise the run stops at once.
        """
        if model in self._good_models:
            return "fail"
        self._misses += 1
        return "fail" if self._succeeded and self._misses < MISSES_AFTER_SUCCESS else "stop"

    def _unreached(self, now: float) -> Verdict:
        if self._unreached_since is None:
            self._unreached_since = now
        return "stop" if self.is_out_of_reach(now) else "retry"

    def is_out_of_reach(self, now: float) -> bool:
        """Return True if the server could not be reached for so long that the run may end. now: as for ``verdict``."""
        limit = OUTAGE_S if self._answered else UNREACHED_S
        return self._unreached_since is not None and now - self._unreached_since >= limit

    def _refused(self, error: ProviderError) -> Verdict:
        refusal = (error.code, str(error))
        self._refusals = self._refusals + 1 if refusal == self._refusal else 1
        self._refusal = refusal
        return "stop" if self._refusals >= SAME_REFUSAL else "fail"
