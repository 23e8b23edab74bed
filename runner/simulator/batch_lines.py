"""The lines of batches in both dialects: requests, as they are read, and results, as they are written. Pure."""

from typing import Protocol

import msgspec

from runner.simulator.dialect import Dialect, Refusal

_EXPIRED = b'{"code":"batch_expired","message":"This request could not be executed before the completion window expired."}'
_CANCELLED = b'{"code":"batch_cancelled","message":"This request was not executed, because the batch was cancelled."}'


class Request(msgspec.Struct, gc=False):
    """A request of a batch. custom_id, body: as JSON, without copies."""

    custom_id: msgspec.Raw
    body: msgspec.Raw


class _Params(msgspec.Struct, gc=False, rename={"body": "params"}):
    custom_id: msgspec.Raw
    body: msgspec.Raw


class Lines(Protocol):
    """The lines of a dialect. result_id: of the result, without its prefix. custom_id: as JSON."""

    # results that are no answers go to a file of their own
    splits: bool
    # the tier that answers name
    tier: str | None

    def request(self, line: bytes) -> tuple[bytes, bytes]:
        """Return the custom id, as JSON, and the body of a request that was checked before."""
        ...

    def answered(self, result_id: str, custom_id: bytes, body: bytes) -> bytes:
        """Return the result of a request with an answer."""
        ...

    def refused(self, result_id: str, custom_id: bytes, refusal: Refusal) -> bytes:
        """Return the result of a request that was refused."""
        ...

    def expired(self, result_id: str, custom_id: bytes) -> bytes:
        """Return the result of a request for which there was no time."""
        ...

    def cancelled(self, result_id: str, custom_id: bytes) -> bytes:
        """Return the result of a request that was cancelled."""
        ...

    def odd(self, result_id: str, custom_id: bytes, kind: int) -> bytes:
        """Return a result that is neither an answer nor an error. kind: which of several."""
        ...


class OpenAILines:
    """The lines of OpenAI's batches."""

    splits = True
    tier: str | None = None

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._decode = msgspec.json.Decoder(Request).decode

    def request(self, line: bytes) -> tuple[bytes, bytes]:
        """Return the custom id, as JSON, and the body of a request that was checked before."""
        read = self._decode(line)
        return bytes(read.custom_id), bytes(read.body)

    def answered(self, result_id: str, custom_id: bytes, body: bytes) -> bytes:
        """Return the result of a request with an answer."""
        return _response(result_id, custom_id, 200, body)

    def refused(self, result_id: str, custom_id: bytes, refusal: Refusal) -> bytes:
        """Return the result of a request that was refused."""
        return _response(result_id, custom_id, refusal.status, self._dialect.error(refusal, result_id))

    def expired(self, result_id: str, custom_id: bytes) -> bytes:
        """Return the result of a request for which there was no time."""
        return _error(result_id, custom_id, _EXPIRED)

    def cancelled(self, result_id: str, custom_id: bytes) -> bytes:
        """Return the result of a request that was cancelled."""
        return _error(result_id, custom_id, _CANCELLED)

    def odd(self, result_id: str, custom_id: bytes, kind: int) -> bytes:
        """Return a result with status 0 and no body, or with status 200 and no body, or with neither response nor error."""
        match kind % 3:
            case 0:
                return (
                    b'{"id":"batch_req_%s","custom_id":%s,"response":{"status_code":0,"request_id":"","body":null},"error":null}\n'
                ) % (result_id.encode(), custom_id)
            case 1:
                return _response(result_id, custom_id, 200, b"null")
        return b'{"id":"batch_req_%s","custom_id":%s,"response":null,"error":null}\n' % (result_id.encode(), custom_id)


def _response(result_id: str, custom_id: bytes, status: int, body: bytes) -> bytes:
    known = result_id.encode()
    return (b'{"id":"batch_req_%s","custom_id":%s,"response":{"status_code":%d,"request_id":"%s","body":%s},"error":null}\n') % (
        known,
        custom_id,
        status,
        known,
        body,
    )


def _error(result_id: str, custom_id: bytes, error: bytes) -> bytes:
    return b'{"id":"batch_req_%s","custom_id":%s,"response":null,"error":%s}\n' % (result_id.encode(), custom_id, error)


class AnthropicLines:
    """The lines of Anthropic's batches. Requests come as a list; the simulator keeps each in a line."""

    splits = False
    tier: str | None = "batch"

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._decode = msgspec.json.Decoder(_Params).decode

    def request(self, line: bytes) -> tuple[bytes, bytes]:
        """Return the custom id, as JSON, and the body of a request that was checked before."""
        read = self._decode(line)
        return bytes(read.custom_id), bytes(read.body)

    def answered(self, result_id: str, custom_id: bytes, body: bytes) -> bytes:  # noqa: ARG002 - required by the protocol
        """Return the result of a request with an answer."""
        return b'{"custom_id":%s,"result":{"type":"succeeded","message":%s}}\n' % (custom_id, body)

    def refused(self, result_id: str, custom_id: bytes, refusal: Refusal) -> bytes:
        """Return the result of a request that was refused."""
        error = self._dialect.error(refusal, f"req_{result_id}")
        return b'{"custom_id":%s,"result":{"type":"errored","error":%s}}\n' % (custom_id, error)

    def expired(self, result_id: str, custom_id: bytes) -> bytes:  # noqa: ARG002 - as above
        """Return the result of a request for which there was no time."""
        return b'{"custom_id":%s,"result":{"type":"expired"}}\n' % custom_id

    def cancelled(self, result_id: str, custom_id: bytes) -> bytes:  # noqa: ARG002 - as above
        """Return the result of a request that was cancelled."""
        return b'{"custom_id":%s,"result":{"type":"canceled"}}\n' % custom_id

    def odd(self, result_id: str, custom_id: bytes, kind: int) -> bytes:  # noqa: ARG002 - as above
        """Return a result without a message, or none at all."""
        result = b"null" if kind % 2 else b'{"type":"succeeded"}'
        return b'{"custom_id":%s,"result":%s}\n' % (custom_id, result)
