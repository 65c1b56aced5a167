"""How much of the free GPUs popular replicas could not use: the measure of fragmentation.

F(node) = sum over popular demands m of p_m x (free GPUs of the node that m can't use), in GPUs.
Where m does not fit, for want of devices, CPU or memory, it can use none of them; where it fits,
it can't use the devices of which less is free than m asks of one.

After Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation
Gradient Descent", USENIX ATC 2023, section 4; memory and pod slots count here as CPU does there.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conch.decisions.fleet import Amounts

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
SLACK = 1 + 1e-6
"""As in fleet.Amounts: CPU and memory are sums of floats."""
HAIR = 1e-6
"""Less of a device than this is rounding."""
_POPULAR = 0.95
"""Share of all demand that popular ones make up; the paper's own experiments cut there too."""


@dataclass(frozen=True)
class Demand:
    """What a replica asks of its node: devices, so much of each, and CPU (cores), memory (bytes).

    ``share`` is the part of a device, above 0 and at most 1. Kubernetes counts whole devices, also
    those that are slices of a GPU: there it is 1. As in the paper, what asks for less than a device
    asks it of one.
    """

    devices: int
    share: float = 1.0
    cpu: float = 0.0
    memory: float = 0.0
    pods: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1 or (self.share < 1 and self.devices != 1):
            raise ValueError(f"no demand: {self.devices} devices, {self.share} of each")

    @property
    def gpus(self) -> float:
        """Devices' worth of what it asks."""
        return self.devices * self.share

    @classmethod
    def of(cls, need: Amounts) -> "Demand":
        """Return what a replica asks that takes whole devices."""
        return cls(need.gpus, 1.0, need.cpu, need.memory, need.pods)


@dataclass(frozen=True)
class States:
    """What is free on nodes, one row a node."""

    whole: Floats
    """Devices of which nothing is taken; below zero where more is booked than there is."""
    parts: Floats
    """Free parts of devices that are taken in part, 0 to 1, in any order; one column a device."""
    cpu: Floats
    memory: Floats
    pods: Floats

    def __len__(self) -> int:
        return len(self.whole)

    @classmethod
    def of(cls, amounts: Iterable[Amounts]) -> "States":
        """Return the states of nodes whose devices are free or taken as a whole."""
        rows = [(a.gpus, a.cpu, a.memory, a.pods) for a in amounts]
        whole, cpu, memory, pods = np.array(rows, dtype=float).reshape(-1, 4).T
        return cls(whole, np.zeros((len(rows), 0)), cpu, memory, pods)

    def rows(self, index: Any) -> "States":
        """Return some of the rows."""
        return States(
            self.whole[index],
            self.parts[index],
            self.cpu[index],
            self.memory[index],
            self.pods[index],
        )

    def put(self, index: Any, other: "States") -> None:
        """Replace some of the rows."""
        self.whole[index] = other.whole
        self.parts[index] = other.parts
        self.cpu[index] = other.cpu
        self.memory[index] = other.memory
        self.pods[index] = other.pods

    def fit(self, demand: Demand) -> NDArray[np.bool_]:
        """Tell which nodes have the CPU, memory and pod slots of a demand."""
        return (
            (demand.cpu <= np.maximum(self.cpu, 0.0) * SLACK)
            & (demand.memory <= np.maximum(self.memory, 0.0) * SLACK)
            & (demand.pods <= self.pods)
        )

    @property
    def free(self) -> Floats:
        """Free GPUs of each node."""
        total: Floats = np.maximum(self.whole, 0.0)
        for part in self.parts.T:
            total += part
        return total

    @classmethod
    def joined(cls, states: Sequence["States"]) -> "States":
        """Return all rows, one after the other."""
        if len(states) == 1:
            return states[0]
        return cls(
            np.concatenate([s.whole for s in states]),
            np.concatenate([s.parts for s in states]),
            np.concatenate([s.cpu for s in states]),
            np.concatenate([s.memory for s in states]),
            np.concatenate([s.pods for s in states]),
        )

    def offering(self, shares: Floats) -> tuple[Floats | Ints, Floats]:
        """Return, by node and share, how many devices have so much free, and how much they have."""
        whole = np.maximum(self.whole, 0.0)[:, None]
        if not self.parts.size:
            each = np.broadcast_to(whole, (len(self), len(shares)))
            return each, each
        parts = np.sort(self.parts, axis=1)[:, ::-1]
        count = (parts[:, :, None] >= shares - HAIR).sum(axis=1)
        # From the most free down, one after the other: the last bits never depend on other rows.
        sums = np.concatenate([whole, parts], axis=1).cumsum(axis=1)
        amount = np.take_along_axis(sums, count, axis=1)
        return count + whole.astype(np.intp), amount


