"""What the user tells an engine: plain values, and the address at which its workers reach the run."""

import ipaddress
import os
import re
import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress

from runner.errors import UsageError
from runner.text import clean

# what stands in a script or in the arguments of a program without quotes
_PLAIN = re.compile(r"[\w.,:=+@%/|&()\[\]*~-]+", re.ASCII)
_WHOLE = re.compile(r"[1-9][0-9]{0,5}")
_LONGEST = 200


def text(options: Mapping[str, object], name: str, engine: str, *, fits: re.Pattern[str] = _PLAIN) -> str | None:
    """Return an option as a text without spaces and quotes; None if it is not given. Raises UsageError."""
    value = options.get(name)
    if value is None:
        return None
    words = str(value)
    if len(words) > _LONGEST or not fits.fullmatch(words):
        raise UsageError(f"the option {name} of the engine {engine} cannot be '{clean(words, 60)}'")
    return words


def whole(options: Mapping[str, object], name: str, engine: str, default: int) -> int:
    """Return an option that is a whole number of 1 or more. Raises UsageError."""
    value = options.get(name, default)
    if isinstance(value, bool) or not _WHOLE.fullmatch(str(value)):
        shown = clean(str(value), 60)
        raise UsageError(f"the option {name} of the engine {engine} must be a whole number of 1 or more, not '{shown}'")
    return int(str(value))


def program(options: Mapping[str, object], engine: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """Return the words that start runner where the workers are: the option ``runner``. Raises UsageError."""
    value = options.get("runner")
    if value is None:
        return default
    try:
        words = tuple(shlex.split(str(value)))
    except ValueError:
        words = ()
    if not words or not str(value).isprintable():
        raise UsageError(f"the option runner of the engine {engine} must be a command, such as runner=/shared/venv/bin/runner")
    return words


def reachable(options: Mapping[str, object], engine: str, address: str) -> str:
    """Return the address at which workers on other machines reach the run: the option ``connect``, else where it listens.

    Raises UsageError for an address that means this machine only.
    """
    host, _, port = address.rpartition(":")
    given = text(options, "connect", engine)
    if given is not None:
        return given if _has_port(given) else f"{given}:{port}"
    if _is_this_machine(host.strip("[]")):
        raise UsageError(
            f"the engine {engine} starts workers on other machines, and these cannot reach {address}; add --listen HOST, "
            "an address of this machine in the network of the cluster"
        )
    return address


def worker(words: tuple[str, ...], address: str) -> list[str]:
    """Return the arguments of a worker that finds its token in the environment. words: what starts runner."""
    return [*words, "worker", "--connect", address]


def this_python() -> tuple[str, ...]:
    """Return the words that start runner with this interpreter, which a shared folder brings to other machines too."""
    # -P: no file of the current folder stands for a module of Python or of ours
    return sys.executable, "-P", "-m", "runner"


def without(names: tuple[str, ...], **more: str) -> dict[str, str]:
    """Return the environment without the variables ``names``, and with those of ``more``."""
    return {name: value for name, value in os.environ.items() if name not in names} | more


def _has_port(address: str) -> bool:
    """Return True for HOST:PORT and [IPv6]:PORT; a bare IPv6 address has no port."""
    host, colon, port = address.rpartition(":")
    return bool(colon) and port.isdecimal() and (":" not in host or host.endswith("]"))


def _is_this_machine(host: str) -> bool:
    if host in ("", "localhost"):
        return True
    with suppress(ValueError):
        found = ipaddress.ip_address(host)
        return found.is_loopback or found.is_unspecified
    return False
