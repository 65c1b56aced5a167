"""What there is on a host that a cluster could leave behind."""

import os
import re
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

_FOLDERS = (
    "/etc/cni",
    "/opt/cni",
    "/opt/containerd",
    "/run/containerd",
    "/run/netns",
    "/usr/libexec/kubernetes",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
)
_SYSCTLS = ("net/ipv4/ip_forward", "vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops")


@dataclass(frozen=True)
class HostState:
    """Everything by name, so that two states can be compared."""

    processes: frozenset[str]
    mounts: frozenset[str]
    namespaces: frozenset[str]
    links: frozenset[str]
    addresses: frozenset[str]
    routes: frozenset[str]
    firewall: frozenset[str]
    cgroups: frozenset[str]
    folders: frozenset[str]
    sysctls: frozenset[str]

    @classmethod
    def now(cls) -> "HostState":
        return cls(
            processes=frozenset(_processes()),
            mounts=frozenset(_column("/proc/self/mountinfo", 4)),
            namespaces=frozenset(_namespaces()),
            links=frozenset(path.name for path in Path("/sys/class/net").iterdir()),
            addresses=frozenset(_lines("ip", "-brief", "address")),
            routes=frozenset(_lines("ip", "route", "show", "table", "all")),
            firewall=frozenset([*_firewall("iptables-save"), *_firewall("ip6tables-save")]),
            cgroups=frozenset(_cgroups()),
            folders=frozenset(name for name in _FOLDERS if Path(name).exists()),
            sysctls=frozenset(f"{name}={_read(name)}" for name in _SYSCTLS),
        )

    def added_since(self, before: "HostState") -> dict[str, list[str]]:
        """What is there now and was not before, by kind; kinds without an addition are left out."""
        added = {}
        for field in fields(self):
            extra = getattr(self, field.name) - getattr(before, field.name)
            if extra:
                added[field.name] = sorted(extra)
        return added

    def lost_since(self, before: "HostState") -> dict[str, list[str]]:
        """What was there before and is not now: what someone else may miss."""
        return before.added_since(self)


def _processes() -> list[str]:
    """Programs of the kinds that a cluster runs, with their PIDs."""
    kinds = re.compile(
        r"etcd|kube|containerd|runc|prometheus|coredns|pause|triton|kwok|e2e\.cluster"
    )
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")
            status = (path / "stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        program = words[0].decode(errors="replace")
        if kinds.search(program) and status != "Z":
            found.append(f"{path.name} {program}")
    return found


def _namespaces() -> list[str]:
    """Network namespaces that some process lives in."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(str(path.readlink()))
        except OSError:
            continue
    return sorted(found)


def _cgroups() -> list[str]:
    """Those that a cluster makes; the rest of the machine makes and removes its own."""
    names = ("conch", "kubepods")
    trees = (Path(folder) for folder, _, _ in os.walk("/sys/fs/cgroup"))
    return [str(path) for path in trees if set(names) & set(path.parts)]


def _firewall(command: str) -> list[str]:
    """Tables, chains and rules; not comments, nor counters, which change all the time."""
    table, found = "", []
    for line in _lines(command):
        if line.startswith("*"):
            table = line
        if line.startswith(("*", ":", "-A")):
            found.append(f"{command} {table} {line.partition(' [')[0]}")
    return found


def _column(path: str, number: int) -> list[str]:
    return [line.split()[number] for line in Path(path).read_text().splitlines()]


def _lines(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line.rstrip() for line in done.stdout.splitlines()]


def _read(name: str) -> str:
    return (Path("/proc/sys") / name).read_text().strip()
