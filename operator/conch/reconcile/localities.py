"""Where a model's files are already, and what all services ask for: what placement prefers by."""

from collections.abc import Iterable, Mapping

from conch.decisions.fleet import Amounts
from conch.decisions.placement import Wish, popular
from conch.reconcile.gather import ServiceFacts

_MOST = 10_000
"""Sources that are remembered."""


class Localities:
    """Remembers which nodes have which files, where nodes cache them.

    A node on which a replica became ready has its model's files. What an earlier operator saw is
    found again from the replicas that run; the rest is only a wish that is not fulfilled.
    """

    def __init__(self) -> None:
        self._nodes: dict[str, set[str]] = {}
        """By source."""

    def wish(self, facts: ServiceFacts, load_seconds: float) -> Wish:
        """Return what a service wishes of its nodes; ``load_seconds`` is what a load takes."""
        revision = facts.service.revision or facts.service.serving_revision or ""
        snapshot = facts.snapshots.get(revision)
        if snapshot is None or not snapshot.cache:
            return Wish()
        source = snapshot.variant.source
        key = source.sha256 or source.uri or ""
        if len(self._nodes) > _MOST:
            self._nodes.clear()
        known = self._nodes.setdefault(key, set())
        known |= {
            p.node
            for p in facts.service.pods
            if p.ready and p.node is not None and p.revision == revision
        }
        # A node that is gone comes back empty.
        known &= {n.name for pool in facts.pools for n in pool.nodes}
        return Wish(cached=frozenset(known), load_seconds=load_seconds)


def workload(
    services: Iterable[tuple[ServiceFacts, int]],
) -> Mapping[str, Mapping[Amounts, float]]:
    """Return the popular needs of each pool; with each service the replicas that it wishes for.

    By the GPUs that wait for a place, not by the replicas: one that needs eight waits for a whole node,
    and among many small ones nobody would keep it for it.
    """
    asked: dict[str, list[tuple[Amounts, float]]] = {}
    for facts, replicas in services:
        for pool, shape in facts.shapes.items():
            asked.setdefault(pool, []).append((shape.need, float(replicas * shape.need.gpus)))
    return {pool: popular(needs) for pool, needs in asked.items()}
