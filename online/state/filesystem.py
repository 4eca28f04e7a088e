"""The type of the file system that a path lies on."""

from __future__ import annotations

import os
import re
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|smbfs|ncpfs|9p|afs|ceph|glusterfs|lustre|beegfs\w*|gpfs|gfs2?|ocfs2|orangefs|pvfs2|virtiofs|vboxsf"
    r"|vmhgfs|prl_fs|davfs|fuse(?:\..+)?"
)
"""What several machines may mount, or a program serves that knows nothing of shared memory. (fuseblk is a disk.)"""


def kind(path: Path, mounts: Path = MOUNTS) -> str:
    """The type of the file system that a path lies on, such as ext4; "" where that cannot be told."""
    best, found = -1, ""
    try:
        real = os.path.realpath(path)
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        _, escaped, name, *_ = line.split(" ")
        place = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), escaped)
        inside = real == place or real.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= best:  # of two mounts on one place the later one covers the other
            best, found = len(place), name
    return found


def is_network(name: str) -> bool:
    """Whether several machines may have such a file system, so that memory mapped from it is not shared among all."""
    return NETWORK.fullmatch(name) is not None
