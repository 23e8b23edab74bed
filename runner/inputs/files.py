"""What every reader asks of its file: that it is a regular one, how large it is, and how it begins. Errors are sentences."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from runner.errors import UsageError
from runner.inputs.compression import open_compressed, packing_of

HEAD_BYTES = 64 * 1024
"""Bytes by which the format of a file is recognised, if its first line is not longer."""
_LONGEST_HEAD = 16 * 1024 * 1024
"""Bytes of a first line by which it is recognised, at most: one with images may have millions."""
_MOST_BLANKS = 64 * 1024 * 1024
"""Bytes at most that are looked through for the first line that is not blank."""
_BLANK = b" \t\r\n\xef\xbb\xbf\xff\xfe\0"


def size_and_head(path: Path) -> tuple[int, bytes]:
    """Return the size of a file in bytes, and the beginning of its content, unpacked. Raises UsageError."""
    with explained(path):
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UsageError(f"{path} is a folder, not a prompt file")
        # This check comes before opening, which would wait forever for the other end of a pipe.
        if not stat.S_ISREG(status.st_mode):
            reason = "is not a regular file, and a run reads its input more than once"
            raise UsageError(f"{path} {reason}; save it to a file first, or pipe it in: runner run -")
        with open_compressed(path, status.st_size) as (file, _):
            return status.st_size, _head(file)


def _head(file: IO[bytes]) -> bytes:
    """Return the first bytes of a file, to the end of its first line that is not blank if that is not too long."""
    head, left = bytearray(file.read(HEAD_BYTES)), _MOST_BLANKS // HEAD_BYTES
    # of blanks nothing is kept, but for the mark of an encoding
    marked, line = b"\0" in head[:8], bytes(head.lstrip(_BLANK))
    begun, ended = bool(line), b"\n" in line
    while left and not ended and len(head) < _LONGEST_HEAD and (more := file.read(HEAD_BYTES)):
        left -= 1
        if not (begun or marked):
            head.clear()
        head += more
        line = more if begun else more.lstrip(_BLANK)
        begun, ended = begun or bool(line), b"\n" in line
    return bytes(head)


def refuse_packed(path: Path, format_name: str) -> None:
    """Raise UsageError if a file is compressed whose format must be read where it lies."""
    with explained(path), path.open("rb") as file:
        packing = packing_of(file.read(8))
    if packing is not None:
        raise UsageError(f"{path} is compressed ({packing.name}), in which {format_name} cannot be read; unpack it first")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the system says about a prompt file into a sentence, a UsageError."""
    try:
        yield
    except MemoryError as error:
        raise UsageError(f"{path} needs more memory than there is: a row of it, or its sheet, is too large") from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError | ValueError) -> UsageError:
    if isinstance(error, FileNotFoundError):
        return UsageError(f"there is no prompt file {path}")
    if isinstance(error, PermissionError):
        return UsageError(f"no permission to read the prompt file {path}")
    why = getattr(error, "strerror", None) or " ".join(str(error).split()).rstrip(".")[:200]
    return UsageError(f"cannot read the prompt file {path}: {why}")
