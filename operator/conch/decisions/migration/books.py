"""The books in which moves are tried: what is free while they run, and once they are through."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from conch.decisions.fleet import Amounts, Node, Pool, ServiceKey, Shape
from conch.decisions.migration.view import MovableFleet, Option, Replica
from conch.decisions.placement.board import LEVEL
from conch.decisions.placement.filters import ZONE
from conch.decisions.placement.fragmentation import Floats, States
from conch.decisions.placement.wish import GPUS_PER_NEIGHBOUR, GPUS_PER_NEIGHBOUR_APART

MOST_TARGETS = 64
"""Nodes that are compared as the new place of a replica: those with the tightest fit."""
_TIE = 1e-9
Allowed = Callable[[Node], bool]


@dataclass(frozen=True, slots=True)
class Step:
    """A replica that leaves its node for another."""

    replica: Replica
    option: Option
    node: str | None
    """None: an autoscaler brings it."""


class Books:
    """Make before break: a place that is left comes free only once the new one answers.

    ``now`` has the old and the new places taken, ``after`` the new ones alone: a move has to fit
    into the first, and what it promises has to be there in the second.
    """

    def __init__(self, fleet: MovableFleet) -> None:
        self._fleet = fleet
        self.now, self.after = fleet.ledger.copy(), fleet.ledger.copy()
        self._homes: dict[ServiceKey, Counter[str]] = defaultdict(Counter)
        """Replicas by service and node once moves are through."""
        self._there: Counter[str] = Counter()
        """The same by node."""
        self._quiet = {r.node for r in fleet.replicas if r.disturbed}
        for replica in fleet.replicas:
            self._count(replica.service, replica.node, 1)
        for move in fleet.open:
            replica_of = fleet.by_uid.get(move.uid)
            if replica_of is not None:
                self._leave(replica_of, 1)

    def start(self, step: Step) -> None:
        """Book a move."""
        self._arrive(step, 1)
        self._leave(step.replica, 1)

    def undo(self, steps: Sequence[Step]) -> None:
        """Take moves back, the last first."""
        for step in reversed(steps):
            self._leave(step.replica, -1)
            self._arrive(step, -1)

    def _arrive(self, step: Step, sign: int) -> None:
        if step.node is None:
            return
        need, resource = step.option.shape.need, self._resource(step.option.pool)
        for ledger in (self.now, self.after):
            (ledger.book if sign > 0 else ledger.release)(step.node, need, resource)
        self._count(step.replica.service, step.node, sign)

    def _leave(self, replica: Replica, sign: int) -> None:
        if replica.pool in self._fleet.pool_of:
            change = self.after.release if sign > 0 else self.after.book
            change(replica.node, replica.shape.need, self._resource(replica.pool))
        self._count(replica.service, replica.node, -sign)

    def _count(self, service: ServiceKey, node: str, change: int) -> None:
        self._homes[service][node] += change
        self._there[node] += change

    def hush(self, node: str) -> None:
        """Keep a node for the replica that it has: others disturb it."""
        self._quiet.add(node)

    def reserve(self, pool: Pool, node: Node, need: Amounts) -> None:
        """Keep room for a replica that waits: of what comes free, and of what is free already."""
        resource = pool.spec.resource_name
        self.after.book(node.name, need, resource)
        self.now.book(node.name, _least(self.now.free(node, pool), need), resource)

    def _resource(self, pool: str) -> str:
        return self._fleet.pool_of[pool].spec.resource_name

    def beside(self, service: ServiceKey) -> Counter[str]:
        """Return the replicas of a service by node once moves are through."""
        return self._homes[service]

    def in_zones(self, service: ServiceKey) -> Counter[str]:
        """Return the replicas of a service by zone once moves are through."""
        found: Counter[str] = Counter()
        for name, count in self._homes[service].items():
            node = self._fleet.nodes.get(name)
            if node is not None and ZONE in node.labels:
                found[node.labels[ZONE]] += count
        return found

    def occupied(self, node: str) -> int:
        """Return how many replicas a node has once moves are through."""
        return self._there[node]

    def fragmented(self, pool: Pool, nodes: Iterable[str]) -> float:
        """Return the GPUs of nodes that popular replicas can't use, once moves are through."""
        measure = self.after.measure(pool)
        known = [self._fleet.nodes[n] for n in sorted(set(nodes)) if n in self._fleet.nodes]
        if measure is None or not known:
            return 0.0
        states = States.of(self.after.free(n, pool) for n in known)
        return pool.gpus_of(1) * float(measure.of(states).sum())

    def place(self, replica: Replica, option: Option, allowed: Allowed) -> str | None:
        """Return the node of a pool where a replica finds room at once and for good, or None.

        The least rise of fragmentation and crowding, as placement has it; then the tightest fit.
        None that shows signs of failing, or was left as it did.
        """
        pool, shape = self._fleet.pool_of[option.pool], option.shape

        def welcome(node: Node) -> bool:
            if node.signs or node.name in self._fleet.left:
                return False
            if node.name in self._quiet or (replica.disturbed and self.occupied(node.name)):
                return False
            return allowed(node)

        found = list(islice(self._fitting(pool, shape, welcome), MOST_TARGETS))
        if not found:
            return None
        service = self._fleet.services.get(replica.service)
        apart = service is not None and service.standby > 0
        weight = GPUS_PER_NEIGHBOUR_APART if apart else GPUS_PER_NEIGHBOUR
        near = self.beside(replica.service)
        crowd = np.array([weight * near[n.name] for n, _ in found])
        score = crowd + self._rises(pool, [left for _, left in found], shape.need)
        # Those found come tightest first, then by name.
        return found[int((score < _level(float(score.min()))).argmax())][0].name

    def _fitting(
        self, pool: Pool, shape: Shape, allowed: Allowed
    ) -> Iterable[tuple[Node, Amounts]]:
        for node, _ in self.now.fitting(pool, shape):
            if allowed(node):
                left = self.after.free(node, pool)
                if left.covers(shape.need):
                    yield node, left

    def _rises(self, pool: Pool, left: Sequence[Amounts], need: Amounts) -> Floats:
        measure = self.after.measure(pool)
        if measure is None:
            return np.zeros(len(left))
        return measure.of(States.of(a - need for a in left)) - measure.of(States.of(left))


def _level(least: float) -> float:
    """Return below what scores count as equal to the least one, as on placement's board."""
    return float(np.floor((least + _TIE) / LEVEL) * LEVEL + LEVEL - _TIE)


def _least(one: Amounts, other: Amounts) -> Amounts:
    return Amounts(
        max(0, min(one.gpus, other.gpus)),
        max(0.0, min(one.cpu, other.cpu)),
        max(0.0, min(one.memory, other.memory)),
        max(0, min(one.pods, other.pods)),
    )
