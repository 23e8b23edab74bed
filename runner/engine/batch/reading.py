r"""What one result of a batch amounts to: entries for the store, and whether its row is open again. Sends and stores nothing.

    answered --the provider reads it--> done | failed | to be asked for a better answer
    refused  --as a live refusal------> failed | open again, with one attempt less | open again, as the run stops
    cancelled ------------------------> open again: never sent, so not billed
    expired --------------------------> the same; where further batches follow, with one attempt less
    odd, missing ---------------------> open again, with one attempt less: perhaps billed

A row that is open again brings along how many attempts it has lost, and what it is to be asked with.
"""

from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct, structs

from runner.batches import BATCH_TIER, BatchResult, BatchRow, Reask, StoredBatch
from runner.engine.answers import InformedProvider, without_frames
from runner.engine.batch.asked import Asked
from runner.engine.batch.entries import bounded, item_of, outcome_of, unsplit
from runner.engine.batch.learning import Learning
from runner.engine.batch.parts import Rules
from runner.engine.judge import Judge
from runner.engine.outcomes import conceal, partial_of
from runner.engine.repair import following, kept_of
from runner.errors import AttemptError, InvalidAnswerError, ProviderError, StreamError, advice
from runner.interfaces import Decoder
from runner.model import Attempt, Completion, Entry, Outcome

_EXPIRED = "the batch expired before this request was answered"
_CANCELLED = "the batch was cancelled before this request was answered"
_MISSING = "the results of the batch have no answer to this request"
_ODD = "the results of the batch have neither an answer nor an error for this request"


class Read(Struct, frozen=True, gc=False):
    """What a result amounts to. returned: its row is open again; reask: what it brings along then."""

    entry: Entry | None
    returned: bool = False
    reask: Reask | None = None


class Ends(NamedTuple):
    """Why the run is to stop, once all results are read: a sentence, and its code."""

    sentence: str
    code: str


