"""Which places a service's replicas have and get: the target of each pool, and the node of each pod.

One pass over one service: bookings go into its ledger, and steps that are found on the way are kept.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from conch.decisions import placement, rollout
from conch.decisions.fleet import Pod, Pool, ReplicaSet, Service, Shape
from conch.decisions.migrating import Order
from conch.decisions.placement import Ledger, Wish
from conch.decisions.shares import Grant
from conch.decisions.steps import Admission, SetPlan

_SHUNNED = 1_000_000
"""Neighbours that a node seems to have which is to be left: any other is better."""
_MOST_AVOIDED = 16
"""Failing nodes that a pod is kept off: each makes its affinity longer."""


@dataclass
class Pass:
    """One planning pass over one service: what is given, and the steps found so far."""

    service: Service
    revision: str
    pools: Sequence[Pool]
    shapes: Mapping[str, Shape]
    ledger: Ledger
    now: float
    grant: Grant | None = None
    wish: Wish = field(default_factory=Wish)
    zones: Mapping[str, str] = field(default_factory=dict)
    """Of nodes, where that matters."""
    admissions: list[Admission] = field(default_factory=list)
    drains: list[Pod] = field(default_factory=list)
    restores: list[Pod] = field(default_factory=list)
    deletions: dict[str, Pod] = field(default_factory=dict)
    victims: set[str] = field(default_factory=set)
    mispinned: set[str] = field(default_factory=set)
    sets: list[SetPlan] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    """Places that migrations ask for and have not got yet."""

    def most(self, pool: str) -> float:
        """Return how many replicas the service may have in a pool."""
        return math.inf if self.grant is None else self.grant.replicas.get(pool, 0)

    def book(self, pool: Pool) -> str | None:
        """Book the best node of a pool for one more replica, and return it; None where none fits."""
        return self._booked(
            pool, placement.choose(pool, self.shapes[pool.name], self.ledger, wish=self.wish)
        )

    def take_order(self, pool: Pool) -> tuple[Order, str | None] | None:
        """Book the place of the first migration that asks for one in a pool; it asks no more.

        Returns it with its node, which an elastic pool does not tell.
        """
        for order in self.orders:
            if order.pool not in (None, pool.name):
                continue
            node = None if pool.spec.elastic else self._booked(pool, self._ordered(pool, order))
            if node is not None or pool.spec.elastic:
                self.orders.remove(order)
                return order, node
        return None

    def _ordered(self, pool: Pool, order: Order) -> str | None:
        shape = self.shapes[pool.name]
        if order.node is not None:
            fitting = self.ledger.fitting(pool, shape)
            return next((n.name for n, _ in fitting if n.name == order.node), None)
        beside = {**self.wish.beside, order.left or "": _SHUNNED}
        wish = replace(self.wish, beside=beside)
        node = placement.choose(pool, shape, self.ledger, wish=wish)
        # Those come last: where one of them is the best, there is no other.
        return None if node == order.left or node in failing(pool) else node

    def _booked(self, pool: Pool, node: str | None) -> str | None:
        if node is not None:
            self.ledger.book(node, self.shapes[pool.name].need, pool.spec.resource_name)
            self.wish = self.wish.joined(node, self.zones.get(node))
        return node


@dataclass(frozen=True)
class Held:
    """Replicas of a ReplicaSet: those that run or have a node, and those that wait for one."""

    placed: int
    stuck: int
    """Already demanded of the scheduler; gated ones without a node are not, and don't count."""
    stranded: int
    """On nodes that went silent: made again elsewhere without waiting for their eviction."""


def hold(run: Pass) -> dict[str, Held]:
    """Place what waits; return, by pool, what has a place and what doesn't."""
    return {pool.name: _place(run, pool) for pool in run.pools}


def _place(run: Pass, pool: Pool) -> Held:
    live = run.service.live_pods(run.revision, pool.name)
    current = set_of(run, run.revision, pool.name)
    replicas = current.replicas if current else 0
    waiting = [p for p in live if p.gated or p.lost or p.node is None]
    # Those that are admitted already come first to what the service may have here.
    waiting.sort(key=lambda p: p.gated)
    left = run.most(pool.name) - (len(live) - len(waiting))
    homeless = []
    for pod in waiting:
        if (pod.gated and left <= 0) or not _find_node(run, pod, pool):
            homeless.append(pod)
        else:
            left -= 1
    unborn = 0
    for n in range(max(0, replicas - len(live))):
        unborn += n >= left or not _book(run, pool)
    demanded = sum(not p.gated for p in homeless)
    if current and not current.gated:
        demanded += unborn
    # There may be more pods than replicas, while one that left is still known.
    going = sum(p.goes for p in live)
    there = min(replicas, max(replicas, len(live)) - len(homeless) - unborn - going)
    stranded = min(there, sum(p.stranded for p in live))
    return Held(there - stranded, min(demanded, replicas - there), stranded)


