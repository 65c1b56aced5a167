"""From a wished number of replicas to the next safe step of each ReplicaSet and pod.

Everything is absolute and level-triggered: the same facts give the same step, whatever happened
before, so that a crash between two steps changes nothing. One step at a time:

grow    gate the template and raise replicas in one write; place each gated pod; ungate.
shrink  drain the chosen pod; with the template gated, delete it by UID; once its gated
        replacement is there, lower replicas, which takes exactly that one; ungate.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from conch.api.names import LABEL_ZONE
from conch.decisions import placement, rollout, trial
from conch.decisions.fleet import Pod, Pool, ReplicaSet, Service, Shape
from conch.decisions.migrating import Order
from conch.decisions.placement import Ledger, Wish
from conch.decisions.places import Held, Pass, elsewhere, hold, set_of, targets_of, worth
from conch.decisions.rolling import Course
from conch.decisions.shares import Grant
from conch.decisions.steps import Plan, SetPlan

DRAIN_SETTLE_S = 3.0
"""Between the traffic label's removal and the deletion: kube-proxy on every node has dropped the
pod by then. Requests in flight are covered by the pod's own grace period."""


def plan(
    service: Service,
    wanted: int,
    *,
    pools: Sequence[Pool],
    shapes: Mapping[str, Shape],
    ledger: Ledger,
    now: float,
    grant: Grant | None = None,
    wish: Wish | None = None,
    orders: Sequence[Order] = (),
    course: Course | None = None,
    trial_shapes: Mapping[str, Shape] | None = None,
) -> Plan:
    """Return the next step towards ``wanted`` replicas of the service.

    ``pools`` in order of preference; ``shapes`` by pool name. Bookings go into ``ledger``, so that
    services planned later see what is left. ``now`` is in seconds since the epoch. ``grant`` is what
    the service may have of each pool, and the pods that others get the place of; None is no bound.
    ``wish`` tells of nodes that are better or worse for it, besides those where it runs already, and
    ``orders`` of the places that migrations ask for. ``course``: how a new revision takes over; None is
    as soon as it can. ``trial_shapes``: the shapes of a revision on trial.
    """
    revision = service.revision or service.serving_revision
    if revision is None:
        return Plan()
    zones = _zones(pools) if service.spec.scaling.standby else {}
    wish = _beside(wish or Wish(), service, zones)
    run = Pass(_in_order(service), revision, pools, shapes, ledger, now, grant, wish, zones)
    run.orders += orders
    course = course or Course()
    beside, given = _on_trial(run, course, trial_shapes or {}), 0
    if beside is not None:
        given = wanted - _make_way(run, beside, wanted, course)
        wanted -= given
    held = hold(run)
    targets, shortage = targets_of(run, wanted, held)
    targets |= elsewhere(run, wanted, targets)
    granted = sum(targets[p.name] for p in pools)
    # What is granted and not free yet comes free by itself: nothing has to be given up for it.
    beyond = grant is None or grant.total < wanted
    # Of a last one that goes, the place is granted before it is free.
    short = shortage > 0 and (beyond or course.swap) and not course.whole
    # Where shares are the reason, it is told by the grant.
    told = grant is not None and grant.reason is not None
    unplaced = pools if shortage + given and not told else ()
    obstacles = tuple(placement.explain(p, shapes[p.name], ledger) for p in unplaced)
    serving = rollout.promotion(
        run.service, revision, granted=granted, short=short, held=course.hold
    )
    old = rollout.old_targets(
        run.service, revision, wanted=wanted, granted=granted, short=short, last=course.swap
    )
    _steps(run, held, targets)
    for (name, pool), target in old.items():
        if name != service.trial:
            _step(run, name, pool, target)
    if beside is not None:
        _try(beside, course.trial or 0, trial.left(grant, targets))
    found = _finished(run, serving, shortage + given, obstacles)
    new = service.newer or revision
    if course.percent and serving != new and rollout.ready(run.service, new):
        return replace(found, canary=(new, course.percent))
    return found


