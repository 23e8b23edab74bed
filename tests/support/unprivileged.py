"""A folder in which nobody may write, also where the tests run as root."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# what is imported on demand would not be found without root's rights where Python is in a folder of root's own
import filelock

assert filelock

_NOBODY = 65534


@contextmanager
def unwritable() -> Iterator[Path]:
    """Yield a folder that can be read and not written. Root gives up its rights meanwhile: to it no folder is forbidden."""
    # not below pytest's folder, which is closed to others altogether
    folder = Path(tempfile.mkdtemp(prefix="runner-unwritable-"))
    folder.chmod(0o555)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(_NOBODY)
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)
        shutil.rmtree(folder)