class Reading:
    """Reads the results of one batch. asked: finds its requests. further: rows that come back open go into further batches.

    answers: those that are read so far.
    """

    def __init__(
        self,
        provider: InformedProvider,
        judge: Judge,
        rules: Rules,
        batch: StoredBatch,
        asked: Asked,
        learning: Learning,
        *,
        further: bool,
    ) -> None:
        self._provider, self._judge, self._asked, self._learning = provider, judge, asked, learning
        self._policy, self._redactor, self._now, self._further = rules.policy, rules.redactor, rules.clock.monotonic, further
        self._model = batch.model
        self._began = batch.submitted_at or batch.created_at
        # two clocks are compared: the provider's may be behind
        self._took = round(max(0.0, (batch.ended_at or rules.clock.wall()) - self._began), 6)
        self._plain: Callable[[bytes], Completion | None] = provider.plain
        # the provider counts answers, or rows have been settled in an earlier session
        self._has_answers = batch.done > 0 or batch.waiting < batch.rows
        self.answers = 0
        self.ends: Ends | None = None

    def answered(self, result: BatchResult, row: BatchRow) -> Read:
        """Read an answer."""
        answer = self._plain(result.body)
        if answer is None:
            decoder = self._provider.decoder()
            try:
                decoder.whole(result.body)
                _must_be_complete(decoder)
                answer = decoder.completion()
            except AttemptError as error:
                return self._refused(result, row, error, conceal(partial_of(decoder), self._redactor))
            except Exception as error:  # noqa: BLE001 - one unusual answer must not end the run
                words = f"{type(error).__name__}: {error}"
                return self._ruled(result, row, AttemptError(words, code="internal", verdict="fail"), None)
        answer = conceal(answer, self._redactor)
        self.answers += 1
        counted = self._provider.judged(answer)
        if isinstance(counted, AttemptError):
            return self._ruled(result, row, counted, answer)
        self._judge.success(self._model, row.input_bound or 0)
        if self._learning.unseeded:
            self._learning.answered(row)
        return Read(
            Outcome(
                key=row.key,
                position=row.position,
                status="done",
                metadata=row.metadata,
                fingerprint=row.fingerprint,
                completion=counted,
                attempt=self._attempt(result, row, counted),
                attempts=row.number,
                made_seed=row.made_seed,
            )
        )

    def other(self, result: BatchResult, row: BatchRow) -> Read:
        """Read a result that is no answer."""
        if result.kind == "expired" or result.kind == "cancelled":
            return self.expired(row) if result.kind == "expired" else self.cancelled(row)
        if result.kind == "odd":
            return self.missing(row, _ODD)
        if result.status is not None and result.status >= 400:
            return self._refused(result, row, self._provider.error(result.status, {}, result.body), None)
        decoder = self._provider.decoder()
        try:
            # an error in the body of an answer, as some gateways have it
            decoder.whole(result.body)
        except AttemptError as error:
            return self._refused(result, row, error, None)
        except Exception as error:  # noqa: BLE001 - as above
            words = f"{type(error).__name__}: {error}"
            return self._ruled(result, row, AttemptError(words, code="internal", verdict="fail"), None)
        return self.missing(row, _ODD)

    def expired(self, row: BatchRow) -> Read:
        """Read a request that the provider had not begun when the batch expired, as further batches may without end."""
        error = AttemptError(_EXPIRED, code="batch_expired", sent=False)
        return self._again(row, self._failed(row, error), error, None, counts=self._further)

    def cancelled(self, row: BatchRow) -> Read:
        """Read a request that the provider had not begun when the batch was cancelled."""
        error = AttemptError(_CANCELLED, code="batch_cancelled", sent=False)
        return Read(self._failed(row, error), returned=True)

    def missing(self, row: BatchRow, words: str = _MISSING) -> Read:
        """Read a request of which nothing came: nobody knows whether it was billed."""
        error = AttemptError(words, code="batch_missing")
        return self._again(row, bounded(self._failed(row, error), row), error, None)

    def faulty(self, row: BatchRow, words: str) -> Read:
        """Read a request because of which the provider took none of the batch."""
        error = AttemptError(self._redactor(words), code="bad_request", verdict="fail", sent=False)
        return Read(outcome_of(row, self._failed(row, error), None))

    # -- errors

    def _refused(self, result: BatchResult, row: BatchRow, error: AttemptError, answer: Completion | None) -> Read:
        """Read an error that the provider has told, with what is known of its cause."""
        call = self._asked.call(row.custom_id, row.made_seed)
        error = without_frames(self._provider.explained(error, self._asked.request(call), call))
        attempt = self._error(result, row, error, answer)
        if 200 <= (attempt.status or 200) <= 299:
            # what has been counted need not be all
            attempt = bounded(attempt, row)
        if error.mended and self._learning.mends(row, error):
            return Read(attempt, returned=True)
        if self._learning.tries_unseeded(row, error):
            return Read(attempt, returned=True)
        return self._by_verdict(row, attempt, error, answer)

    def _ruled(self, result: BatchResult, row: BatchRow, error: AttemptError, answer: Completion | None) -> Read:
        """Read an error that an answer counts as."""
        return self._by_verdict(row, self._error(result, row, error, answer), error, answer)

    def _by_verdict(self, row: BatchRow, attempt: Attempt, error: AttemptError, answer: Completion | None) -> Read:
        judge, model, size = self._judge, self._model, row.input_bound or 0
        if isinstance(error, InvalidAnswerError) and error.mendable and row.repairs < self._policy.repairs:
            judge.success(model)
            better = Reask(
                key=row.key,
                messages=following(error),
                repairs=row.repairs + 1,
                failures=row.failures,
                fingerprint=row.fingerprint,
            )
            return Read(attempt, returned=True, reask=better)
        if error.kept:
            judge.success(model)
            verdict = error.verdict
        else:
            verdict = judge.verdict(error, model, self._now())
        patient, alone = self._policy.refused_s > 0, not (self.answers or self._has_answers)
        if verdict == "fail" and alone and judge.holds(error, model, size, patient=patient):
            # all of the batch is refused alike: that is the endpoint's doing, and no row's
            attempt = structs.replace(attempt, error=f"{attempt.error} (every row of the batch was refused)")
            return self._stops(attempt, "refused", advice("refused"))
        if verdict == "stop":
            return self._stops(attempt, error.code, judge.advice(error, item_of(row, model), attempt.error))
        if verdict == "retry":
            return self._again(row, attempt, error, answer)
        return Read(outcome_of(row, attempt, kept_of(answer, error)))

    def _again(
        self, row: BatchRow, attempt: Attempt, error: AttemptError, answer: Completion | None, *, counts: bool | None = None
    ) -> Read:
        """Read a failure after which a row is asked again, as long as it has attempts left. counts: None: as in a live run."""
        if counts is None:
            counts = error.sent and not (isinstance(error, ProviderError) and error.throttled)
        failures = row.failures + counts
        if failures >= self._policy.attempts:
            return Read(outcome_of(row, attempt, kept_of(answer, error)))
        if failures == row.failures:
            return Read(attempt, returned=True)
        # ``messages`` are those that it has already; the importer puts them in
        again = Reask(key=row.key, messages=(), repairs=row.repairs, failures=failures, fingerprint=row.fingerprint)
        return Read(attempt, returned=True, reask=again)

    def _stops(self, attempt: Attempt, code: str, todo: str) -> Read:
        if self.ends is None:
            self.ends = Ends(f"{(attempt.error or '').rstrip('.')}. {todo}", code)
        return Read(attempt, returned=True)

    # -- attempts

    def _attempt(self, result: BatchResult, row: BatchRow, answer: Completion) -> Attempt:
        """Return the attempt of an answer."""
        usage = answer.usage
        known = usage is not None and usage.input_tokens is not None and usage.output_tokens is not None
        return Attempt(
            key=row.key,
            number=row.number,
            started_at=self._began,
            duration_s=self._took,
            status=result.status,
            bytes_received=len(result.body),
            usage=usage,
            input_bound=None if known else row.input_bound,
            output_bound=None if known else row.output_bound,
            cache_1h_bound=unsplit(usage, row) if known else row.cache_1h_bound,
            model=self._model,
            served_model=answer.served_model,
            tier=BATCH_TIER,
            response_id=answer.response_id,
            made_seed=row.made_seed,
        )

    def _error(self, result: BatchResult, row: BatchRow, error: AttemptError, answer: Completion | None) -> Attempt:
        """Return the attempt of an error. answer: what came with it."""
        status = result.status or getattr(error, "status", None)
        refused = status is not None and not 200 <= status <= 299
        attempt = self._attempt(structs.replace(result, status=status), row, answer or Completion(text="", finish_reason=""))
        if refused:
            attempt = structs.replace(attempt, input_bound=None, output_bound=None, cache_1h_bound=None)
        return structs.replace(attempt, sent=error.sent, error_code=error.code, error=self._redactor(str(error)))

    def _failed(self, row: BatchRow, error: AttemptError) -> Attempt:
        return Attempt(
            key=row.key,
            number=row.number,
            started_at=self._began,
            duration_s=self._took,
            model=self._model,
            tier=BATCH_TIER,
            made_seed=row.made_seed,
            sent=error.sent,
            error_code=error.code,
            error=str(error),
        )


def _must_be_complete(decoder: Decoder) -> None:
    if not decoder.complete:
        raise StreamError("the answer has no finish reason", code="truncated", marked=True, orderly=True)