def _steps(run: Pass, held: Mapping[str, Held], targets: Mapping[str, int]) -> None:
    """Add the next step of each ReplicaSet of a pass's revision."""
    for name, target in targets.items():
        # What is stranded stays beside its replacement: it is evicted, or its node returns.
        stranded = held[name].stranded if name in held else 0
        _step(run, run.revision, name, target + stranded)


def _on_trial(run: Pass, course: Course, shapes: Mapping[str, Shape]) -> Pass | None:
    """Return the pass over the revision on trial, whose steps are the other's too; None without one."""
    revision = run.service.trial
    if revision is None or course.trial is None:
        return None
    return replace(run, revision=revision, shapes={**run.shapes, **shapes}, orders=[])


def _make_way(run: Pass, beside: Pass, wanted: int, course: Course) -> int:
    """Leave the other revision what is on trial; return with how many replicas to go on."""
    grant, count = run.grant, course.trial or 0
    run.grant = trial.left(grant, trial.placed(run.service, beside.revision, grant))
    if course.whole:
        return wanted
    return trial.stays(
        run.service,
        wanted,
        count,
        pools=run.pools,
        shapes=beside.shapes,
        ledger=run.ledger,
        grant=grant,
    )


def _try(beside: Pass, count: int, grant: Grant | None) -> None:
    """Add the next steps of a revision on trial, of which ``count`` replicas are to be there."""
    beside.grant = grant
    held = hold(beside)
    targets, _ = targets_of(beside, count, held)
    _steps(beside, held, targets | elsewhere(beside, count, targets))


def _zones(pools: Sequence[Pool]) -> dict[str, str]:
    """Return the zone of each node that is in one."""
    nodes = (n for pool in pools for n in pool.nodes)
    return {n.name: n.labels[LABEL_ZONE] for n in nodes if LABEL_ZONE in n.labels}


def _beside(wish: Wish, service: Service, zones: Mapping[str, str]) -> Wish:
    """Return the wish with the nodes and zones where replicas run and stay."""
    stay = (p for p in service.pods if p.draining_since is None and not p.deleting)
    nodes = Counter(p.node for p in stay if p.node is not None)
    near: Counter[str] = Counter()
    for node, count in nodes.items():
        if node in zones:
            near[zones[node]] += count
    apart = service.spec.scaling.standby > 0
    return replace(wish, beside=dict(nodes), zones=dict(near), apart=apart)


def _in_order(service: Service) -> Service:
    """Return the service with its parts in one order, so that ties break the same way."""
    return replace(
        service,
        sets=tuple(sorted(service.sets, key=lambda s: (s.revision, s.pool, s.name))),
        pods=tuple(sorted(service.pods, key=lambda p: p.name)),
    )


def book_admitted(
    service: Service, pools: Sequence[Pool], shapes: Mapping[str, Shape], ledger: Ledger
) -> None:
    """Book the nodes of pods that are pinned and not bound yet: no node counts them."""
    if not service.admitted:
        return
    there = {p.name: p.spec.resource_name for p in pools}
    for pod in service.admitted:
        if pod.pinned and pod.pool in there and pod.pool in shapes:
            ledger.book(pod.pinned, shapes[pod.pool].need, there[pod.pool])


def all_placed(service: Service) -> bool:
    """Tell whether no replica of a service needs a node: planning it books nothing."""
    pods = [p for p in service.pods if not p.deleting]
    placed = all(p.node is not None and not p.lost and not p.stranded for p in pods)
    return placed and sum(s.replicas for s in service.sets) <= len(pods)


