"""A control plane whose nodes and pods are played by kwok, with two pools of GPUs."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from e2e.cluster.artifacts import ensure_binaries
from e2e.cluster.binaries import ensure_kwok_stages
from e2e.cluster.controlplane import ControlPlane, Ports
from e2e.cluster.progress import terminal_reporter
from tests.kit.client import Client, Object
from tests.kit.control_plane import Cluster, Kubectl, install_crds
from tests.kit.operator import LEASE_NAMESPACE

GPU = "nvidia.com/gpu"
PRODUCT = "nvidia.com/gpu.product"
POOLS = {"a100": "NVIDIA-A100", "t4": "Tesla-T4"}
_PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kwok",
    "kubectl",
)


@contextlib.contextmanager
def simulated(directory: Path, *, gpus: int = 3) -> Iterator[Cluster]:
    """Start a cluster with one node a pool, ``gpus`` GPUs each; its pods become Ready at once."""
    report = terminal_reporter()
    binaries = ensure_binaries(_PROGRAMS, report=report)
    stages = ensure_kwok_stages(report=report)
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
        for pool, accelerator in POOLS.items():
            client.create("/api/v1/nodes", node(f"node-{pool}", accelerator, gpus=gpus))
            client.create("/apis/conch.dev/v1alpha1/gpupools", gpu_pool(pool, accelerator))
        yield Cluster(plane.kubeconfig, client, Kubectl(binaries / "kubectl", plane.kubeconfig))


def node(name: str, accelerator: str, *, gpus: int = 3) -> Object:
    """Return a node that kwok keeps Ready."""
    size = {"cpu": "64", "memory": "256Gi", "pods": "110", GPU: str(gpus)}
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


def gpu_pool(name: str, accelerator: str) -> Object:
    """Return the pool of the nodes with an accelerator."""
    return {
        "apiVersion": "conch.dev/v1alpha1",
        "kind": "GPUPool",
        "metadata": {"name": name},
        "spec": {
            "accelerator": accelerator,
            "nodeSelector": {PRODUCT: accelerator},
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
