"""Names, addresses and folders that all parts of the local cluster agree on."""

import os
from dataclasses import dataclass
from pathlib import Path

# Every address is our own, so that the cluster works whatever network the machine is in.
ADDRESS = "10.123.0.1"  # the control plane, Prometheus, DNS
HOST_NETWORK = "10.123.0.0/24"
CLUSTER_NETWORK = "10.123.0.0/16"  # the host's addresses above and the pods of both nodes
SERVICE_NETWORK = "10.96.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"  # the first of the service network: Service default/kubernetes
DNS_SERVICE_ADDRESS = "10.96.0.10"
PROMETHEUS_SERVICE_ADDRESS = "10.96.0.90"

BRIDGE = "conch0"
CGROUP = "conch"

PROMETHEUS_PORT = 9090
DNS_PORT = 10053

GPU = "nvidia.com/gpu"
PAUSE_IMAGE = "registry.k8s.io/pause:3.10"


class ClusterError(Exception):
    """The cluster cannot be brought to the state asked for; the message says why and what to do."""


@dataclass(frozen=True)
class NodeSpec:
    """A node: a kubelet and a containerd of its own, with `gpus` GPUs of one product."""

    name: str
    address: str
    pod_network: str
    gpu_product: str
    gpus: int = 4

    @property
    def cgroup(self) -> str:
        """Relative to each cgroup hierarchy. One each, or each kubelet kills the other's pods."""
        return f"{CGROUP}/{self.name}"


NODES = (
    NodeSpec("conch-a100", "10.123.0.11", "10.123.1.0/24", "NVIDIA-A100"),
    NodeSpec("conch-t4", "10.123.0.12", "10.123.2.0/24", "Tesla-T4"),
)


@dataclass(frozen=True)
class Layout:
    """Where the cluster keeps its files; everything lies under `root`."""

    root: Path

    @classmethod
    def default(cls) -> "Layout":
        """`$CONCH_CLUSTER_DIR`, else `$XDG_STATE_HOME/conch/cluster`, else under `~/.local/state`."""
        if own := os.environ.get("CONCH_CLUSTER_DIR"):
            return cls(Path(own).absolute())
        base = os.environ.get("XDG_STATE_HOME")
        state = Path(base).absolute() if base else Path.home() / ".local" / "state"
        return cls(state / "conch" / "cluster")

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def host_record(self) -> Path:
        """What the host looked like before, for the way back."""
        return self.root / "host.json"

    @property
    def processes(self) -> Path:
        return self.root / "processes"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def control_plane(self) -> Path:
        return self.root / "control-plane"

    @property
    def proxy(self) -> Path:
        return self.root / "kube-proxy"

    @property
    def prometheus(self) -> Path:
        return self.root / "prometheus"

    @property
    def dns(self) -> Path:
        return self.root / "coredns"

    def node(self, spec: NodeSpec) -> Path:
        return self.root / "nodes" / spec.name
