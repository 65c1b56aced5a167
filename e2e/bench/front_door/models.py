"""The models and services that the front door is measured with, and where they run."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from e2e.install import Stage
from e2e.scratch import Object, Scratch, adding, python_model, service

POOL = "bench-front-door"
CPU = "600m"
"""Cores of a replica: it answers more than 1,000 requests a second, and two cores have room left."""
FAST, SLOW = "fast", "slow"
SLOW_S = 0.05


@contextmanager
def pool(stage: Stage, cpu: str = CPU) -> Iterator[None]:
    """Have a pool whose replicas get a core each; gone in the end."""
    stage.tools.apply(_pool(cpu))
    try:
        yield
    finally:
        stage.tools.kubectl("delete", "gpupool", POOL, "--ignore-not-found")


def _pool(cpu: str) -> Object:
    return {
        "apiVersion": "conch.dev/v1alpha1",
        "kind": "GPUPool",
        "metadata": {"name": POOL},
        "spec": {
            "accelerator": "none",
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "perGPU": {"cpu": cpu, "memory": "1Gi"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        },
    }


def fast(place: Scratch, *, replicas: int, name: str = FAST, **spec: Any) -> None:
    """Apply a service that answers at once, and wait for its replicas."""
    _apply(place, name, adding(1), replicas, **spec)


def slow(place: Scratch, *, replicas: int, name: str = SLOW, **spec: Any) -> None:
    """Apply a service that waits where a GPU would compute, so that requests are under way."""
    waits = adding(1).replace("return", f"time.sleep({SLOW_S})\n        return", 1)
    _apply(place, name, f"import time\n{waits}", replicas, **spec)


def _apply(place: Scratch, name: str, code: str, replicas: int, **spec: Any) -> None:
    scaling = {"minReplicas": 1, "maxReplicas": 3, "drainTimeout": "20s"}
    place.apply(
        *python_model(name, code),
        service(name, pools=(POOL,), replicas=replicas, scaling=scaling, **spec),
    )
    place.await_ready(name, replicas)


def scale(place: Scratch, name: str, replicas: int) -> None:
    """Ask for so many replicas."""
    patch = json.dumps({"spec": {"replicas": replicas}})
    place.kubectl("patch", "modelservice", name, "--type=merge", "-p", patch)