class Fragmentation:
    """The measure, made once for a distribution of demands; weights are taken relative to their sum.

    For each share of a device that is asked for, a table tells the weight of the demands that fit,
    by devices, CPU and memory that are free: looking a node up costs the same however many demands
    there are. All sums run in the same order for one node and for thousands, so that the results
    are the same to the last bit.
    """

    def __init__(self, weights: Mapping[Demand, float]) -> None:
        total = math.fsum(weights.values())
        counted = {d: w / total for d, w in weights.items() if w > 0 and d.devices > 0}
        self._shares = np.unique([d.share for d in counted])
        self._devices = np.unique([float(d.devices) for d in counted])
        self._cpu = np.unique([d.cpu for d in counted])
        self._memory = np.unique([d.memory for d in counted])
        self._fitting = self._table(counted)

    def _table(self, weights: Mapping[Demand, float]) -> Floats:
        """Return the weight of the demands of a share that fit, by ranks of what is free."""
        edges = (self._devices, self._cpu, self._memory)
        table = np.zeros((len(self._shares), *(len(e) + 1 for e in edges)))
        for demand in sorted(weights, key=lambda d: (d.devices, d.cpu, d.memory, d.pods)):
            place = (
                self._shares.searchsorted(demand.share),
                self._devices.searchsorted(demand.devices) + 1,
                self._cpu.searchsorted(demand.cpu) + 1,
                self._memory.searchsorted(demand.memory) + 1,
            )
            table[place] += weights[demand]
        fitting: Floats = table.cumsum(1).cumsum(2).cumsum(3)
        return fitting

    def of(self, states: States) -> Floats:
        """Return the fragmentation of each node, in GPUs."""
        cpu = self._cpu.searchsorted(np.maximum(states.cpu, 0.0) * SLACK, "right")
        memory = self._memory.searchsorted(np.maximum(states.memory, 0.0) * SLACK, "right")
        count, amount = states.offering(self._shares)
        rank = self._devices.searchsorted(count, "right")
        usable = np.zeros(len(states))
        for share in range(len(self._shares)):
            usable += amount[:, share] * self._fitting[share, rank[:, share], cpu, memory]
        return states.free - np.where(states.pods >= 1, usable, 0.0)


def popular(asked: Iterable[tuple[Amounts, float]], *, most: int = 256) -> dict[Amounts, float]:
    """Return the popular needs among those asked for, with weights that sum to 1.

    ``asked`` has needs with how often each is wished for, such as the replicas that services wish
    for; equal needs are added up. The most frequent come first until they make up 95 % of all, at
    most ``most`` of them; what asks for no GPU strands none and is left out.
    """
    weights: dict[Amounts, list[float]] = {}
    for need, weight in asked:
        if need.gpus > 0 and weight > 0:
            weights.setdefault(need, []).append(weight)
    # Sums that don't depend on the order, so that neither does what is decided.
    sums = {need: math.fsum(each) for need, each in weights.items()}
    ranked = sorted(sums.items(), key=lambda item: (-item[1], _order(item[0])))
    kept: dict[Amounts, float] = {}
    enough, reached = _POPULAR * math.fsum(sums.values()), 0.0
    for need, weight in ranked[:most]:
        if reached >= enough:
            break
        kept[need] = weight
        reached += weight
    return {need: weight / reached for need, weight in kept.items()}


def _order(need: Amounts) -> tuple[float, ...]:
    return need.gpus, need.cpu, need.memory, need.pods
