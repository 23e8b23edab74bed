"""A provider with what a session knows: what finish reasons mean, which parameters a model refuses, where requests go."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from runner.errors import AttemptError, ProviderError, StreamError
from runner.interfaces import Decoder, Provider
from runner.media import Attachments
from runner.model import Completion, HttpCall, Json, Request
from runner.money import FLEX, STANDARD, tier_asked, tier_of
from runner.providers import parameters
from runner.providers.explain import Destination, explain
from runner.providers.finish import Finish
from runner.providers.lenient_json import decode_json, table
from runner.providers.reasonless import Reasonless
from runner.providers.watched import Watch, WatchedDecoder
from runner.several import SEED_NAMES

DOUBTS = 3
_GROQ_FULL = 498


class Rules(NamedTuple):
    """What a job asks of answers. check: returns an answer as it counts, or why it does not. watch: see ``WatchedDecoder``."""

    check: Callable[[Completion], Completion | AttemptError] | None = None
    # returns for each attempt what looks at its answer
    watch: Callable[[], Watch] | None = None


_NO_RULES = Rules()


class Informed:
    """Wraps the provider of a session. Its dialect and its plug-in know nothing of this.

    finish: what finish reasons mean to the user. destination: the endpoint and its key, for messages; None if unknown.
    strict: a parameter that a model refuses stops the run. tell: called with a sentence for the user.
    doubt: called when ``DOUBTS`` errors may mean that the server expects https where the address says http.
    attachments: the files that rows name. rules: for answers.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        finish: Finish | None = None,
        destination: Destination | None = None,
        strict: bool = False,
        tell: Callable[[str], None] = lambda _: None,
        doubt: Callable[[], None] = lambda: None,
        attachments: Attachments[Request] | None = None,
        rules: Rules = _NO_RULES,
    ) -> None:
        self.attachments, self._check, watch = attachments, *rules
        self._provider, self._finish, self._destination = provider, finish or Finish(), destination
        self._strict, self._tell, self._doubt = strict, tell, doubt
        # requests of one shape -> the parameters that their model refuses in them, each with its other name or None
        self._learned: dict[parameters.Shape, dict[str, str | None]] = {}
        # what was told: model and parameter
        self._told: set[tuple[str, str]] = set()
        # True once an answer has come, so that address and key are right
        self._answered = False
        self._reasonless = Reasonless()
        # errors so far that may mean that the server expects https
        self._doubts = 0
        self.revision = 0
        # the provider's own, until a parameter has been learned
        self.encode: Callable[[Request], HttpCall] = provider.encode
        self.decoder: Callable[[], Decoder] = provider.decoder
        if watch is not None:
            self.decoder = lambda: WatchedDecoder(provider.decoder(), watch())
        self.error: Callable[[int, Mapping[str, str], bytes], ProviderError] = provider.error
        # reads most whole answers faster than a decoder, None for the others; a dialect of a plug-in need not have it
        self.plain: Callable[[bytes], Completion | None] = getattr(provider, "plain", _never_plain)

    def _encode(self, request: Request) -> HttpCall:
        """Return the POST for a request, without the parameters that its model refuses in such a request."""
        learned = self._learned.get(parameters.shape(request))
        return self._provider.encode(request if learned is None else parameters.without(request, learned))

    def judged(self, completion: Completion) -> Completion | AttemptError:
        """Return a complete answer as it counts, or the error that it counts as."""
        self._answered = True
        result = self._finish.judged(completion)
        return result if self._check is None or not isinstance(result, Completion) else self._check(result)

    def explained(self, error: AttemptError, request: Request, call: HttpCall) -> AttemptError:
        """Return the error of an attempt with what is known about its cause. call: what was sent for the request."""
        if isinstance(error, ProviderError) and error.words and parameters.says(_body(call), error.words):
            # the server quotes the row, and says nothing of its own about money or keys
            error.becomes(code="bad_request", verdict="fail")
            error.words = ""
        if isinstance(error, ProviderError) and request.tier == FLEX and error.status == 503:
            # how Gemini says that the tier has no capacity
            error.becomes(code="no_capacity", verdict="retry")
            error.throttled = True
        elif isinstance(error, ProviderError) and error.code == "no_capacity" and not _asks_for_tier(request):
            # no tier is full, but the endpoint, which so many requests are too much for
            error.throttled = error.status != _GROQ_FULL
            error.becomes(code="rate_limited" if error.throttled else "overloaded", verdict=error.verdict)
        learned = isinstance(error, ProviderError) and self._learn(error, request, call)
        if isinstance(error, StreamError) and not self._answered and not error.kept:
            self._reasonless.add(error, call.body)
        if not learned and self._destination is not None:
            self._doubts += explain(error, self._destination, request.model, answered=self._answered)
            if self._doubts == DOUBTS:
                self._doubt()
        return error

    def _learn(self, error: ProviderError, request: Request, call: HttpCall) -> bool:
        """Learn a parameter that the refusal names. Return True if the error is about such a parameter.

        The item is sent again only if its request is another one now, so a provider that never gives in cannot cause a loop.
        """
        own, body = request.params.extra_body or {}, _body(call)
        if tier_of(request.tier) != STANDARD and parameters.names_tier(error, body):
            # every row asks for it, and what it costs without is another price: that is the user's to decide
            alike = self._destination is not None and self._destination.model == request.model
            error.becomes(code="unsupported_tier", verdict="stop" if alike and not self._answered else "fail")
            return True
        name = parameters.refused(error, body, own)
        if name is None and call.made_seed is not None and parameters.names_seed(error, body):
            name = _name_of_seed(body)
        if name is None:
            return False
        shape = parameters.shape(request)
        known = self._learned.get(shape, {})
        other = parameters.OTHER_NAME.get(name)
        if other is not None and (other in known or other in own):
            return False
        made_up = call.made_seed is not None and name in SEED_NAMES
        # the user has not asked for a seed that was made up, so no row and no run depends on it
        if self._strict and not made_up:
            error.reworded(f"{request.model} does not take {name}: {error}")
            error.becomes(code="unsupported_parameter", verdict="stop")
            return True
        learned = {**known, name: other}
        if self._provider.encode(parameters.without(request, learned)).body == call.body:
            return False
        if name not in known:
            self._remember(request, name, made_up=made_up)
        error.becomes(code="unsupported_parameter", verdict="retry")
        error.mended = True
        return True

    def answered_unseeded(self, request: Request) -> None:
        """Leave made-up seeds out of such requests from now on: this one was refused with its seed, and answered without it."""
        name = _name_of_seed(_body(self._provider.encode(request)))
        if name not in self._learned.get(parameters.shape(request), {}):
            self._remember(request, name, made_up=True)

    def _remember(self, request: Request, name: str, *, made_up: bool) -> None:
        """Leave a parameter out of requests like this one, or send it under its other name, and say so once for each model."""
        shape, other = parameters.shape(request), parameters.OTHER_NAME.get(name)
        self._learned[shape] = {**self._learned.get(shape, {}), name: other}
        self.encode = self._encode
        self.revision += 1
        if (request.model, name) not in self._told:
            self._told.add((request.model, name))
            self._tell(parameters.note(request.model, name, other, made_up=made_up))


def _never_plain(_body: bytes) -> None:
    return None


def _name_of_seed(body: Mapping[str, Any]) -> str:
    """Return the name of the seed in the body of a request."""
    return next((name for name in SEED_NAMES if name in body), SEED_NAMES[0])


def _asks_for_tier(request: Request) -> bool:
    return tier_asked(request.tier, request.params.extra_body) is not None


def _body(call: HttpCall) -> Mapping[str, Any]:
    try:
        body: Json = decode_json(call.body)[0]
    except StreamError:
        return {}
    return table(body)
