"""What file system lies under a folder, by the kernel's list of mounts as it is given."""

from pathlib import Path

import pytest

from runner.store import filesystem

MOUNTS = """\
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
22 21 0:20 / /proc rw,nosuid - proc proc rw
30 21 0:31 / /home rw,relatime shared:9 master:2 - nfs4 filer:/home rw,vers=4.2,hard
31 30 254:1 /scratch /home/local rw - xfs /dev/vdb rw
32 21 0:40 / /mnt/with\\040blank rw - cifs //server/share rw
33 21 0:41 / /data rw - ext4 /dev/vdc rw
34 33 0:42 / /data rw - fuse.sshfs me@there: rw
35 21 0:43 / /mnt/c rw - 9p C:\\134 rw
broken line
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/srv/runs", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/runs", "nfs4"),
        ("/home/local", "xfs"),
        ("/home/local/deeper", "xfs"),
        # not below it, though it begins alike
        ("/homeless", "ext4"),
        ("/mnt/with blank/x", "cifs"),
        # the later of two on one folder lies on top
        ("/data/x", "fuse.sshfs"),
        ("/mnt/c/Users", "9p"),
    ],
)
def test_x7_the_file_system_under_a_folder(folder: str, kind: str) -> None:
    assert filesystem.kind(Path(folder), MOUNTS) == kind


def test_nothing_is_told_by_an_empty_list() -> None:
    assert filesystem.kind(Path("/x"), "") is None


def test_a_folder_of_this_machine_is_no_network(tmp_path: Path) -> None:
    assert filesystem.network(tmp_path) is None