def _find_node(run: Pass, pod: Pod, pool: Pool) -> bool:
    """Find room for a pod that waits; admit it when it is gated. Tell whether there is any."""
    if pod.gated and (taken := run.take_order(pool)):
        order, place = taken
        avoid = avoided(pool, order) if place is None else ()
        run.admissions.append(
            Admission(pod, place, order.migration, avoid=avoid, disturbed=order.disturbed)
        )
        return True
    if pool.spec.elastic:
        if pod.gated:
            run.admissions.append(Admission(pod, None))
        return True
    if pod.pinned and not pod.gated and not pod.lost:
        holds = _pin_holds(run, pod.pinned, pool)
        if not holds:
            run.mispinned.add(pod.uid)
        return holds
    node = run.book(pool)
    if node is None:
        return False
    if pod.gated:
        run.admissions.append(Admission(pod, node))
    return True


def failing(pool: Pool) -> tuple[str, ...]:
    """Return the names of a pool's nodes that show signs of failing."""
    return tuple(n.name for n in pool.nodes if n.signs)


def avoided(pool: Pool, order: Order) -> tuple[str, ...]:
    """Return the nodes that a moved pod is kept off where the scheduler chooses.

    They are the one that is left, and those that show signs of failing.
    """
    left = [n.name for n in pool.nodes if n.name == order.left]
    return tuple(dict.fromkeys([*left, *failing(pool)[:_MOST_AVOIDED]]))


def _pin_holds(run: Pass, name: str, pool: Pool) -> bool:
    """Tell whether a pinned node still takes its pod, whose booking the ledger holds already."""
    node = next((n for n in pool.nodes if n.name == name), None)
    if node is None:
        return False
    shape = run.shapes[pool.name]
    free = run.ledger.free(node, pool) + shape.need
    return placement.obstacle(node, shape, free) is None


def _book(run: Pass, pool: Pool) -> bool:
    """Book one more replica in a pool; tell whether it fits."""
    return bool(run.take_order(pool)) or pool.spec.elastic or run.book(pool) is not None


def targets_of(run: Pass, wanted: int, held: Mapping[str, Held]) -> tuple[dict[str, int], int]:
    """Return the target of each pool and how many replicas fit nowhere.

    What is held stays where it is; growth goes to the preferred pool with room. A replica that is
    stuck stays only where no pool has room for it: it is never demanded anew.
    """
    targets = {name: min(h.placed, _whole(run.most(name))) for name, h in held.items()}
    missing = wanted - sum(targets.values())
    for pool in run.pools:
        while missing > 0 and targets[pool.name] < run.most(pool.name) and run.take_order(pool):
            targets[pool.name] += 1
            missing -= 1
    for pool in run.pools:
        while missing > 0 and targets[pool.name] < run.most(pool.name) and _book(run, pool):
            targets[pool.name] += 1
            missing -= 1
    shortage = max(0, missing)
    for pool in run.pools:
        stay = min(held[pool.name].stuck, max(0, missing))
        targets[pool.name] += stay
        missing -= stay
    for name in _cut(run, targets)[: max(0, -missing)]:
        targets[name] -= 1
    return targets, shortage


def _whole(most: float) -> int:
    return sys.maxsize if most == math.inf else int(most)


def _cut(run: Pass, targets: Mapping[str, int]) -> list[str]:
    """Return the pools that replicas leave, the first to go first.

    What serves goes last, wherever it is; among equals the least preferred pool is left first.
    """
    ranked = [
        (worth, -place, pool.name)
        for place, pool in enumerate(run.pools)
        for worth in _worths(run, pool.name, targets[pool.name])
    ]
    return [name for _, _, name in sorted(ranked)]


def _worths(run: Pass, pool: str, count: int) -> list[int]:
    """Return what each of a pool's ``count`` replicas is worth: 0 is not there, 3 serves."""
    live = run.service.live_pods(run.revision, pool)
    known = sorted(map(worth, live), reverse=True)[:count]
    return known + [0] * (count - len(known))


def worth(pod: Pod) -> int:
    if pod.gated or pod.lost or pod.stranded or pod.broken or pod.replaced or pod.goes:
        return 0
    if pod.draining_since is not None:
        return 1
    return 3 if pod.ready else 2


def elsewhere(run: Pass, wanted: int, targets: Mapping[str, int]) -> dict[str, int]:
    """Return the targets of pools that the service may no longer use.

    What answers there goes on until as much answers where it should.
    """
    mine = [s for s in run.service.sets if s.revision == run.revision]
    outside = sorted({s.pool for s in mine} - targets.keys())
    left = max(0, wanted - sum(_answering(run, pool) for pool in targets))
    found = {}
    for pool in outside:
        found[pool] = min(left, _answering(run, pool))
        left -= found[pool]
    return found


def _answering(run: Pass, pool: str) -> int:
    return sum(rollout.answers(p) for p in run.service.live_pods(run.revision, pool))


def set_of(run: Pass, revision: str, pool: str) -> ReplicaSet | None:
    """Return the ReplicaSet of a revision in a pool; the first by name where someone copied it."""
    found = (s for s in run.service.sets if (s.revision, s.pool) == (revision, pool))
    return next(found, None)