def _finished(run: Pass, serving: str, shortage: int, obstacles: tuple[str, ...]) -> Plan:
    service = run.service
    retired = tuple(
        s
        for s in service.sets
        if s.revision not in (run.revision, serving, service.serving_revision, service.trial)
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


def _step(run: Pass, revision: str, pool: str, target: int) -> None:
    """Add the next step of one ReplicaSet."""
    current = set_of(run, revision, pool)
    live = run.service.live_pods(revision, pool)
    if current is None:
        if target > 0:
            run.sets.append(SetPlan(revision, pool, target, gated=True, target=target))
        return
    victims = _victims(run, live, len(live) - target)
    run.victims |= {p.uid for p in victims}
    _restore(run, live, victims)
    misplaced = _retract(run, current, live)
    _let_go(run, current, live, victims)
    replicas = target if target >= current.replicas else _lowered(current, live, target)
    unsettled = current.gated and not _settled(current, live)
    gate = target != current.replicas or bool(victims) or unsettled or misplaced
    run.sets.append(SetPlan(revision, pool, replicas, gated=gate, target=target))


def _lowered(current: ReplicaSet, live: Sequence[Pod], target: int) -> int:
    """Return how far replicas may be lowered now, so that only gated pods leave.

    Never below the pods that are not gated: some of the gated ones may be gone already, and their
    deletion not heard of yet. And only by the gated ones: a pod that is missing may still stand in
    the controller's books, and it would take another for it. Where the API server refuses pods,
    its controller has counted and found them missing.
    """
    if not current.observed:
        return current.replicas
    placed = sum(not p.gated for p in live)
    floor = placed if current.refusal else max(placed, current.replicas - len(live) + placed)
    return max(target, min(floor, current.replicas))


def _settled(current: ReplicaSet, live: Sequence[Pod]) -> bool:
    """Tell whether every replica exists and is where it was placed, so that the gate may go.

    One that the scheduler may place anywhere needs no gate to wait for that, and one that the API
    server refuses may be long in coming.
    """
    return (
        current.observed
        and (len(live) == current.replicas or current.refusal is not None)
        and all(not p.gated and (p.node is not None or not p.pinned) for p in live)
    )


def _victims(run: Pass, live: Sequence[Pod], count: int) -> tuple[Pod, ...]:
    """Return the pods to give up.

    Gated ones first, those without a place before the others, then those whose place others get,
    then those that drain already, then the newest that still starts, then the newest that serves.
    """
    admitted = {a.pod.uid for a in run.admissions}
    given_up = run.grant.given_up if run.grant else frozenset()

    def rank(pod: Pod) -> tuple[bool, bool, bool, bool, int, float, str]:
        stays = pod.uid not in given_up
        waits, place = pod.node is None, pod.uid in admitted
        return (not pod.gated, place, stays, not waits, worth(pod), -pod.created, pod.name)

    return tuple(sorted(live, key=rank)[: max(0, count)])


def _let_go(run: Pass, current: ReplicaSet, live: Sequence[Pod], victims: Sequence[Pod]) -> None:
    """Drain the victims that serve, and delete those that are drained or never served.

    Nothing is deleted while a replica is missing: the one that replaces it may be the one to go.
    """
    for pod in victims:
        if pod.gated:
            continue
        if pod.ready and pod.serving:
            run.drains.append(pod)
            run.waits.append(DRAIN_SETTLE_S)
            continue
        left = _seconds_to_go(run, pod)
        if left > 0:
            run.waits.append(left)
        elif current.gated and current.observed and len(live) >= current.replicas:
            run.deletions[pod.uid] = pod


def _seconds_to_go(run: Pass, pod: Pod) -> float:
    """Return after which time (s) a pod without traffic may go, should nothing be heard meanwhile.

    The front door tells when the last request is answered. One that never ends, or of which nobody
    tells, holds a pod up for spec.scaling.drainTimeout at most.
    """
    since = pod.draining_since or 0.0
    timeout = run.service.spec.scaling.seconds("drain_timeout") if pod.in_flight != 0 else 0.0
    return max(DRAIN_SETTLE_S, timeout) - (run.now - since)


def _restore(run: Pass, live: Sequence[Pod], victims: Sequence[Pod]) -> None:
    """Give traffic to pods that are warm, and back to those that Conch drained and that may stay."""
    stays = (p for p in live if p not in victims)
    run.restores.extend(p for p in stays if p.warm or p.draining_since is not None)


def _retract(run: Pass, current: ReplicaSet, live: Sequence[Pod]) -> bool:
    """Delete misplaced pods once their replacements are sure to be gated; tell if there are any."""
    misplaced = [p for p in live if _misplaced(run, p)]
    if current.gated and current.observed:
        run.deletions |= {p.uid: p for p in misplaced}
    return bool(misplaced)


def _misplaced(run: Pass, pod: Pod) -> bool:
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
