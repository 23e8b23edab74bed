"""Which bodies ask the same: those that differ only in whether the answer is to be streamed. Pure.

Of a request in a batch, what chance decides, the number of tokens and the invoice go by the body of the same request in a stream.
So it has the same answer live and in a batch, and the invoice recognizes what is bought both ways.
"""

import re

_NOT_STREAMED = b'"stream":false'
_NOT_STREAMED_SPACED = re.compile(rb'"stream"\s*:\s*false')
_IS_STREAMED = b'"stream":true'
_STREAMED = {"openai": b'"stream":true,"stream_options":{"include_usage":true}', "anthropic": b'"stream":true'}


def as_streamed(dialect: str, body: bytes) -> bytes:
    """Return the body of a request as it would be sent in a stream, with its usage, if it is not sent in one."""
    if _IS_STREAMED in body:
        return body
    streamed = _STREAMED[dialect]
    if _NOT_STREAMED in body:
        return body.replace(_NOT_STREAMED, streamed, 1)
    if b'"stream"' in body:
        return _NOT_STREAMED_SPACED.sub(streamed, body, count=1)
    whole = body.rstrip()
    return whole[:-1] + b"," + streamed + b"}" if whole.endswith(b"}") else body
