"""What a service wishes of its nodes besides room, in GPUs, the unit of fragmentation."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

SECONDS_PER_GPU = 300.0
"""Seconds for which one GPU waits for its model that weigh as much as one GPU that popular replicas
can't use. What is stranded now may be free again once load falls: no sooner than 300 s after, as
Kubernetes' own autoscaler has it by default (stabilizationWindowSeconds of scaleDown)."""
GPUS_PER_NEIGHBOUR = 0.25
"""What each replica of the same service on a node weighs: one is worth a quarter of a GPU that
nobody can use, two are worth half of one."""
GPUS_PER_NEIGHBOUR_APART, GPUS_PER_REPLICA_IN_ZONE = 1.0, 0.5
"""The same for a service with replicas that stand by: lost together with those that work, they would
be worth nothing. A node is lost more often than a zone."""

GPUS_PER_FAILING = 10_000.0
"""What a node that shows signs of failing weighs: more than all else together, so that any other is
better; and it is still used where there is no other, since the sign may be wrong."""


@dataclass(frozen=True)
class Wish:
    """What makes nodes better or worse for a service."""

    cached: Collection[str] = ()
    """Names of nodes that have the model's files."""
    load_seconds: float = 0.0
    """By how much a replica loads faster there."""
    beside: Mapping[str, int] = field(default_factory=dict)
    """Replicas of the service that nodes run already, by the node's name."""
    apart: bool = False
    """Whether other nodes and other zones are worth more to it than to most."""
    zones: Mapping[str, int] = field(default_factory=dict)
    """Replicas of the service that zones run already; of one that wishes to be apart."""

    @property
    def neighbour_gpus(self) -> float:
        """What each replica of the same service on a node weighs."""
        return GPUS_PER_NEIGHBOUR_APART if self.apart else GPUS_PER_NEIGHBOUR

    def joined(self, node: str, zone: str | None) -> Self:
        """Return the wish once one more replica of the service is on a node, which is in that zone."""
        beside = {**self.beside, node: self.beside.get(node, 0) + 1}
        if zone is None:
            return replace(self, beside=beside)
        return replace(self, beside=beside, zones={**self.zones, zone: self.zones.get(zone, 0) + 1})

    def load_gpus(self, gpus: int) -> float:
        """Return what loading without the files weighs for a replica of so many GPUs."""
        return max(1, gpus) * max(0.0, self.load_seconds) / SECONDS_PER_GPU
