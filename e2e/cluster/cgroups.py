"""The cluster's cgroups, on hosts with version 1, version 2 or both."""

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import settings
from e2e.cluster.processes import wait_until

# Hierarchies that can hold the cluster's own processes; the first that the host has is taken.
# Not memory: what limits the caller's memory should go on doing so.
_TRACKING = ("pids", "freezer", "cpu")
_CONTROLLERS_V2 = ("cpuset", "cpu", "io", "memory", "pids", "hugetlb")


@dataclass(frozen=True)
class Hierarchy:
    """A mounted cgroup tree. Version 1 has one for each of its controllers, or a few together."""

    mount: Path
    version: int
    controllers: frozenset[str] = frozenset()


def parse_mounts(text: str) -> list[Hierarchy]:
    """The cgroup trees among mounts, given as /proc/mounts lists them."""
    known = {"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"}
    found = []
    for line in text.splitlines():
        _, place, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found.append(Hierarchy(Path(place), 2))
        elif kind == "cgroup":
            controllers = known & set(options.split(","))
            found.append(Hierarchy(Path(place), 1, frozenset(controllers)))
    return found


class Cgroups:
    """The cgroup `conch` in each hierarchy: the nodes' pods and the cluster's processes."""

    def __init__(self, hierarchies: list[Hierarchy]) -> None:
        self._hierarchies = hierarchies

    @classmethod
    def detect(cls) -> "Cgroups":
        """Those of this machine."""
        return cls(parse_mounts(Path("/proc/mounts").read_text()))

    def make(self, relative: str) -> None:
        """Makes the cgroup in each hierarchy, ready for a kubelet to make its own below."""
        for hierarchy in self._in_use():
            path = hierarchy.mount
            for name in relative.split("/"):
                if hierarchy.version == 2:
                    _delegate(path)
                path /= name
                path.mkdir(exist_ok=True)
                if "cpuset" in hierarchy.controllers:
                    _fill_cpuset(path)
            if hierarchy.version == 2:
                _delegate(path)

    def entry(self, name: str) -> Path:
        """Where a process of the cluster writes its PID to be found again (processes.Group)."""
        path = self._tracking().mount / settings.CGROUP / "system" / name
        path.mkdir(parents=True, exist_ok=True)
        return path / "cgroup.procs"

    def members(self, name: str) -> set[int]:
        """The PIDs that belong to this part of the cluster (processes.Group)."""
        return _pids(self._tracking().mount / settings.CGROUP / "system" / name)

    def pids(self) -> set[int]:
        """Every process of the cluster: its own, the shims, and those in pods."""
        return set().union(*(_pids(tree) for tree in self._trees()))

    def pids_of_node(self, spec: settings.NodeSpec) -> set[int]:
        """Every process of one node: kubelet, containerd, the shims, and those in pods."""
        parts = (f"system/kubelet-{spec.name}", f"system/containerd-{spec.name}", spec.name)
        return set().union(*(_pids(tree / part) for tree in self._trees() for part in parts))

    def kill(self) -> None:
        """Kills every process of the cluster; returns when none is left.

        Raises ClusterError if some survive.
        """
        _kill_all(self.pids)

    def kill_node(self, spec: settings.NodeSpec) -> None:
        """Kills every process of one node, as a power cut does. Raises ClusterError as `kill`."""
        _kill_all(lambda: self.pids_of_node(spec))

    def remove(self) -> None:
        """Removes the empty cgroups. Raises ClusterError if some can't be removed."""

        def remove_once() -> bool:
            for tree in self._trees():
                for path in _deepest_first(tree):
                    _rmdir(path)
            return not self.exists()

        # A cgroup stays busy for a moment after its last process is gone.
        if not wait_until(remove_once, timeout=10):
            left = ", ".join(map(str, self._trees()))
            raise settings.ClusterError(f"could not remove the cgroups {left}")

    def exists(self) -> bool:
        """Whether any cgroup of the cluster is there."""
        return bool(self._trees())

    def _trees(self) -> list[Path]:
        """The cluster's cgroup in each hierarchy that has it."""
        paths = (hierarchy.mount / settings.CGROUP for hierarchy in self._hierarchies)
        return [path for path in paths if path.is_dir()]

    def _in_use(self) -> list[Hierarchy]:
        """Version 1 where the host has it: then version 2, beside it, holds no controllers."""
        version1 = [hierarchy for hierarchy in self._hierarchies if hierarchy.version == 1]
        return version1 or self._hierarchies

    def _tracking(self) -> Hierarchy:
        in_use = self._in_use()
        if not in_use:
            raise settings.ClusterError("no cgroup hierarchy is mounted; mount /sys/fs/cgroup")
        for controller in _TRACKING:
            for hierarchy in in_use:
                if controller in hierarchy.controllers:
                    return hierarchy
        return in_use[0]


def _fill_cpuset(path: Path) -> None:
    # A new cpuset is empty and takes no process; only what the parent has may be put in.
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not (path / name).read_text().strip():
            (path / name).write_text((path.parent / name).read_text())


def _delegate(path: Path) -> None:
    """Version 2: lets the cgroups below have the controllers that this one has."""
    available = (path / "cgroup.controllers").read_text().split()
    wanted = " ".join(f"+{name}" for name in _CONTROLLERS_V2 if name in available)
    (path / "cgroup.subtree_control").write_text(wanted)


def _pids(tree: Path) -> set[int]:
    found: set[int] = set()
    for path in _deepest_first(tree):
        try:
            found.update(map(int, (path / "cgroup.procs").read_text().split()))
        except FileNotFoundError:
            continue  # removed meanwhile
    return found


def _deepest_first(tree: Path) -> Iterator[Path]:
    for folder, _, _ in os.walk(tree, topdown=False):
        yield Path(folder)


def _kill_all(those: Callable[[], set[int]]) -> None:
    """Kills until none is left; raises ClusterError if some survive."""

    def kill_once() -> bool:
        pids = those()
        for pid in pids:
            _kill(pid)
        return not pids

    if not wait_until(kill_once, timeout=20):
        left = ", ".join(map(str, sorted(those())))
        raise settings.ClusterError(f"processes {left} survive SIGKILL; see `ps -p {left}`")


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _rmdir(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        return  # busy for now: the caller looks and tries again
