"""What the cluster changes on the host, written down before the first change, for the way back."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from e2e.cluster import firewall, mounts
from e2e.cluster.processes import write_atomically
from e2e.cluster.settings import ClusterError

# Set by kubelet and kube-proxy, or by us.
_SYSCTLS = (
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "net/bridge/bridge-nf-call-iptables",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/ip_forward",
    "net/ipv4/vs/conntrack",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)

# Made by kubelet, containerd and CNI at places that no setting moves.
_FOLDERS = ("/run/containerd", "/var/lib/kubelet", "/var/lib/cni", "/var/log/containers")


@dataclass(frozen=True)
class HostRecord:
    """The host before the cluster."""

    sysctls: Mapping[str, str]
    absent: tuple[str, ...]  # folders that were not there
    tables: dict[str, list[str]]  # iptables tables that were there, by family

    @classmethod
    def take(cls) -> "HostRecord":
        """Of the host as it is now. Raises ClusterError if another Kubernetes is on it."""
        if chains := firewall.kubernetes_chains():
            raise ClusterError(
                f"this host has iptables chains of another Kubernetes ({chains[0]} and"
                f" {len(chains) - 1} more); stop that one and remove its chains first, or set"
                " KUBECONFIG to use it"
            )
        sysctls = {name: value for name in _SYSCTLS if (value := _read_sysctl(name)) is not None}
        absent = tuple(folder for folder in _FOLDERS if not Path(folder).exists())
        return cls(sysctls, absent, firewall.table_names())

    @classmethod
    def load(cls, path: Path) -> "HostRecord | None":
        """What was written to `path`; None if nothing was."""
        try:
            fields = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        return cls(fields["sysctls"], tuple(fields["absent"]), fields["tables"])

    def write(self, path: Path) -> None:
        write_atomically(path, json.dumps(asdict(self), indent=1))

    def restore_sysctls(self) -> None:
        """Puts back the kernel's settings."""
        for name, value in self.sysctls.items():
            if _read_sysctl(name) != value:
                _sysctl_path(name).write_text(value)

    def remove_folders(self) -> None:
        """Deletes the folders that were not there before."""
        for name in self.absent:
            mounts.unmount_tree(Path(name))
            mounts.remove_tree(Path(name))


def set_sysctl(name: str, value: str) -> None:
    """Sets a kernel setting, named by its path under /proc/sys, unless it has that value."""
    if _read_sysctl(name) != value:
        _sysctl_path(name).write_text(value)


def _read_sysctl(name: str) -> str | None:
    try:
        return _sysctl_path(name).read_text().strip()
    except FileNotFoundError:
        return None


def _sysctl_path(name: str) -> Path:
    return Path("/proc/sys") / name
