"""A provider at one of several endpoints: its requests carry its number, and name the model that is asked for there."""

from collections.abc import Mapping

from msgspec import structs

from runner.errors import ProviderError
from runner.interfaces import Decoder, Provider
from runner.model import HttpCall, Request


class AtEndpoint:
    """Wraps the provider of an endpoint. model: (that of the job, the one that is asked for here in its place), or None."""

    def __init__(self, provider: Provider, number: int, model: tuple[str | None, str] | None) -> None:
        self._provider, self._number, self._model = provider, number, model

    def encode(self, request: Request) -> HttpCall:
        """Build the POST for a request."""
        if self._model is not None and request.model == self._model[0]:
            request = structs.replace(request, model=self._model[1])
        call = self._provider.encode(request)
        return HttpCall(url=call.url, headers=call.headers, body=call.body, made_seed=call.made_seed, endpoint=self._number)

    def decoder(self) -> Decoder:
        """Return a decoder for one attempt."""
        return self._provider.decoder()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """Classify an answer other than 200."""
        return self._provider.error(status, headers, body)
