"""What is mounted under a folder, and how to remove the folder without reaching through a mount."""

import ctypes
import os
import re
import shutil
from pathlib import Path

from e2e.cluster.settings import ClusterError

_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8
_ROUNDS = 10


def parse_mountinfo(text: str) -> list[Path]:
    """The mount points, in the order in which they were mounted, from /proc/self/mountinfo."""
    return [Path(_unescape(line.split()[4])) for line in text.splitlines()]


def mounts_under(folder: Path) -> list[Path]:
    """The mount points at or below `folder`, the last mounted first."""
    points = parse_mountinfo(Path("/proc/self/mountinfo").read_text())
    folder = folder.resolve()
    return [point for point in reversed(points) if point == folder or folder in point.parents]


def unmount_tree(folder: Path) -> None:
    """Unmounts everything at or below `folder`; what is still in use is detached.

    Raises ClusterError if something stays mounted.
    """
    for attempt in range(_ROUNDS):
        points = mounts_under(folder)
        if not points:
            return
        flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if attempt else 0)
        for point in points:
            _umount(point, flags)
    if left := mounts_under(folder):
        names = ", ".join(map(str, left))
        raise ClusterError(f"could not unmount {names}")


def remove_tree(folder: Path) -> None:
    """Deletes `folder` and all below. Raises ClusterError, and deletes nothing, if it holds a mount.

    A mounted folder may be someone's models (a local PersistentVolume): deleting would reach them.
    """
    if folder.is_symlink():
        raise ClusterError(f"{folder} is a symbolic link; not deleted")
    if left := mounts_under(folder):
        names = ", ".join(map(str, left))
        raise ClusterError(f"{names} still mounted; {folder} is not deleted")
    if folder.exists():
        shutil.rmtree(folder)


def _umount(point: Path, flags: int) -> None:
    # Failures show in the mount table, which the caller reads again.
    libc = ctypes.CDLL(None, use_errno=True)
    libc.umount2(os.fsencode(point), flags)


def _unescape(text: str) -> str:
    r"""Blanks and the like stand in octal, as \040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
