"""Whose process is at the other end of a connection from this machine, as the kernel of Linux knows it."""

import ipaddress
import os
import sys
from pathlib import Path
from typing import TypeAlias

Address: TypeAlias = tuple[str, int]
"""Of one end of a connection: IP address and port."""
_TABLES = {4: Path("/proc/net/tcp"), 6: Path("/proc/net/tcp6")}
_LOCAL, _REMOTE, _UID = 1, 2, 7
"""Columns of such a table: proc_pid_net(5), proc_net_tcp.txt of the kernel."""


def is_own(client: Address | None, server: Address | None) -> bool:
    """Return True if a process of this user is known to be the client of a connection between these ends.

    False also where nobody knows: for another machine, another network namespace, or another system than Linux.
    """
    return client is not None and server is not None and _owner(client, server) == os.getuid()


def _owner(client: Address, server: Address) -> int | None:
    """Return the user id of the client's socket; None if this system does not know it."""
    try:
        here, there = _in_table(client), _in_table(server)
        table = _TABLES[ipaddress.ip_address(client[0]).version].read_text()
    except (OSError, ValueError):
        return None
    for line in table.splitlines()[1:]:
        columns = line.split()
        if columns[_LOCAL] == here and columns[_REMOTE] == there:
            return int(columns[_UID])
    return None


def _in_table(end: Address) -> str:
    """Return an end as the table has it: words of four bytes, each in the order of the processor. Raises ValueError."""
    packed = ipaddress.ip_address(end[0]).packed
    words = (int.from_bytes(packed[at : at + 4], sys.byteorder) for at in range(0, len(packed), 4))
    return f"{''.join(f'{word:08X}' for word in words)}:{end[1]:04X}"
