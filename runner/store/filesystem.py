"""Where a store may lie: tells network file systems, on which SQLite's WAL does not work, from local ones."""

import re
import sys
from pathlib import Path

_NETWORK = {
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs",
    "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "wekafs",
    "fuse.ceph", "fuse.davfs2", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.juicefs", "fuse.nfs", "fuse.rclone",
    "fuse.s3fs", "fuse.smbnetfs", "fuse.sshfs",
}  # fmt: skip
_MOUNTS = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")


def network(folder: Path) -> str | None:
    """Give the type of the network file system that a folder lies on; None for a local one, or where it cannot be told."""
    if sys.platform != "linux":
        return None
    try:
        found = kind(folder.resolve(), _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError:
        return None
    return found if found in _NETWORK else None


def kind(folder: Path, mounts: str) -> str | None:
    """Give the type of the file system under a folder, by the kernel's list of mounts (proc_pid_mountinfo)."""
    deepest, found = -1, None
    for line in mounts.splitlines():
        before, _, behind = line.partition(" - ")
        fields, types = before.split(), behind.split()
        if len(fields) < 5 or not types:
            continue
        point = Path(_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), fields[4]))
        depth = len(point.parts)
        # of two mounts on one folder the later one lies on top
        if depth >= deepest and folder.is_relative_to(point):
            deepest, found = depth, types[0]
    return found
