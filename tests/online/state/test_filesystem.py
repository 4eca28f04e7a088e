"""The file system under a path is told as the system tells it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from online.state.filesystem import is_network, kind

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
nas:/vol /srv/state\\040dir nfs4 rw 0 0
/dev/sdb1 /srv/state\\040dir/local xfs rw 0 0
old /covered nfs rw 0 0
tmpfs /covered tmpfs rw 0 0
"""


def test_the_mount_that_a_path_lies_on(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    for path, wanted in (
        ("/srv", "ext4"),
        ("/srv/state dir/buffer", "nfs4"),
        ("/srv/state dir", "nfs4"),
        ("/srv/state dir2", "ext4"),
        ("/srv/state dir/local/x", "xfs"),
        ("/covered/x", "tmpfs"),
    ):
        assert kind(Path(path), mounts) == wanted, path
    assert kind(tmp_path, tmp_path / "none") == "", "where nothing is told nothing is known"


@pytest.mark.parametrize("place", ["/proc", "/dev/shm", "."])
def test_as_findmnt_has_it(place: str) -> None:
    said = subprocess.run(["stat", "-f", "-c", "%T", place], capture_output=True, text=True, check=True).stdout.strip()
    found = kind(Path(place))
    assert found and (found in said or said in ("ext2/ext3", "overlayfs", "UNKNOWN"))


def test_networks_are_told_from_disks() -> None:
    assert all(map(is_network, ["nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "fuse", "fuse.sshfs", "fuse.s3fs", "ceph"]))
    assert not any(map(is_network, ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", "", "squashfs"]))
