"""The models and services that the front door is measured with, and where they run."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from e2e.install import Stage
from e2e.scratch import Object, Scratch, adding, python_model, service

POOL = "bench-front-door"
CPU = "800m"
"""Cores of a replica. They are not what bounds it: on two cores that all share, proxies would be
measured by what they leave to the model."""
FAST, SLOW = "fast", "slow"
FAST_S, SLOW_S = 0.0003, 0.05
"""For which the models wait where a GPU would compute; of the fast one, one request at a time, so that
it answers a little more than 1,000 a second."""


@contextmanager
def pool(stage: Stage, cpu: str = CPU) -> Iterator[None]:
    """Have a pool for their replicas; gone in the end."""
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
    """Apply a service of the fast model, and wait for its replicas."""
    _apply(place, name, python_model(name, waiting(FAST_S), maxBatchSize=1), replicas, **spec)


def slow(place: Scratch, *, replicas: int, name: str = SLOW, **spec: Any) -> None:
    """Apply a service of the slow model, of which several requests are under way at any time."""
    _apply(place, name, python_model(name, waiting(SLOW_S)), replicas, **spec)


def waiting(seconds: float) -> str:
    """Return the code of a model that adds one, and waits before it does."""
    waits = adding(1).replace("return", f"time.sleep({seconds})\n        return", 1)
    return f"import time\n{waits}"


def _apply(place: Scratch, name: str, model: list[Object], replicas: int, **spec: Any) -> None:
    scaling = {"minReplicas": 1, "maxReplicas": 3, "drainTimeout": "20s"}
    place.apply(*model, service(name, pools=(POOL,), replicas=replicas, scaling=scaling, **spec))
    place.await_ready(name, replicas)


def scale(place: Scratch, name: str, replicas: int) -> None:
    """Ask for so many replicas."""
    patch = json.dumps({"spec": {"replicas": replicas}})
    place.kubectl("patch", "modelservice", name, "--type=merge", "-p", patch)
