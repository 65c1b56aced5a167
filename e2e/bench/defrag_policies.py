"""The policies of the benchmark of migrations: none, Karpenter's consolidation, Conch's planner."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from conch.decisions.fleet import Amounts, Node, ServiceKey
from conch.decisions.migration import (
    MovableFleet,
    MovableService,
    OpenMove,
    Option,
    Replica,
    Waiting,
    propose,
)
from e2e.bench.defrag_fleet import GPU, LOAD_S, POOL, Fleet, by_node

MOST_CANDIDATES = 100
"""Nodes that Karpenter looks at together."""
AT_ONCE = 0.1
"""Share of nodes that Karpenter disrupts at once, the default of its budgets."""
ROUNDS = 8
"""Of consolidation between two ticks."""
BALANCE = 0.5


@dataclass
class Policy:
    """Moves nothing; the others do."""

    moves: int = 0
    moved: int = 0
    """GPUs."""
    down: float = 0.0
    """Replica-seconds without an answer."""

    def act(self, fleet: Fleet, now: float) -> None:
        """Begin moves."""

    def finish(self, fleet: Fleet, now: float) -> None:
        """End them."""

    def keep(self, fleet: Fleet) -> Sequence[tuple[str, Amounts]]:  # noqa: ARG002 - as others have it
        """Return room that others than who waits for it should not get."""
        return ()


@dataclass
class Karpenter(Policy):
    """Consolidation as Karpenter does it, on nodes that stay.

    Nodes are ordered by what disrupting them costs, which is the number of pods where all have the
    same priority and no node expires. Of the cheapest hundred, a binary search finds the longest
    prefix of two or more whose pods all fit on other nodes; else the first node alone whose do. No
    more than a tenth of the nodes at once, a round each 15 s, for so long a command is checked. Pods
    are evicted, and start elsewhere: each is down for a load time. Their places are the tightest
    fits, which packs better than the default scheduler. A node that it would delete is free here for
    what waits, and one that is empty takes no pod, since it would be gone.
    (kubernetes-sigs/karpenter, pkg/controllers/disruption, designs/consolidation-cost-threshold.md)
    """

    def act(self, fleet: Fleet, now: float) -> None:
        """Consolidate, round by round."""
        left = max(1, int(AT_ONCE * len(fleet.pool.nodes)))
        for _ in range(ROUNDS):
            there = by_node(list(fleet.running.values()))
            names = self.ordered(fleet, there)
            found = self._prefix(fleet, there, names[: min(MOST_CANDIDATES, left)])
            found = found or self._single(fleet, there, names)
            if not found or left <= 0:
                return
            left -= len({one.node for one, _ in found})
            for one, node in found:
                fleet.ledger.book(node, one.shape.need, GPU)
                fleet.move(one.uid, node, now)
                self.moves += 1
                self.moved += one.shape.need.gpus
                self.down += LOAD_S

    def ordered(self, _: Fleet, there: Mapping[str, list[Replica]]) -> list[str]:
        """Return the nodes in use in the order in which they are tried."""
        return sorted(there, key=lambda n: (len(there[n]), n))

    def _prefix(
        self, fleet: Fleet, there: Mapping[str, list[Replica]], names: Sequence[str]
    ) -> list[tuple[Replica, str]]:
        low, high, best = 2, len(names), list[tuple[Replica, str]]()
        while low <= high:
            middle = (low + high) // 2
            found = _elsewhere(fleet, there, names[:middle])
            if found is None:
                high = middle - 1
            else:
                best, low = found, middle + 1
        return best

    def _single(
        self, fleet: Fleet, there: Mapping[str, list[Replica]], names: Sequence[str]
    ) -> list[tuple[Replica, str]]:
        for name in names:
            found = _elsewhere(fleet, there, [name])
            if found is not None:
                return found
        return []


@dataclass
class Balanced(Karpenter):
    """The same with what Karpenter calls balanced: what is saved stands against what is disrupted.

    Only nodes with (share of all GPUs) / (share of all pods) >= 1/2, those with the most first; a
    constant that Karpenter adds to what disrupting a node costs is left out.
    (kubernetes-sigs/karpenter, designs/balanced-consolidation.md)
    """

    def ordered(self, fleet: Fleet, there: Mapping[str, list[Replica]]) -> list[str]:
        """Return the nodes that are worth it, the best first."""
        gpus = {n.name: n.allocatable[GPU] for n in fleet.pool.nodes}
        even = len(fleet.running) / fleet.capacity
        ratio = {n: gpus[n] * even / len(pods) for n, pods in there.items()}
        return sorted((n for n in there if ratio[n] >= BALANCE), key=lambda n: (-ratio[n], n))


def _elsewhere(
    fleet: Fleet, there: Mapping[str, list[Replica]], leave: Sequence[str]
) -> list[tuple[Replica, str]] | None:
    """Return a place on other nodes in use for each replica of some nodes, or None."""
    away, booked = set(leave), list[tuple[Replica, str]]()
    leaving = [r for name in leave for r in there[name]]
    for one in sorted(leaving, key=lambda r: (-r.shape.need.gpus, -r.shape.need.cpu, r.uid)):

        def useful(node: Node) -> bool:
            return node.name not in away and node.name in there

        able = (n for n, _ in fleet.ledger.fitting(fleet.pool, one.shape) if useful(n))
        node = next(able, None)
        if node is None:
            break
        fleet.ledger.book(node.name, one.shape.need, GPU)
        booked.append((one, node.name))
    for one, name in booked:
        fleet.ledger.release(name, one.shape.need, GPU)
    return booked if len(booked) == len(leaving) else None


@dataclass
class Conch(Policy):
    """The operator's planner: the new replica answers first, then the old one leaves."""

    seconds: list[float] = field(default_factory=list)
    promised: float = 0.0
    """GPUs that the planner said would be gained."""
    _open: dict[str, str] = field(default_factory=dict)
    _rooms: list[tuple[str, Amounts, ServiceKey]] = field(default_factory=list)
    _seen: set[tuple[str, ...]] = field(default_factory=set)
    _services: dict[ServiceKey, MovableService] = field(default_factory=dict)

    def act(self, fleet: Fleet, now: float) -> None:
        """Begin what the planner proposes."""
        plan = propose(self._view(fleet), now)
        for move in plan.moves:
            one = fleet.running[move.uid]
            assert move.target_node is not None
            fleet.ledger.book(move.target_node, one.shape.need, GPU)
            self._open[move.uid] = move.target_node
            self.moves += 1
            self.moved += one.shape.need.gpus
        self._rooms = [(r.node, r.need, r.service) for r in plan.reserved]

    def finish(self, fleet: Fleet, now: float) -> None:
        """Let the old replicas go."""
        for uid, node in self._open.items():
            fleet.move(uid, node, now)
        self._open.clear()

    def keep(self, fleet: Fleet) -> Sequence[tuple[str, Amounts]]:
        """Return the room that is being made for what still waits."""
        waits = {w.uid for w in fleet.waiting}
        return [(node, need) for node, need, service in self._rooms if service.name in waits]

    def _view(self, fleet: Fleet) -> MovableFleet:
        return MovableFleet(
            pools=(fleet.pool,),
            ledger=fleet.ledger,
            services=self._known(fleet),
            replicas=tuple(fleet.running.values()),
            waiting=tuple(
                Waiting(ServiceKey("openb", w.uid), (Option(POOL, w.shape),)) for w in fleet.waiting
            ),
            open=tuple(map(OpenMove, self._open)),
        )

    def _known(self, fleet: Fleet) -> dict[ServiceKey, MovableService]:
        self._services = {
            r.service: self._services.get(r.service)
            or MovableService(r.service, (Option(POOL, r.shape),))
            for r in fleet.running.values()
        }
        return self._services


POLICIES: Mapping[str, Callable[[], Policy]] = {
    "none": Policy,
    "karpenter": Karpenter,
    "karpenter-balanced": Balanced,
    "conch": Conch,
}
