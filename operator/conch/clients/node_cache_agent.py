"""The agent of a node's cache: opens it to pods, keeps it within its bound, evicts the least used.

It runs as root among files that tenants may write, so it trusts none of them: it follows no link,
waits for no lock, and removes only what it has renamed into a directory of its own first. Below the
root lies one directory for each namespace, ``NAMESPACE_UID``, so that a namespace made anew under
an old name finds nothing of its predecessor. See ``conch.clients.node_cache`` for what is in it.
"""

import fcntl
import json
import logging
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from conch.clients.clock import Clock
from conch.clients.node_cache import LIMITS, LOCK, TREE, USERS

logger = logging.getLogger(__name__)

OWN = ".agent"
"""The agent's own directory below the root: what pods never see."""
_NAMESPACE = re.compile(r"(?P<name>[a-z0-9]([-a-z0-9]*[a-z0-9])?)_(?P<uid>[0-9a-f-]{36})")
_KEY = re.compile(r"[0-9a-f]{64}")
_USER = re.compile(r"(?P<name>[a-z0-9]([-a-z0-9.]*[a-z0-9])?)_(?P<uid>[0-9a-f-]{36})")
_SHARED_MODE = 0o1770
"""Pods make entries; what is root's there they can't remove; others see nothing."""
_BLOCK = 512
LIFE_S = 60.0
"""How often the agent shows that it lives."""
LEFTOVER_S = 3600.0
"""So long an unfinished download may wait for somebody who goes on with it."""


class Facts(Protocol):
    """What only the API server knows. None stands for no answer."""

    def pod_lives(self, namespace: str, name: str, uid: str) -> bool | None:
        """Tell whether a pod is there and has not ended."""

    def namespace_lives(self, name: str, uid: str) -> bool | None:
        """Tell whether a namespace is there, and not another one of that name."""


@dataclass(frozen=True)
class Bounds:
    """In bytes: what the cache may take, and what must stay free on its disk."""

    size: int
    reserve: int = 0


@dataclass(frozen=True)
class Tenant:
    """A namespace's directory."""

    path: Path
    name: str
    uid: str


@dataclass(frozen=True)
class Item:
    """Something in a namespace's directory: a tree by its key, or a stray that belongs to none."""

    tenant: Tenant
    path: Path
    size: int
    used: int
    """When it was used last, in nanoseconds of the file system's clock; 0 for strays."""

    @property
    def is_tree(self) -> bool:
        """Whether it is where a tree should be."""
        return _KEY.fullmatch(self.path.name) is not None and _is_folder(self.path)


@dataclass
class Tally:
    """What the agent found and did, for its metrics. Sizes in bytes."""

    bytes_by_namespace: dict[str, int] = field(default_factory=dict)
    trees: int = 0
    evictions: int = 0
    evicted_bytes: int = 0
    excess: int = 0
    """Beyond the bound, and in use."""


