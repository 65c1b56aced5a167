"""The node's cache of models, as the pods of one namespace use it: a directory of their node.

Below it lies one directory for each source, named by its key::

    KEY/lock         held by whoever fills, uses or evicts it; its time says when it was used last
    KEY/users/POD    one file for each pod that reads the tree; the agent evicts none that lives
    KEY/work/        a tree on its way; who comes after a crash goes on with it or throws it away
    KEY/tree/        a complete tree: files/, and the seal that tells what they were

A tree comes into being by one rename, after all of it was written to the disk. The seal holds
size, inode and times of each file. A pod can't choose the time of a file's last change (ctime), so
what still bears its seal has not been written to since it was fetched and checked: a hit costs a
look at each file, not a read. Faults of disks are the business of the agent, which reads all again.

The cache never makes a start fail: what goes wrong with it is a CacheUnavailableError, upon which
the caller does without.
"""

import errno
import fcntl
import json
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conch.clients.source_errors import SourceError

LOCK, USERS, WORK, TREE = "lock", "users", "work", "tree"
FILES, SEAL, BOOT = "files", "seal.json", "boot"
LIMITS = ".limits.json"
"""Written by the agent beside the keys: what a single tree may take, and what must stay free. Its
time says when the agent was alive."""
SILENT_S = 600.0
"""After so long without the agent nothing is added, since nobody would keep the bound."""

BEAT_S = 1.0
"""How often whoever fills a tree shows that he is alive."""
PATIENCE_S = 10.0
"""After so long without a sign of life from whoever holds the lock, one does without the cache."""
OPENING_S = 3.0
"""How long to wait for the agent to open a new namespace's directory, which the kubelet made."""
_POLL_S = 0.05
_DISK_FAULTS = frozenset(
    {
        errno.EACCES,
        errno.EDQUOT,
        errno.EIO,
        errno.EPERM,
        errno.EROFS,
        errno.ENOENT,
        errno.ENOSPC,
        errno.ESTALE,
    }
)

Seals = dict[str, list[int]]
"""By path below ``files``: size, inode, time of the last change of content, and of the inode."""


class CacheUnavailableError(Exception):
    """The cache can't be used now; the message says why."""


@dataclass(frozen=True)
class Filled:
    """What a fetch has put into a directory: the source in it, and its digest where checked."""

    source: Path
    sha256: str | None


@dataclass(frozen=True)
class Entry:
    """A tree in the cache. ``hit`` tells that nothing had to be fetched."""

    source: Path
    sha256: str | None
    hit: bool


@dataclass(frozen=True)
class Seal:
    """What a tree was when it was published: its source below ``files``, and all its files."""

    source: str
    sha256: str | None
    files: Seals


@dataclass(frozen=True)
class Limits:
    """What the agent allows, in bytes; without an agent nothing is known to be forbidden."""

    size: int | None = None
    reserve: int = 0


def _unknown() -> None:
    """Know no size."""


@dataclass(frozen=True)
class NodeCache:
    """The cache below ``root``, as the pod ``user`` (name and UID) sees it. Times in seconds."""

    root: Path
    user: str
    opening: float = OPENING_S
    patience: float = PATIENCE_S

    def get(
        self,
        key: str,
        fill: Callable[[Path], Filled],
        *,
        size: Callable[[], int | None] = _unknown,
    ) -> Entry:
        """Return the tree of ``key``; where it isn't there, ``fill`` fetches it into a directory.

        That may hold what an earlier one, who was cut off, left of the same source. ``size`` tells
        how many bytes will come, where known. Raises CacheUnavailableError, and whatever
        SourceError ``fill`` raises for reasons of the source.
        """
        try:
            self._await_open()
            with self._held(key) as beat:
                found = self._found(key)
                if found is not None:
                    return found
                self._check_agent(key)
                return self._filled(key, fill, size, beat)
        except SourceError as error:
            fault = _disk_fault(error)
            if fault is None:
                raise
            raise CacheUnavailableError(_said(fault)) from error
        except OSError as error:
            raise CacheUnavailableError(_said(error)) from error

    def _await_open(self) -> None:
        """Return once the directory may be written to. Raises CacheUnavailableError."""
        deadline = time.monotonic() + self.opening
        while not os.access(self.root, os.W_OK | os.X_OK):
            if time.monotonic() > deadline:
                raise CacheUnavailableError(
                    f"{self.root} can't be written to; does its agent run on this node?"
                )
            time.sleep(_POLL_S)

    @contextmanager
    def _held(self, key: str) -> Iterator[Callable[[], None]]:
        """Hold the lock of a key; yields what shows a sign of life."""
        descriptor = self._locked(self.root / key)
        try:
            yield lambda: os.utime(descriptor)
        finally:
            os.close(descriptor)

    def _locked(self, entry: Path) -> int:
        """Return the open lock of an entry, once it is ours."""
        seen, since = None, time.monotonic()
        while True:
            descriptor = _opened(entry)
            if _lock(descriptor) and _is_at(descriptor, entry / LOCK):
                return descriptor
            beat = os.fstat(descriptor).st_mtime_ns
            os.close(descriptor)
            if beat != seen:
                seen, since = beat, time.monotonic()
            if time.monotonic() - since > self.patience:
                raise CacheUnavailableError(
                    f"whoever holds {entry.name}'s lock gave no sign for {self.patience:g} s"
                )
            time.sleep(_POLL_S)

    def _found(self, key: str) -> Entry | None:
        """Return the tree if it is there and intact, marked as used."""
        tree = self.root / key / TREE
        seal = read_seal(tree)
        if seal is None or not is_intact(tree, seal):
            return None
        self._mark(key)
        return Entry(_inside(tree / FILES, seal.source), seal.sha256, hit=True)

    def _mark(self, key: str) -> None:
        users = self.root / key / USERS
        users.mkdir(exist_ok=True)
        (users / self.user).touch()
        os.utime(self.root / key / LOCK)

    def _filled(
        self,
        key: str,
        fill: Callable[[Path], Filled],
        size: Callable[[], int | None],
        beat: Callable[[], None],
    ) -> Entry:
        entry = self.root / key
        shutil.rmtree(entry / TREE, ignore_errors=True)
        self._check_room(size() or 0)
        files = _begun(entry / WORK)
        try:
            with _beating(beat):
                filled = fill(files)
                _publish(entry, filled)
        except (SourceError, OSError) as error:
            if _disk_fault(error) or (isinstance(error, SourceError) and error.final):
                shutil.rmtree(entry / WORK, ignore_errors=True)
            raise
        self._mark(key)
        source = entry / TREE / FILES / filled.source.relative_to(files)
        return Entry(source, filled.sha256, hit=False)

    def _check_agent(self, key: str) -> None:
        """Raise CacheUnavailableError where the agent has been silent, by the disk's own clock."""
        os.utime(self.root / key / LOCK)
        try:
            silence = (self.root / key / LOCK).stat().st_mtime - (
                self.root / LIMITS
            ).stat().st_mtime
        except FileNotFoundError:
            return
        if silence > SILENT_S:
            raise CacheUnavailableError(
                f"its agent has given no sign for {silence:.0f} s, and nobody keeps its bound"
            )

    def _check_room(self, wanted: int) -> None:
        limits = read_limits(self.root)
        if limits.size is not None and wanted > limits.size:
            raise CacheUnavailableError(
                f"the source takes {wanted} bytes, and the cache may take {limits.size}"
            )
        space = os.statvfs(self.root)
        free = space.f_bavail * space.f_frsize
        # The other half is what the agent has to evict others in, while this one comes.
        if free - wanted < limits.reserve / 2:
            raise CacheUnavailableError(
                f"{free} bytes are free on the node's disk: too few for {wanted} more"
            )


