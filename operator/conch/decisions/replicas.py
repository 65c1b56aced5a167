"""From a wished number of replicas to the next safe step of each ReplicaSet and pod.

Everything is absolute and level-triggered: the same facts give the same step, whatever happened
before, so that a crash between two steps changes nothing. One step at a time:

grow    gate the template and raise replicas in one write; place each gated pod; ungate.
shrink  drain the chosen pod; with the template gated, delete it by UID; once its gated
        replacement is there, lower replicas, which takes exactly that one; ungate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from conch.decisions import placement
from conch.decisions.fleet import Pod, Pool, ReplicaSet, Service, Shape
from conch.decisions.placement import Ledger

DRAIN_SETTLE_S = 3.0
"""Between the traffic label's removal and the deletion: kube-proxy on every node has dropped the
pod by then. Requests in flight are covered by the pod's own grace period."""


@dataclass(frozen=True)
class SetPlan:
    """What a ReplicaSet should say now."""

    revision: str
    pool: str
    replicas: int
    gated: bool
    target: int
    """Where it is heading; differs from replicas while it shrinks."""


@dataclass(frozen=True)
class Admission:
    """Lift the gate of a pod; pin it unless the pool is elastic."""

    pod: Pod
    node: str | None


@dataclass(frozen=True)
class Plan:
    """The next step of one service."""

    sets: tuple[SetPlan, ...] = ()
    retired: tuple[ReplicaSet, ...] = ()
    """ReplicaSets of revisions that are over, empty by now."""
    admissions: tuple[Admission, ...] = ()
    drains: tuple[Pod, ...] = ()
    restores: tuple[Pod, ...] = ()
    deletions: tuple[Pod, ...] = ()
    serving_revision: str | None = None
    shortage: int = 0
    """Replicas that are wished for but fit nowhere."""
    obstacles: tuple[str, ...] = ()
    """Why, pool by pool, where there is a shortage."""
    wake_after: float | None = None
    """Seconds after which the next step is due, when time alone makes it due."""


@dataclass
class _Pass:
    """One planning pass over one service: what is given, and the steps found so far."""

    service: Service
    revision: str
    pools: Sequence[Pool]
    shapes: Mapping[str, Shape]
    ledger: Ledger
    now: float
    admissions: list[Admission] = field(default_factory=list)
    drains: list[Pod] = field(default_factory=list)
    restores: list[Pod] = field(default_factory=list)
    deletions: dict[str, Pod] = field(default_factory=dict)
    victims: set[str] = field(default_factory=set)
    mispinned: set[str] = field(default_factory=set)
    sets: list[SetPlan] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)


def plan(
    service: Service,
    wanted: int,
    *,
    pools: Sequence[Pool],
    shapes: Mapping[str, Shape],
    ledger: Ledger,
    now: float,
) -> Plan:
    """Return the next step towards ``wanted`` replicas of the service.

    ``pools`` in order of preference; ``shapes`` by pool name. Bookings go into ``ledger``, so that
    services planned later see what is left. ``now`` is in seconds since the epoch.
    """
    revision = service.revision or service.serving_revision
    if revision is None:
        return Plan()
    run = _Pass(service, revision, pools, shapes, ledger, now)
    held, stuck = _placed(run)
    targets, shortage = _targets(run, wanted, held, stuck)
    obstacles = tuple(placement.explain(p, shapes[p.name], ledger) for p in pools)
    serving = _promotion(service, revision, granted=sum(targets.values()), short=shortage > 0)
    for name, target in _all_targets(service, revision, targets).items():
        _step(run, revision, name, target)
    for old in service.sets:
        if old.revision != revision:
            target = _old_target(run, old, sum(targets.values()), short=shortage > 0)
            _step(run, old.revision, old.pool, target)
    return _finished(run, serving, shortage, obstacles if shortage else ())


def _all_targets(service: Service, revision: str, targets: Mapping[str, int]) -> dict[str, int]:
    """Return the targets of all pools; those that the service may no longer use get none."""
    outside = {s.pool for s in service.sets if s.revision == revision} - targets.keys()
    return {**targets, **dict.fromkeys(sorted(outside), 0)}