class Agent:
    """One node's cache below ``root``; ``uid`` is the user and group that its pods run as."""

    def __init__(self, root: Path, bounds: Bounds, facts: Facts, *, uid: int, clock: Clock) -> None:
        self._root = root
        self._own = root / OWN
        self._bounds = bounds
        self._facts = facts
        self._uid = uid
        self._clock = clock
        self._room = bounds.size
        self.tally = Tally()

    def prepare(self) -> None:
        """Make the agent's own directory, empty. Raises OSError."""
        self._root.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._own, ignore_errors=True)
        self._out_of_sight()

    def tenants(self) -> list[Tenant]:
        """Return the namespaces that have a directory here."""
        found = []
        for path in _entries(self._root):
            match = _NAMESPACE.fullmatch(path.name)
            if match and _is_folder(path):
                found.append(Tenant(path, match["name"], match["uid"]))
        return found

    def open_new(self) -> None:
        """Give directories that the kubelet has just made to the pods."""
        for tenant in self.tenants():
            facts = tenant.path.lstat()
            if stat.S_IMODE(facts.st_mode) == _SHARED_MODE and facts.st_gid == self._uid:
                continue
            self._tell_limits(tenant)
            os.chown(tenant.path, 0 if os.geteuid() == 0 else -1, self._uid, follow_symlinks=False)
            tenant.path.chmod(_SHARED_MODE)
            logger.info("opened to the pods of namespace %s", tenant.name)

    def sweep(self) -> None:
        """Measure, throw away leftovers, and evict the least used while the bound is exceeded."""
        items = [item for tenant in self.tenants() for item in self._items(tenant)]
        items = [item for item in items if not self._is_leftover(item)]
        excess = self._excess(items)
        kept = []
        for item in sorted(items, key=lambda i: (i.used, i.path)):
            if excess > 0 and self._evict(item):
                excess -= item.size
            else:
                kept.append(item)
        self._account(kept, max(0, excess))
        self._show_life()

    def tidy(self) -> None:
        """Remove the directories of namespaces that are gone, and the marks of pods that are."""
        for tenant in self.tenants():
            if self._facts.namespace_lives(tenant.name, tenant.uid) is False:
                self._forget(tenant)
                continue
            for entry in filter(_is_folder, _entries(tenant.path)):
                for mark in _entries(entry / USERS):
                    if self._lives(tenant, mark.name) is False:
                        mark.unlink(missing_ok=True)

    def _forget(self, tenant: Tenant) -> None:
        marks = (m.name for e in _entries(tenant.path) for m in _entries(e / USERS))
        if all(self._lives(tenant, mark) is False for mark in marks):
            logger.info("namespace %s is gone, and so is its cache", tenant.name)
            self._remove(tenant.path)

    def _items(self, tenant: Tenant) -> Iterator[Item]:
        for path in _entries(tenant.path):
            if path.name != LIMITS:
                yield Item(tenant, path, size_of(path), _used(path))

    def _is_leftover(self, item: Item) -> bool:
        """Throw away a tree that never got complete and that nobody goes on with; tell if it was."""
        age = self._clock.wall() - item.used / 1e9
        if not item.is_tree or _is_folder(item.path / TREE) or age < LEFTOVER_S:
            return False
        with _held(item.path / LOCK) as held:
            if held:
                self._remove(item.path)
        if held:
            logger.info("%s/%s never got complete", item.tenant.name, item.path.name)
        return held

    def _excess(self, items: list[Item]) -> int:
        """Return how many bytes are too many, by the bound or for what must stay free."""
        space = os.statvfs(self._root)
        free = space.f_bavail * space.f_frsize
        return max(sum(i.size for i in items) - self._bounds.size, self._bounds.reserve - free)

    def _evict(self, item: Item) -> bool:
        """Remove an item unless somebody needs it; tell whether it is gone."""
        if not item.is_tree:
            self._remove(item.path)
            logger.info("%s/%s does not belong here", item.tenant.name, item.path.name)
            return True
        with _held(item.path / LOCK) as held:
            if not held or self._is_used(item):
                return False
            self._remove(item.path)
        logger.info("evicted %s/%s: %d bytes", item.tenant.name, item.path.name, item.size)
        self.tally.evictions += 1
        self.tally.evicted_bytes += item.size
        return True

    def _is_used(self, item: Item) -> bool:
        """Tell whether a pod that may live reads a tree; who bears no pod's name is none."""
        marks = _entries(item.path / USERS)
        return any(self._lives(item.tenant, mark.name) is not False for mark in marks)

    def _lives(self, tenant: Tenant, mark: str) -> bool | None:
        match = _USER.fullmatch(mark)
        return self._facts.pod_lives(tenant.name, match["name"], match["uid"]) if match else False

    def _remove(self, path: Path) -> None:
        """Take something out of the pods' sight at once, then remove it."""
        own = self._out_of_sight()
        path.rename(own)
        try:
            shutil.rmtree(own) if _is_folder(own) else own.unlink()
        except (OSError, RecursionError) as error:
            logger.warning("%s is out of sight, and not removed: %s", path.name, error)

    def _out_of_sight(self) -> Path:
        """Return a path that is free, where no pod looks; agents of one disk don't meet there."""
        self._own.mkdir(mode=0o700, exist_ok=True)
        return self._own / uuid.uuid4().hex

    def _account(self, kept: list[Item], excess: int) -> None:
        sizes: dict[str, int] = {}
        for item in kept:
            sizes[item.tenant.name] = sizes.get(item.tenant.name, 0) + item.size
        if excess and not self.tally.excess:
            logger.warning("%d bytes beyond the bound are in use and stay", excess)
        self.tally.bytes_by_namespace = sizes
        self.tally.trees = sum(i.is_tree for i in kept)
        self.tally.excess = excess
        # What is in use can't make room: new trees would only add to it.
        room = max(0, self._bounds.size - sum(sizes.values())) if excess else self._bounds.size
        if room != self._room:
            self._room = room
            for tenant in self.tenants():
                self._tell_limits(tenant)

    def _show_life(self) -> None:
        """Renew the time of the limits now and then: without it pods add nothing."""
        for tenant in self.tenants():
            limits = tenant.path / LIMITS
            try:
                if self._clock.wall() - limits.lstat().st_mtime > LIFE_S:
                    os.utime(limits, follow_symlinks=False)
            except FileNotFoundError:
                self._tell_limits(tenant)

    def _tell_limits(self, tenant: Tenant) -> None:
        """Write what a new tree may take; by a rename, which follows no link of a tenant's."""
        told = self._out_of_sight()
        told.write_text(json.dumps({"size": self._room, "reserve": self._bounds.reserve}))
        told.chmod(0o644)
        told.rename(tenant.path / LIMITS)


def size_of(path: Path) -> int:
    """Return how many bytes of the disk a file or a tree takes; what vanishes meanwhile has none."""
    total, left = 0, [str(path)]
    while left:
        name = left.pop()
        try:
            facts = os.lstat(name)
            total += facts.st_blocks * _BLOCK
            if stat.S_ISDIR(facts.st_mode):
                with os.scandir(name) as entries:
                    left += [e.path for e in entries]
        except OSError:
            continue
    return total


def _is_folder(path: Path) -> bool:
    """Tell whether there is a directory, itself no link."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _entries(folder: Path) -> list[Path]:
    """Return what is in a directory, itself no link; nothing where there is none."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return []
    try:
        return sorted(folder / name for name in os.listdir(descriptor))  # noqa: PTH208
    finally:
        os.close(descriptor)


def _used(path: Path) -> int:
    try:
        return (path / LOCK).lstat().st_mtime_ns if _KEY.fullmatch(path.name) else 0
    except OSError:
        return 0


@contextmanager
def _held(lock: Path) -> Iterator[bool]:
    """Hold a lock if it is free; yields whether it is ours. One that is not there is free."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        yield True
        return
    except OSError:
        yield True  # no lock, but something that a tenant has put there
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)