def read_limits(root: Path) -> Limits:
    """Return what the agent allows in a namespace's directory."""
    try:
        told = json.loads((root / LIMITS).read_text())
        return Limits(size=int(told["size"]), reserve=int(told["reserve"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Limits()


def read_seal(tree: Path) -> Seal | None:
    """Return the seal of a tree, or None where there is none that can be read."""
    try:
        return Seal(**json.loads((tree / SEAL).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def is_intact(tree: Path, seal: Seal) -> bool:
    """Tell whether a tree holds just the files that were sealed, and none was written to since."""
    try:
        return seals_of(tree / FILES) == seal.files
    except OSError:
        return False


def seals_of(files: Path) -> Seals:
    """Return what a seal would say of the files in a directory. Raises OSError."""
    found = {}
    for folder, _, names in os.walk(files, onerror=_raise):
        for name in names:
            path = Path(folder, name)
            facts = path.lstat()
            if not stat.S_ISREG(facts.st_mode):
                raise OSError(errno.EINVAL, "is no plain file", str(path))
            found[path.relative_to(files).as_posix()] = [
                facts.st_size,
                facts.st_ino,
                facts.st_mtime_ns,
                facts.st_ctime_ns,
            ]
    return found


def _begun(work: Path) -> Path:
    """Return the directory to fetch into, with what an earlier one left in this boot of the node.

    What was written before the node went down need not have reached the disk.
    """
    boot = _boot()
    try:
        if (work / BOOT).read_text() != boot:
            shutil.rmtree(work)
    except OSError:
        shutil.rmtree(work, ignore_errors=True)
    (work / FILES).mkdir(parents=True, exist_ok=True)
    (work / BOOT).write_text(boot)
    return work / FILES


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text()


def _publish(entry: Path, filled: Filled) -> None:
    """Make the tree that was fetched the entry's: on the disk first, then by one rename."""
    work = entry / WORK
    files = work / FILES
    seal = Seal(filled.source.relative_to(files).as_posix(), filled.sha256, seals_of(files))
    for name in seal.files:
        _sync(files / name)
    (work / SEAL).write_text(json.dumps(vars(seal)))
    _sync(work / SEAL)
    work.rename(entry / TREE)
    _sync(entry)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _opened(entry: Path) -> int:
    while True:
        entry.mkdir(exist_ok=True)
        try:
            return os.open(entry / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:  # the agent has just removed the entry
            continue


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    """Tell whether a lock is still the one at its path: whoever evicts removes it."""
    try:
        there = path.lstat()
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (there.st_ino, there.st_dev) == (held.st_ino, held.st_dev)


@contextmanager
def _beating(beat: Callable[[], None]) -> Iterator[None]:
    """Show a sign of life while the body runs."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(BEAT_S):
            beat()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _inside(files: Path, source: str) -> Path:
    """Return the source in a tree; a seal that names another place is no seal."""
    path = files / source
    if ".." in path.parts or not path.is_relative_to(files):
        raise OSError(errno.EINVAL, "leads out of its tree", str(path))
    return path


def _disk_fault(error: BaseException | None) -> OSError | None:
    """Return the fault of the cache's disk behind what a fetch met; None where it was another."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK_FAULTS:
            return error
        error = error.__cause__
    return None


def _raise(error: OSError) -> None:
    raise error


def _said(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}"
