"""The policies of the placement benchmark: Conch's own code, and what it is measured against."""

import random
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from conch.decisions.placement.board import WHOLE, Board
from conch.decisions.placement.fragmentation import Demand, Floats, Fragmentation, States
from e2e.bench.placement_fgd import Gradient
from e2e.bench.placement_trace import DEVICES, MILLI, Cluster, Ints, Pod, Spot

_MIB = 2.0**20
_MOST_CPU, _MOST_GPUS = 128_000, 8_000
"""The largest node, in thousandths: what the authors' simulator divides amounts by."""


class Policy(Protocol):
    """Chooses places, one pod after the other."""

    def choose(self, pod: Pod) -> Spot | None:
        """Return a place for a pod, or None where none fits."""

    def changed(self, node: int) -> None:
        """Note that a pod was placed on a node."""


class Conch:
    """The operator's own board and measure, told of every part of a GPU that is free."""

    def __init__(self, shares: Mapping[Pod, float], nodes: Cluster) -> None:
        self._cluster = nodes
        measure = Fragmentation({demand(p): s for p, s in shares.items() if p.gpus})
        names = [f"{row:06}" for row in range(len(nodes.cpu))]
        self._board = Board(names, self._states(np.arange(len(names))), measure)

    def choose(self, pod: Pod) -> Spot | None:
        """Return the place that the operator would choose."""
        spot = self._board.best(demand(pod))
        if spot is None:
            return None
        if spot.option != WHOLE:
            return Spot(spot.row, (spot.option,))
        free = np.flatnonzero(self._cluster.devices[spot.row] == MILLI)
        return Spot(spot.row, tuple(map(int, free[: pod.gpus])))

    def changed(self, node: int) -> None:
        """Put the node's new state on the board."""
        self._board.put([node], self._states(np.array([node])))

    def _states(self, rows: Ints) -> States:
        devices = self._cluster.devices[rows]
        return States(
            whole=(devices == MILLI).sum(axis=1).astype(float),
            parts=np.where(devices == MILLI, 0, devices) / MILLI,
            cpu=self._cluster.cpu[rows] / MILLI,
            memory=(self._cluster.memory[rows] * _MIB).astype(float),
            pods=np.full(len(rows), np.inf),
        )


def demand(pod: Pod) -> Demand:
    """Return what a pod asks in the operator's terms."""
    share = pod.milli / MILLI if pod.gpus else 1.0
    return Demand(pod.gpus, share, pod.cpu / MILLI, pod.memory * _MIB)


class BestFit:
    """The least left over: CPU and GPUs, each as a share of the largest node's."""

    def __init__(self, nodes: Cluster) -> None:
        self._cluster = nodes

    def choose(self, pod: Pod) -> Spot | None:
        """Return the tightest device of the tightest node."""
        return _least(self._cluster, pod, self._score(pod))

    def changed(self, node: int) -> None:
        """Keep nothing."""

    def _score(self, pod: Pod) -> Floats:
        left = self._cluster.devices.sum(axis=1) - pod.asked
        score: Floats = (self._cluster.cpu - pod.cpu) / _MOST_CPU + left / _MOST_GPUS
        return score


class DotProduct(BestFit):
    """The least product of what is free and what is asked, as the authors' simulator has it.

    After Grandl et al., "Multi-resource packing for cluster schedulers", SIGCOMM 2014.
    """

    def _score(self, pod: Pod) -> Floats:
        free = self._cluster.devices.sum(axis=1)
        cpu = self._cluster.cpu / _MOST_CPU * (pod.cpu / _MOST_CPU)
        score: Floats = cpu + free / _MOST_GPUS * (pod.asked / _MOST_GPUS)
        return score


class Random:
    """Any node that fits, any devices of it that do."""

    def __init__(self, nodes: Cluster, seed: int) -> None:
        self._cluster, self._draw = nodes, random.Random(f"random-{seed}")

    def choose(self, pod: Pod) -> Spot | None:
        """Return a place at random."""
        able = np.flatnonzero(self._cluster.fits(pod))
        if not len(able):
            return None
        node = int(self._draw.choice(able))
        devices = [d for d in range(DEVICES) if self._cluster.devices[node, d] >= pod.milli]
        return Spot(node, tuple(self._draw.sample(devices, pod.gpus)))

    def changed(self, node: int) -> None:
        """Keep nothing."""


def _least(nodes: Cluster, pod: Pod, score: Floats) -> Spot | None:
    able = nodes.fits(pod)
    node = int(np.where(able, score, np.inf).argmin())
    return nodes.tightest(node, pod) if able[node] else None


POLICIES: Mapping[str, Callable[[Mapping[Pod, float], Cluster, int], Policy]] = {
    "conch": lambda shares, nodes, _: Conch(shares, nodes),
    "fgd": lambda shares, nodes, _: Gradient(shares, nodes),
    "bestfit": lambda _, nodes, __: BestFit(nodes),
    "dotproduct": lambda _, nodes, __: DotProduct(nodes),
    "random": lambda _, nodes, seed: Random(nodes, seed),
}