def _finished(run: _Pass, serving: str, shortage: int, obstacles: tuple[str, ...]) -> Plan:
    service = run.service
    retired = tuple(
        s
        for s in service.sets
        if s.revision not in (run.revision, serving, service.serving_revision)
        and s.replicas == 0
        and not any(p.revision == s.revision and p.pool == s.pool for p in service.pods)
    )
    gone = {(s.revision, s.pool) for s in retired}
    return Plan(
        sets=tuple(s for s in run.sets if (s.revision, s.pool) not in gone),
        retired=retired,
        admissions=tuple(a for a in run.admissions if a.pod.uid not in run.victims),
        drains=tuple(run.drains),
        restores=tuple(run.restores),
        deletions=tuple(run.deletions.values()),
        serving_revision=serving,
        shortage=shortage,
        obstacles=obstacles,
        wake_after=min(run.waits, default=None),
    )


def _placed(run: _Pass) -> tuple[dict[str, int], dict[str, int]]:
    """Place what waits; return, by pool, the replicas that run or have a node, and the others."""
    held: dict[str, int] = {}
    stuck: dict[str, int] = {}
    for pool in run.pools:
        live = run.service.live_pods(run.revision, pool.name)
        replicas = _replicas(run.service, run.revision, pool.name)
        waiting = [p for p in live if p.gated or p.lost or (p.node is None and p.unschedulable)]
        unborn = max(0, replicas - len(live))
        lost = sum(not _find_node(run, pod, pool) for pod in waiting)
        lost += sum(not _book(run, pool) for _ in range(unborn))
        stuck[pool.name] = min(lost, replicas)
        held[pool.name] = replicas - stuck[pool.name]
    return held, stuck


def _find_node(run: _Pass, pod: Pod, pool: Pool) -> bool:
    """Find room for a pod that waits; admit it when it is gated. Tell whether there is any."""
    shape = run.shapes[pool.name]
    if pool.spec.elastic:
        if pod.gated:
            run.admissions.append(Admission(pod, None))
        return True
    if pod.pinned and not pod.gated and not pod.lost:
        holds = _pin_holds(run, pod.pinned, pool)
        if not holds:
            run.mispinned.add(pod.uid)
        return holds
    node = placement.choose(pool, shape, run.ledger)
    if node is None:
        return False
    run.ledger.book(node, shape.need)
    if pod.gated:
        run.admissions.append(Admission(pod, node))
    return True


def _pin_holds(run: _Pass, name: str, pool: Pool) -> bool:
    """Tell whether a pinned node still takes its pod, whose booking the ledger holds already."""
    node = next((n for n in pool.nodes if n.name == name), None)
    if node is None:
        return False
    shape = run.shapes[pool.name]
    free = run.ledger.free(node, pool) + shape.need
    return placement.obstacle(node, shape, free) is None


def _book(run: _Pass, pool: Pool) -> bool:
    """Book one more replica in a pool; tell whether it fits."""
    if pool.spec.elastic:
        return True
    shape = run.shapes[pool.name]
    node = placement.choose(pool, shape, run.ledger)
    if node is not None:
        run.ledger.book(node, shape.need)
    return node is not None


def _targets(
    run: _Pass, wanted: int, held: Mapping[str, int], stuck: Mapping[str, int]
) -> tuple[dict[str, int], int]:
    """Return the target of each pool and how many replicas fit nowhere.

    What is held stays where it is; growth goes to the preferred pool with room; what shrinks
    leaves the least preferred pool first. A replica that is stuck stays only where no pool has
    room for it: it is never demanded anew.
    """
    targets = dict(held)
    missing = wanted - sum(held.values())
    for pool in run.pools:
        while missing > 0 and _book(run, pool):
            targets[pool.name] += 1
            missing -= 1
    shortage = max(0, missing)
    for pool in run.pools:
        stay = min(stuck[pool.name], max(0, missing))
        targets[pool.name] += stay
        missing -= stay
    for pool in reversed(run.pools):
        cut = min(max(0, -missing), targets[pool.name])
        targets[pool.name] -= cut
        missing += cut
    return targets, shortage


def _ready(service: Service, revision: str) -> int:
    """Return how many replicas of a revision answer."""
    return sum(p.ready and p.revision == revision and not p.deleting for p in service.pods)


def _promotion(service: Service, revision: str, *, granted: int, short: bool) -> str:
    """Return the revision that should get the traffic.

    The new one takes over once it is ready as far as it was granted, and where GPUs are short once
    it is half of what is ready; or when the old one answers nothing anyway.
    """
    old = service.serving_revision
    if old is None or old == revision:
        return revision
    ready_new, ready_old = _ready(service, revision), _ready(service, old)
    complete = ready_new >= max(1, granted) and (not short or ready_new >= ready_old)
    return revision if ready_old == 0 or complete else old


