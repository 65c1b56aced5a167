"""A build cache on disk: each entry is built once, by one process, and never changed afterwards."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

Build = Callable[[Path], None]


def default_root() -> Path:
    """Where the cache lies: `$XDG_CACHE_HOME/conch`, else `~/.cache/conch`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "conch"


def digest(*parts: str) -> str:
    """A 12-digit hexadecimal key that changes with any of `parts` (or with where one ends)."""
    hasher = hashlib.sha256()
    for part in parts:
        data = part.encode()
        hasher.update(len(data).to_bytes(8, "big") + data)
    return hasher.hexdigest()[:12]


@dataclass(frozen=True)
class Cache:
    """Entries are folders named by kind and key; an entry that exists is complete.

    `root` is made when first needed. Logs of builds go to `logs`, which outlives a failed build.
    """

    root: Path

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def path(self, kind: str, key: str) -> Path:
        """Where the entry lies, or will lie."""
        return self.root / kind / key

    def holds(self, kind: str, key: str) -> bool:
        """Whether the entry is there, complete."""
        return self.path(kind, key).is_dir()

    def ensure(self, kind: str, key: str, build: Build) -> Path:
        """The entry's folder; `build` fills it if it is absent.

        `build` gets an empty folder to fill. Processes and threads that ask for the same entry
        wait for the one that builds. What `build` raises passes through and leaves no entry.
        """
        target = self.path(kind, key)
        if target.is_dir():
            os.utime(target)  # when it was used last, for `forget`
            return target
        with self.locked(f"{kind}-{key}"):
            if not target.is_dir():
                self._build(target, build)
        return target

    def forget(self, kind: str, prefix: str, *, keep: int) -> None:
        """Removes entries whose keys begin with `prefix`, all but the `keep` used last."""
        folders = list((self.root / kind).glob(f"{prefix}*"))
        folders.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
        for folder in folders[keep:]:
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Holds the lock `name` of this cache; waits for whoever holds it. Dies with its holder."""
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{name}.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _build(self, target: Path, build: Build) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        # On the entry's file system, so that the rename is atomic. Whoever holds the lock is alone
        # with this folder: what is in it was left by a build that was killed.
        work = self.root / "tmp" / f"{target.parent.name}-{target.name}"
        discard(work)
        work.mkdir(parents=True)
        try:
            build(work)
            work.rename(target)
        except BaseException:
            discard(work)
            raise


def discard(folder: Path) -> None:
    """Removes `folder`, if it is there, but nothing of what is mounted in it."""
    for mount in reversed(_mounts_below(folder)):
        subprocess.run(["umount", "--lazy", mount], check=True)
    if folder.exists():
        shutil.rmtree(folder)


def _mounts_below(folder: Path) -> list[Path]:
    """Where something is mounted below `folder`, outermost first."""
    table = Path("/proc/self/mounts")
    lines = table.read_text().splitlines() if table.exists() else []
    # The table writes a space in a path as \040.
    points = [Path(line.split()[1].replace("\\040", " ")) for line in lines]
    return [point for point in points if point.is_relative_to(folder.resolve())]
