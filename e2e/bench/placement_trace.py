"""The trace of the placement benchmark: nodes with GPUs, and pods that ask for whole ones or parts.

Alibaba's cluster-trace-gpu-v2023, as in https://github.com/hkust-adsl/kubernetes-scheduler-simulator.
"""

import csv
import gzip
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from e2e.bench.scaling_traces import folder

Ints = NDArray[np.int64]
NODES, PODS = "openb_nodes.csv.gz", "openb_pods_default.csv.gz"
WHENCE = "https://github.com/hkust-adsl/kubernetes-scheduler-simulator (data/csv), gzipped"
MILLI = 1000
"""Thousandths: GPUs and CPUs are counted in them, as integers."""
DEVICES = 8
"""Most GPUs of a node."""


@dataclass(frozen=True, order=True)
class Pod:
    """What a pod asks for."""

    gpus: int
    """Devices."""
    milli: int
    """Thousandths of each device."""
    cpu: int
    """Thousandths of a core."""
    memory: int
    """MiB."""

    @property
    def asked(self) -> int:
        """Thousandths of a GPU, of all its devices together."""
        return self.gpus * self.milli

    @property
    def partial(self) -> bool:
        """Asks for a part of one GPU."""
        return 0 < self.milli < MILLI


@dataclass(frozen=True)
class Spot:
    """A node, by its row, and the devices that a pod takes there."""

    node: int
    devices: tuple[int, ...]


@dataclass
class Cluster:
    """What is free, one row a node."""

    cpu: Ints
    memory: Ints
    devices: Ints
    """Thousandths free, one column a device; a node with fewer has zeros."""
    taken: int = field(default=0, init=False)
    """Thousandths of GPUs that were given to pods."""

    def __post_init__(self) -> None:
        self.capacity = int(self.devices.sum())

    def fits(self, pod: Pod) -> NDArray[np.bool_]:
        """Tell which nodes can take a pod."""
        enough = (self.cpu >= pod.cpu) & (self.memory >= pod.memory)
        if pod.gpus:
            enough &= (self.devices >= pod.milli).sum(axis=1) >= pod.gpus
        return enough

    def tightest(self, node: int, pod: Pod) -> Spot:
        """Return the place on a node that takes the devices with the least free."""
        free = self.devices[node]
        able = [d for d in range(DEVICES) if free[d] >= pod.milli]
        able.sort(key=lambda d: (int(free[d]), d))
        return Spot(node, tuple(able[: pod.gpus]))

    def take(self, spot: Spot, pod: Pod) -> None:
        """Give a place to a pod. It is a defect of the policy if that goes beyond what is free."""
        node, devices = spot.node, list(spot.devices)
        self.cpu[node] -= pod.cpu
        self.memory[node] -= pod.memory
        self.devices[node, devices] -= pod.milli
        self.taken += pod.asked
        least = min(self.cpu[node], self.memory[node], self.devices[node].min())
        if least < 0 or len(set(devices)) != pod.gpus:
            raise AssertionError(f"node {node} can't take {pod}")


def missing() -> str | None:
    """Return what to do about files that are not there, or None."""
    absent = [name for name in (NODES, PODS) if not (folder() / name).is_file()]
    if not absent:
        return None
    return (
        f"{' and '.join(absent)}: not in {folder()} (set CONCH_TRACES to where they are). "
        f"They come from {WHENCE}."
    )


def cluster() -> Cluster:
    """Return the nodes of the trace, empty."""
    rows = list(_rows(NODES))
    devices = np.zeros((len(rows), DEVICES), dtype=np.int64)
    for row, node in enumerate(rows):
        devices[row, : int(node["gpu"])] = MILLI
    return Cluster(
        np.array([int(r["cpu_milli"]) for r in rows]),
        np.array([int(r["memory_mib"]) for r in rows]),
        devices,
    )


@lru_cache(maxsize=1)
def pods() -> tuple[Pod, ...]:
    """Return the pods of the trace."""
    return tuple(
        Pod(
            gpus=int(r["num_gpu"]),
            milli=int(r["gpu_milli"]),
            cpu=int(r["cpu_milli"]),
            memory=int(r["memory_mib"]),
        )
        for r in _rows(PODS)
    )


def durations() -> list[float]:
    """Return for how many seconds pods with GPUs ran, those of which the trace tells, in its order."""
    ran = (
        r for r in _rows(PODS) if r["deletion_time"] and r["scheduled_time"] and r["num_gpu"] != "0"
    )
    return [float(r["deletion_time"]) - float(r["scheduled_time"]) for r in ran]


def shares() -> dict[Pod, float]:
    """Return the distribution of the trace's pods, the most frequent first."""
    every = pods()
    counted = sorted(Counter(every).items(), key=lambda item: (-item[1], item[0]))
    return {pod: count / len(every) for pod, count in counted}


def drawn(seed: int, capacity: int) -> list[Pod]:
    """Return pods drawn with replacement until they ask for ``capacity`` thousandths of GPUs.

    So the paper's section 6.1 does it. The last one that would exceed it is left out.
    """
    draw, asked = random.Random(seed), 0
    found: list[Pod] = []
    while True:
        pod = draw.choice(pods())
        asked += pod.asked
        if asked > capacity:
            return found
        found.append(pod)


def _rows(name: str) -> Iterator[dict[str, str]]:
    with gzip.open(folder() / name, "rt", newline="") as file:
        yield from csv.DictReader(file)
