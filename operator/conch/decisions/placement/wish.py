"""What a service wishes of its nodes besides room, in GPUs, the unit of fragmentation."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

SECONDS_PER_GPU = 300.0
"""Seconds for which one GPU waits for its model that weigh as much as one GPU that popular replicas
can't use. What is stranded now may be free again once load falls: no sooner than 300 s after, as
Kubernetes' own autoscaler has it by default (stabilizationWindowSeconds of scaleDown)."""
GPUS_PER_NEIGHBOUR = 0.25
"""What each replica of the same service on a node weighs: one is worth a quarter of a GPU that
nobody can use, two are worth half of one."""


@dataclass(frozen=True)
class Wish:
    """What makes nodes better or worse for a service."""

    cached: Collection[str] = ()
    """Names of nodes that have the model's files."""
    load_seconds: float = 0.0
    """By how much a replica loads faster there."""
    beside: Mapping[str, int] = field(default_factory=dict)
    """Replicas of the service that nodes run already, by the node's name."""

    def load_gpus(self, gpus: int) -> float:
        """Return what loading without the files weighs for a replica of so many GPUs."""
        return max(1, gpus) * max(0.0, self.load_seconds) / SECONDS_PER_GPU
