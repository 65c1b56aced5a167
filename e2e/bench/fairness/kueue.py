"""Kueue's fair sharing in a flat cohort, from its sources.

Each tenant is a ClusterQueue with its slice by weight as nominal quota, all in one cohort, with
``reclaimWithinCohort: Any``, BestEffortFIFO, fair sharing by the tenants' weights and the one
preemption strategy LessThanOrEqualToFinalShare (rule S2-a of keps/1714-fair-sharing). Each replica
is a Workload, as of Kueue's integration of Deployments. Followed: the order of a cycle (pkg/scheduler
fair-sharing iterator: of the heads of the queues, the one whose share would be least goes first),
the share (pkg/cache: borrowed ÷ lendable ÷ weight), the choice of victims
(pkg/scheduler/preemption/preemption.go, ``fairPreemptions`` with ``fillBackWorkloads``) and their
order (preemption/common/ordering.go: admitted last, preempted first). Left out: priorities, of
which there is one, and more than one flavor. A node must have room too, as topology-aware
scheduling demands. Cycles follow each other until one changes nothing, since one takes milliseconds;
who is preempted leaves at once.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from e2e.bench.fairness.entitlement import slices
from e2e.bench.fairness.scene import Plan, Replica, Scene, Start, Wish


def kueue(scene: Scene) -> Plan:
    """Return what Kueue admits and preempts."""
    return _Pass(scene).plan()


@dataclass(slots=True)
class _Cohort:
    """Quotas and what is used of them: what a share is computed from."""

    nominal: Mapping[str, int]
    weights: Mapping[str, float]
    used: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.used = dict.fromkeys(self.nominal, 0)

    def share(self, tenant: str, more: int = 0) -> float:
        """Return the share of a tenant: 0 within its quota."""
        borrowed = self.used[tenant] + more - self.nominal[tenant]
        return max(0.0, borrowed / sum(self.nominal.values()) / self.weights[tenant])


class _Pass:
    """Cycles of the scheduler on one scene."""

    def __init__(self, scene: Scene) -> None:
        self._cohort = _Cohort(slices(scene.weights, scene.capacity), scene.weights)
        self._running = {r.id: r for r in scene.replicas()}
        self._nodes = scene.free()
        for replica in self._running.values():
            self._cohort.used[replica.tenant] += replica.gpus
        self._queues: dict[str, list[Wish]] = {tenant: [] for tenant in scene.weights}
        for wish in scene.wishes:
            self._queues[wish.work.tenant].extend([wish] * wish.waiting)
        self._starts: list[Start] = []
        self._stops: set[str] = set()

    def plan(self) -> Plan:
        """Run cycles until every head has been admitted or set aside."""
        while any(self._queues.values()):
            heads = {tenant: queue.pop(0) for tenant, queue in self._queues.items() if queue}
            while heads:
                tenant = min(heads, key=self._order(heads))
                head = heads.pop(tenant)
                if not self._admit(head):
                    self._set_aside(head)
        return Plan(self._starts, frozenset(self._stops))

    def _order(self, heads: Mapping[str, Wish]) -> Callable[[str], tuple[float, float, str]]:
        def order(tenant: str) -> tuple[float, float, str]:
            head = heads[tenant].work
            return self._cohort.share(tenant, head.gpus), head.arrived, tenant

        return order

    def _set_aside(self, head: Wish) -> None:
        """Its equals can't be admitted either: not before something changes."""
        queue = self._queues[head.work.tenant]
        queue[:] = [w for w in queue if w.work.gpus != head.work.gpus]

    def _admit(self, head: Wish) -> bool:
        work = head.work
        if self._nodes.fit(work.gpus) is None:
            targets = self._targets(work.tenant, work.gpus)
            if targets is None:
                return False
            for target in targets:
                self._remove(target)
                self._stops.add(target.id)
                del self._running[target.id]
        node = self._nodes.take(work.gpus)
        assert node is not None
        self._cohort.used[work.tenant] += work.gpus
        self._starts.append(Start(work.name, node))
        return True

    def _targets(self, tenant: str, gpus: int) -> list[Replica] | None:
        """Return whom to preempt so that a replica fits, as few as can be; None where that fails."""
        new_share = self._cohort.share(tenant, gpus)
        candidates = _by_tenant(r for r in self._running.values() if r.tenant != tenant)
        targets: list[Replica] = []
        while (owner := self._most_borrowing(candidates)) is not None:
            target = candidates[owner].pop(0)
            if new_share > self._cohort.share(owner, -target.gpus):
                continue  # rule S2-a
            self._remove(target)
            targets.append(target)
            if self._nodes.fit(gpus) is not None:
                return self._fill_back(targets, gpus)
        for target in targets:
            self._add(target)
        return None

    def _most_borrowing(self, candidates: Mapping[str, list[Replica]]) -> str | None:
        borrowing = [t for t, some in candidates.items() if some and self._cohort.share(t) > 0]
        return min(borrowing, key=lambda t: (-self._cohort.share(t), t), default=None)

    def _fill_back(self, targets: list[Replica], gpus: int) -> list[Replica]:
        """Return who has to leave indeed: in reverse, whoever may stay does. Everybody is put back."""
        needed = [targets[-1]]
        for target in reversed(targets[:-1]):
            self._add(target)
            if self._nodes.fit(gpus) is None:
                self._remove(target)
                needed.append(target)
        for target in needed:
            self._add(target)
        return needed

    def _remove(self, replica: Replica) -> None:
        self._nodes.free[replica.node] += replica.gpus
        self._cohort.used[replica.tenant] -= replica.gpus

    def _add(self, replica: Replica) -> None:
        self._nodes.free[replica.node] -= replica.gpus
        self._cohort.used[replica.tenant] += replica.gpus


def _by_tenant(replicas: Iterable[Replica]) -> dict[str, list[Replica]]:
    """Return the replicas of each tenant, those admitted last in front."""
    found: dict[str, list[Replica]] = {}
    for replica in sorted(replicas, key=lambda r: (-r.started, r.id)):
        found.setdefault(replica.tenant, []).append(replica)
    return found