def _old_target(run: _Pass, old: ReplicaSet, granted: int, *, short: bool) -> int:
    """Return the target of an old revision's ReplicaSet: all of it until the new one took over.

    Where GPUs are short, it gives one replica's place after the other to the new revision, never
    the last.
    """
    service = run.service
    if old.revision != service.serving_revision:
        return 0
    ready_new, ready_old = _ready(service, run.revision), _ready(service, old.revision)
    largest = max(
        (s for s in service.sets if s.revision == old.revision), key=lambda s: (s.replicas, s.name)
    )
    gives = short and ready_new >= granted and ready_old > max(1, ready_new)
    return old.replicas - 1 if gives and old == largest else old.replicas


def _replicas(service: Service, revision: str, pool: str) -> int:
    return sum(s.replicas for s in service.sets if (s.revision, s.pool) == (revision, pool))


def _step(run: _Pass, revision: str, pool: str, target: int) -> None:
    """Add the next step of one ReplicaSet."""
    found = [s for s in run.service.sets if (s.revision, s.pool) == (revision, pool)]
    live = run.service.live_pods(revision, pool)
    if not found:
        if target > 0:
            run.sets.append(SetPlan(revision, pool, target, gated=True, target=target))
        return
    (current,) = found
    victims = _victims(live, current.replicas - target)
    run.victims |= {p.uid for p in victims}
    _restore(run, live, victims)
    misplaced = _retract(run, current, live)
    replicas = target
    if target < current.replicas:
        _let_go(run, current, victims)
        gated = sum(p.gated for p in live)
        replicas = max(target, current.replicas - gated) if current.observed else current.replicas
    unsettled = current.gated and not _settled(current, live)
    gate = target != current.replicas or unsettled or misplaced
    run.sets.append(SetPlan(revision, pool, replicas, gated=gate, target=target))


def _settled(current: ReplicaSet, live: Sequence[Pod]) -> bool:
    """Tell whether every replica exists and has a node, so that the gate may go."""
    return (
        current.observed
        and len(live) == current.replicas
        and all(not p.gated and p.node is not None for p in live)
    )


def _victims(live: Sequence[Pod], count: int) -> tuple[Pod, ...]:
    """Return the pods to give up.

    Gated ones first, then those that drain already, then the newest that still starts, then the
    newest that serves.
    """

    def rank(pod: Pod) -> tuple[bool, bool, bool, float, str]:
        return (
            not pod.gated,
            pod.draining_since is None,
            pod.ready and pod.node is not None,
            -pod.created,
            pod.name,
        )

    return tuple(sorted(live, key=rank)[: max(0, count)])


def _let_go(run: _Pass, current: ReplicaSet, victims: Sequence[Pod]) -> None:
    """Drain the victims that serve, and delete those that are drained or never served."""
    for pod in victims:
        if pod.gated:
            continue
        if pod.ready and pod.serving:
            run.drains.append(pod)
            run.waits.append(DRAIN_SETTLE_S)
            continue
        left = DRAIN_SETTLE_S - (run.now - (pod.draining_since or 0.0))
        if left > 0:
            run.waits.append(left)
        elif current.gated and current.observed:
            run.deletions[pod.uid] = pod


def _restore(run: _Pass, live: Sequence[Pod], victims: Sequence[Pod]) -> None:
    """Give traffic back to pods that Conch drained and that may stay after all."""
    run.restores.extend(p for p in live if p.draining_since is not None and p not in victims)


def _retract(run: _Pass, current: ReplicaSet, live: Sequence[Pod]) -> bool:
    """Delete misplaced pods once their replacements are sure to be gated; tell if there are any."""
    misplaced = [p for p in live if _misplaced(run, p)]
    if current.gated and current.observed:
        run.deletions |= {p.uid: p for p in misplaced}
    return bool(misplaced)


def _misplaced(run: _Pass, pod: Pod) -> bool:
    """Tell whether a pod's node is gone, or it was pinned to a node that does not take it.

    Where the books say so too it goes at once; where only the scheduler says so, after the pending
    time-out, so that a refusal that Conch can't see doesn't turn into a busy loop.
    """
    if pod.lost:
        return True
    if pod.gated or pod.node is not None or not pod.pinned or not pod.unschedulable:
        return False
    patience = run.service.spec.scaling.seconds("pending_timeout")
    return pod.uid in run.mispinned or run.now - pod.created >= patience
