"""Files that go along with a prompt (pictures, PDFs, recordings): their values, and the socket through which they are read.

Below ``model``, like ``pace``: a request says whether it has any.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from msgspec import Struct

MediaField: TypeAlias = Literal["image", ""]
"""What a field of a row may name: pictures alone, or files of any kind."""

MEDIA_FIELDS: Mapping[str, MediaField] = MappingProxyType({"images": "image", "files": ""})
"""The fields that name files of a row, unless the job names others."""

KINDS = {
    "image/png": "image",
    "image/jpeg": "image",
    "image/gif": "image",
    "image/webp": "image",
    "application/pdf": "pdf",
    "audio/wav": "audio",
    "audio/mpeg": "audio",
}
"""The media types that are sent, and the kind of each."""


class Media(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A picture, a PDF or a recording in the content of a message, in place of the dialect's own part for it."""

    # a path, a URL, a data URI or base64, as the row has it
    source: str
    # "image", "pdf" or "audio"; empty until the file has been looked at
    kind: str = ""
    # the content part around it, where the user has written one
    part: Mapping[str, Any] | None = None
    # the rest is filled in when the request is made: either a URL, or the type (image/png), the data (base64) and a file name
    url: str = ""
    media_type: str = ""
    data: str = ""
    name: str = ""

    @property
    def data_uri(self) -> str:
        """The data with its type, as one URI."""
        return f"data:{self.media_type};base64,{self.data}"


class MediaLimits(Struct, frozen=True, kw_only=True):
    """What a provider accepts, in bytes; None: no limit is known."""

    # one picture, as base64
    image: int | None = None
    # all PDFs of a request together, as files
    pdfs: int | None = None
    # a whole request
    request: int | None = None


R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")


class Outline(Protocol[R_co]):
    """A request without the contents of its files."""

    @property
    def request(self) -> R_co:
        """The request."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens that are expected for the files."""
        ...

    @property
    def size(self) -> int:
        """Bytes of the files, as base64."""
        ...


class Attachments(Protocol[R]):
    """Reads the files that rows name. Both methods block, and raise AttachmentError for a file that cannot be sent."""

    def outlined(self, request: R) -> Outline[R]:
        """Look at the files of a request."""
        ...

    def filled(self, request: R) -> R:
        """Return the request with the contents of its files."""
        ...
