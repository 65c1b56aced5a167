"""A control plane whose nodes and pods are played by kwok, with two pools of GPUs."""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from e2e.cluster.artifacts import ensure_binaries
from e2e.cluster.binaries import ensure_kwok_stages
from e2e.cluster.controlplane import ControlPlane, Ports
from e2e.cluster.progress import terminal_reporter
from tests.kit.client import Client, Object
from tests.kit.control_plane import Cluster, Kubectl, install_crds
from tests.kit.operator import LEASE_NAMESPACE

GPU = "nvidia.com/gpu"
PRODUCT = "nvidia.com/gpu.product"
PLACE = "place"
"""Label of nodes that are one place's own."""
POOLS = {"a100": "NVIDIA-A100", "t4": "Tesla-T4"}
BROKEN_URI = "https://models.example/broken.tar"
"""Simulated pods fail to fetch a model from there."""
_STAGES = Path(__file__).parent / "stages"
_PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kwok",
    "kubectl",
)


@dataclass(frozen=True)
class Place:
    """Two pools with a node each; ``own`` ones are one service's alone."""

    name: str = ""
    """Empty: the pools that tests share."""

    @property
    def pools(self) -> tuple[str, ...]:
        """The names of its pools, the preferred first."""
        return tuple(f"{pool}{self._suffix}" for pool in POOLS)

    @property
    def own(self) -> tuple[str, ...]:
        """Names of pools that nobody else uses."""
        return self.pools if self.name else ()

    @property
    def wish(self) -> Object:
        """What a service says that runs here."""
        return {"pools": list(self.pools)} if self.name else {"accelerators": list(POOLS.values())}

    @property
    def accelerators(self) -> dict[str, str]:
        """The accelerator of each pool."""
        return dict(zip(self.pools, POOLS.values(), strict=True))

    def accelerator_of(self, node_name: str) -> str:
        """Return the accelerator of a node of this place."""
        return self.accelerators[node_name.removeprefix("node-")]

    def objects(self, gpus: int) -> Iterator[tuple[str, Object]]:
        """Return nodes of so many GPUs and pools, each with the path where it is created."""
        for pool, accelerator in self.accelerators.items():
            yield "/api/v1/nodes", self.node(f"node-{pool}", gpus=gpus)
            labels = {PLACE: self.name} if self.name else {}
            yield "/apis/conch.dev/v1alpha1/gpupools", gpu_pool(pool, accelerator, **labels)

    def node(self, name: str, *, gpus: int = 3) -> Object:
        """Return a node of this place."""
        made = node(name, self.accelerator_of(name), gpus=gpus)
        if self.name:
            made["metadata"]["labels"][PLACE] = self.name
        return made

    @property
    def _suffix(self) -> str:
        return f"-{self.name}" if self.name else ""


SHARED = Place()


@contextlib.contextmanager
def simulated(
    directory: Path, *, gpus: int = 3, places: Sequence[Place] = (SHARED,)
) -> Iterator[Cluster]:
    """Start a cluster with these places, ``gpus`` GPUs a node; its pods become Ready at once."""
    report = terminal_reporter()
    binaries = ensure_binaries(_PROGRAMS, report=report)
    stages = _stages(directory / "stages", ensure_kwok_stages(report=report))
    ports = Ports.free()
    with (
        ControlPlane.start(
            directory, binaries, ports=ports, with_controllers=False, with_scheduler=False
        ) as plane,
        Client(plane.kubeconfig) as client,
    ):
        install_crds(client)
        # Only now: the garbage collector looks for new kinds at its start, then every 30 s.
        ControlPlane.start(directory, binaries, ports=ports, kwok=True, kwok_stages=stages)
        client.create("/api/v1/namespaces", {"metadata": {"name": LEASE_NAMESPACE}})
        for place in places:
            for path, made in place.objects(gpus):
                client.create(path, made)
        yield Cluster(plane.kubeconfig, client, Kubectl(binaries / "kubectl", plane.kubeconfig))


def _stages(directory: Path, shipped: Path) -> Path:
    """Return kwok's stages, and one for pods whose model can't be fetched."""
    shutil.copytree(shipped, directory, dirs_exist_ok=True)
    broken = yaml.safe_load((_STAGES / "pod-broken.yaml").read_text())
    path = directory / "pod" / "fast" / "pod-ready.yaml"
    ready = yaml.safe_load(path.read_text())
    (theirs,) = (e for e in _expressions(broken) if e["operator"] == "In")
    _expressions(ready).append({**theirs, "operator": "NotIn"})
    path.write_text(yaml.safe_dump(ready))
    shutil.copy(_STAGES / "pod-broken.yaml", path.parent)
    return directory


def _expressions(stage: Object) -> list[Object]:
    found: list[Object] = stage["spec"]["selector"]["matchExpressions"]
    return found


def node(name: str, accelerator: str, *, gpus: int = 3, pods: int = 110) -> Object:
    """Return a node that kwok keeps Ready."""
    size = {"cpu": str(pods), "memory": f"{2 * pods}Gi", "pods": str(pods), GPU: str(gpus)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {PRODUCT: accelerator, "kubernetes.io/hostname": name},
        },
        "status": {"capacity": size, "allocatable": size},
    }


def gpu_pool(name: str, accelerator: str, **labels: str) -> Object:
    """Return the pool of the nodes with an accelerator, and with these labels."""
    return {
        "apiVersion": "conch.dev/v1alpha1",
        "kind": "GPUPool",
        "metadata": {"name": name},
        "spec": {
            "accelerator": accelerator,
            "nodeSelector": {PRODUCT: accelerator, **labels},
            "perGPU": {"cpu": "1", "memory": "1Gi"},
        },
    }


def model(name: str = "digits") -> Object:
    """Return a model whose files nobody fetches: simulated pods run nothing."""
    return {
        "apiVersion": "conch.dev/v1alpha1",
        "kind": "Model",
        "metadata": {"name": name},
        "spec": {
            "inputs": [{"name": "image", "datatype": "FP32", "shape": [64]}],
            "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [10]}],
            "variants": [
                {
                    "name": "fp32",
                    "source": {"uri": "https://models.example/digits.tar", "sha256": "9f2c" * 16},
                    "backend": "python",
                    "maxBatchSize": 16,
                }
            ],
        },
    }


def model_service(name: str = "digits", *, replicas: int | None, **scaling: Any) -> Object:
    """Return a service of that model with so many replicas, of at most 8; None: by load."""
    fixed = {} if replicas is None else {"replicas": replicas}
    return {
        "apiVersion": "conch.dev/v1alpha1",
        "kind": "ModelService",
        "metadata": {"name": name},
        "spec": {
            "model": {"name": "digits"},
            **fixed,
            "scaling": {"minReplicas": 0, "maxReplicas": 8, "drainTimeout": "200ms", **scaling},
            "placement": {"accelerators": list(POOLS.values())},
        },
    }
