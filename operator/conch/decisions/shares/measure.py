"""How much of the fleet a replica takes: its dominant part, in GPUs of relative speed 1."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from conch.api.pool import SharingMode
from conch.decisions.fleet import Amounts, Pool, Shape
from conch.decisions.placement import Ledger


@dataclass(frozen=True, slots=True)
class Fleet:
    """The nodes of all pools together."""

    gpus: float
    """In GPUs of relative speed 1; at least 1, so that a fleet without GPUs has a unit too."""
    cpu: float
    memory: float

    def charge(self, shape: Shape, pool: Pool) -> float:
        """Return what a replica is charged in a pool, in GPUs of relative speed 1.

        The dominant part of what it asks for (Ghodsi et al., Dominant Resource Fairness, NSDI
        2011): GPUs by the pool's speed, or as large a part of the fleet in CPU or memory.
        """
        need = shape.need
        return max(
            pool.gpus_of(need.gpus) * pool.spec.relative_speed,
            self.gpus * need.cpu / self.cpu if self.cpu > 0 else 0.0,
            self.gpus * need.memory / self.memory if self.memory > 0 else 0.0,
        )


def fleet_of(pools: Iterable[Pool]) -> Fleet:
    """Return the size of the fleet; a node of two pools counts once in CPU and memory."""
    nodes, gpus = {}, 0.0
    for pool in pools:
        for node in pool.nodes:
            nodes[node.name] = node
            there = round(node.allocatable.get(pool.spec.resource_name, 0.0))
            gpus += pool.gpus_of(there) * pool.spec.relative_speed
    return Fleet(
        gpus=max(1.0, gpus),
        cpu=sum(n.allocatable.get("cpu", 0.0) for n in nodes.values()),
        memory=sum(n.allocatable.get("memory", 0.0) for n in nodes.values()),
    )


def large_enough(pool: Pool, need: Amounts) -> bool:
    """Tell whether any node of a pool would take a replica, were it empty; an elastic one brings it."""
    resource = pool.spec.resource_name
    return pool.spec.elastic or any(
        Amounts(
            gpus=round(node.allocatable.get(resource, 0.0)),
            cpu=node.allocatable.get("cpu", 0.0),
            memory=node.allocatable.get("memory", 0.0),
            pods=int(node.allocatable.get("pods", 110)),
        ).covers(need)
        for node in pool.nodes
    )


def open_capacity(
    pools: Iterable[Pool], held: Mapping[str, float], free: Ledger, fleet: Fleet
) -> Mapping[str, float]:
    """Return what tenants may share of each pool, in GPUs of relative speed 1.

    What is free on nodes that take replicas, and ``held`` by tenants already; what others hold is
    no part of it. An elastic pool has no bound.
    """
    return {
        p.name: float("inf") if p.spec.elastic else held.get(p.name, 0.0) + _free(p, free, fleet)
        for p in pools
    }


def _free(pool: Pool, free: Ledger, fleet: Fleet) -> float:
    left = [free.free(n, pool) for n in pool.nodes if n.ready and n.schedulable]
    if pool.spec.sharing.mode is SharingMode.CPU:
        cpu = sum(max(0.0, of.cpu) for of in left)
        return fleet.gpus * cpu / fleet.cpu if fleet.cpu > 0 else 0.0
    return pool.gpus_of(sum(max(0, of.gpus) for of in left)) * pool.spec.relative_speed
