"""What an error means for the run, given what the run has seen so far.

A wrong key is a reason to stop on the first answer, and no more than an odd answer after ten thousand good ones.
"""

from runner.errors import AttemptError, ProviderError, Verdict

AUTH_AFTER_SUCCESS = 3
"""Consecutive key errors that stop a run in which the key had worked; rotating proxies show one now and then."""
MISSES_AFTER_SUCCESS = 3
"""Rows in a row that meet no model or no API, before the session's first answer, in a run that has answers from earlier ones."""
SAME_REFUSAL = 20
"""First answers that, all alike, show a wrong setting rather than wrong rows."""
UNREACHED_S = 15.0
"""How long an endpoint that never answered is tried."""
OUTAGE_S = 3600.0
"""How long an endpoint that had answered may be out of reach, or refuse everything."""

_CONFIGURATION = ("redirect", "not_an_api", "not_found")


class Judge:
    """Give it every success and every error of the run, in the order in which they end."""

    def __init__(self, *, succeeded: bool = False) -> None:
        """succeeded: rows were answered in earlier sessions, so refusals that are all alike show wrong rows."""
        self._answered = False
        self._succeeded = succeeded
        self._good_models: set[str] = set()
        self._auth_errors = 0
        self._misses = 0
        self._refusals = 0
        self._refusal: tuple[str, str] | None = None
        self._unreached_since: float | None = None

    def success(self, model: str) -> None:
        """Note a completion."""
        self._answered = True
        self._good_models.add(model)
        self._auth_errors = self._misses = 0
        self._unreached_since = None

    def verdict(self, error: AttemptError, model: str, now: float) -> Verdict:
        """Say what to do about an error. ``now``: a monotonic clock, in seconds."""
        if not error.sent and error.verdict == "retry":
            return self._unreached(now)
        self._answered, self._unreached_since = True, None
        if error.code == "auth":
            self._auth_errors += 1
            wrong = not self._good_models or self._auth_errors >= AUTH_AFTER_SUCCESS
            return "stop" if wrong else "retry"
        self._auth_errors = 0
        if error.code in _CONFIGURATION:
            return self._configured(model)
        self._misses = 0
        if isinstance(error, ProviderError) and error.verdict == "fail" and not (self._succeeded or self._good_models):
            return self._refused(error)
        return error.verdict

    def _configured(self, model: str) -> Verdict:
        """A row's own mistake where the model answers; where it had answered in an earlier session, for a few rows in a row."""
        if model in self._good_models:
            return "fail"
        self._misses += 1
        return "fail" if self._succeeded and self._misses < MISSES_AFTER_SUCCESS else "stop"

    def _unreached(self, now: float) -> Verdict:
        if self._unreached_since is None:
            self._unreached_since = now
        limit = OUTAGE_S if self._answered else UNREACHED_S
        return "stop" if now - self._unreached_since >= limit else "retry"

    def _refused(self, error: ProviderError) -> Verdict:
        same = (error.code, str(error))
        self._refusals = self._refusals + 1 if same == self._refusal else 1
        self._refusal = same
        return "stop" if self._refusals >= SAME_REFUSAL else "fail"
