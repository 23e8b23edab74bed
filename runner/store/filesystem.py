"""Recognises network file systems, on which SQLite's WAL does not work."""

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
    """Return the type of the network file system that holds a folder; None if it is local or unknown."""
    if sys.platform != "linux":
        return None
    try:
        type_ = kind(folder.resolve(), _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape"))
    except OSError:
        return None
    return type_ if type_ in _NETWORK else None


def kind(folder: Path, mounts: str) -> str | None:
    """Return the type of the file system that holds a folder, from the kernel's list of mounts (proc_pid_mountinfo)."""
    deepest, type_ = -1, None
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, types = before.split(), after.split()
        if len(fields) < 5 or not types:
            continue
        point = Path(_OCTAL.sub(lambda octal: chr(int(octal[1], 8)), fields[4]))
        depth = len(point.parts)
        # of two mounts on the same folder, the later one hides the earlier one
        if depth >= deepest and folder.is_relative_to(point):
            deepest, type_ = depth, types[0]
    return type_
