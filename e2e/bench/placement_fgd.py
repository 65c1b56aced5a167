"""Fragmentation Gradient Descent as its authors published it, to measure Conch's placement against.

Weng et al., USENIX ATC 2023: algorithm 1 and equations 1 to 4, with the settings of the authors'
experiments: the pods that make up 95 % of the trace are typical, memory is not looked at. Written
from the paper, in integers and without anything of Conch's.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from e2e.bench.placement_trace import DEVICES, MILLI, Cluster, Ints, Pod, Spot

_TYPICAL = 0.95
"""Share of pods that the typical ones make up."""

Floats = NDArray[np.float64]


class Gradient:
    """The policy: the node, and of its devices the one, whose fragmentation rises least."""

    def __init__(self, shares: Mapping[Pod, float], nodes: Cluster) -> None:
        typical, reached = [], 0.0
        for pod, share in shares.items():
            if reached < _TYPICAL:
                typical.append((pod, share))
                reached += share
        with_gpus = [(pod, share / reached) for pod, share in typical if pod.gpus]
        self._weights = np.array([share for _, share in with_gpus])
        self._idle = 1.0 - self._weights.sum()
        """The weight of pods without GPUs, for which every free GPU counts as fragmented."""
        self._cpu = np.array([pod.cpu for pod, _ in with_gpus])
        self._gpus = np.array([pod.gpus for pod, _ in with_gpus])
        self._milli = np.array([pod.milli for pod, _ in with_gpus])
        self._cluster = nodes
        self._known: dict[Pod, tuple[Floats, Ints, set[int]]] = {}
        """Of a pod: rises and devices by node, and the nodes that changed since."""

    def measure(self, cpu: Ints, devices: Ints) -> Floats:
        """Return the fragmentation of nodes, in thousandths of GPUs: equations 1 to 3."""
        total = devices.sum(axis=1)
        able = np.zeros((len(cpu), len(self._cpu)), dtype=np.int64)
        usable = np.zeros_like(able)
        for free in devices.T:
            enough = free[:, None] >= self._milli
            able += enough
            usable += free[:, None] * enough
        runs = (able >= self._gpus) & (cpu[:, None] >= self._cpu)
        stranded = total[:, None] - np.where(runs, usable, 0)
        measured: Floats = stranded @ self._weights + total * self._idle
        return measured

    def choose(self, pod: Pod) -> Spot | None:
        """Return the place with the steepest descent."""
        rises, devices = self._rises(pod)
        node = int(_levels(rises).argmax())
        if not np.isfinite(rises[node]):
            return None
        if pod.partial:
            return Spot(node, (int(devices[node]),))
        return self._cluster.tightest(node, pod)

    def changed(self, node: int) -> None:
        """Note that a pod was placed on a node."""
        for _, _, stale in self._known.values():
            stale.add(node)

    def _rises(self, pod: Pod) -> tuple[Floats, Ints]:
        nodes = len(self._cluster.cpu)
        if pod not in self._known:
            empty = np.full(nodes, np.inf), np.zeros(nodes, dtype=np.int64), set(range(nodes))
            self._known[pod] = empty
        rises, devices, stale = self._known[pod]
        rows = np.array(sorted(stale), dtype=np.int64)
        stale.clear()
        rises[rows] = np.inf
        rows = rows[self._cluster.fits(pod)[rows]]
        if len(rows):
            rises[rows], devices[rows] = self._least(pod, rows)
        return rises, devices

    def _least(self, pod: Pod, rows: Ints) -> tuple[Floats, Ints]:
        """Return the least rise of each node and the device that brings it."""
        cpu, devices = self._cluster.cpu[rows], self._cluster.devices[rows]
        before = self.measure(cpu, devices)
        if not pod.partial:
            return self.measure(cpu - pod.cpu, _whole_taken(pod, devices)) - before, rows * 0
        rises = np.full((len(rows), DEVICES), np.inf)
        for device in range(DEVICES):
            able = np.flatnonzero(devices[:, device] >= pod.milli)
            left = devices[able]
            left[:, device] -= pod.milli
            rises[able, device] = self.measure(cpu[able] - pod.cpu, left) - before[able]
        return rises.min(axis=1), rises.argmin(axis=1)


def _levels(rises: Floats) -> Ints:
    """Return scores from 0 to 100, as Kubernetes' scheduler takes them; -1 where nothing fits.

    The authors' scheduler rounds a sigmoid of the descent in GPUs, and takes the first node by name
    among equals. That decides more than it looks like: with unrounded scores FGD leaves four
    tenths more GPUs unallocated on this trace.
    """
    scores = np.floor(100 / (1 + np.exp(rises / MILLI)))
    levels: Ints = np.where(np.isfinite(rises), scores, -1).astype(np.int64)
    return levels


def _whole_taken(pod: Pod, devices: Ints) -> Ints:
    """Return what is left of the devices of nodes once a pod has whole ones."""
    free = devices == MILLI
    mine = free & (free.cumsum(axis=1) <= pod.gpus)
    return np.where(mine, 0, devices)
