"""From a fleet's services and what scaling wishes for them to claims, and back to grants. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from conch.decisions import replicas
from conch.decisions.fleet import Pod, Pool, Service, Shape
from conch.decisions.placement import Ledger
from conch.decisions.placement.ledger import Workload
from conch.decisions.scaling import ServiceLoad
from conch.decisions.shares import Claim, Grant, Holding, Shares, share
from conch.decisions.shares.measure import Fleet, fleet_of
from conch.decisions.shares.usage import Held
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.tenants import Tenancy


@dataclass(frozen=True)
class Wished:
    """A service, and what scaling wishes for it."""

    facts: ServiceFacts
    replicas: int
    """Within the service's bounds, whatever fits."""
    load_seconds: float
    rates: Mapping[str, float]
    """Items a second of one replica by accelerator, where known."""
    untouchable: bool = False
    """Paused: what it holds is charged, and neither taken nor added to."""


def shared(
    wishes: Sequence[Wished],
    tenancy: Tenancy,
    pools: Sequence[Pool],
    now: float,
    workload: Mapping[str, Workload],
) -> Shares:
    """Return what each service may have; ``now`` in seconds since the epoch.

    ``workload``: what is popular in each pool, so that nodes are chosen as planning chooses them.
    """
    free, leaving = _soon(wishes, pools, Ledger(by_pool=workload))
    claims = [_claim(wish, tenancy) for wish in wishes]
    tenants = tenancy.tenants(_young(wishes, pools, now))
    return share(tenants, claims, pools, free=free, now=now, leaving=leaving)


def bound(load: ServiceLoad, grant: Grant | None) -> ServiceLoad:
    """Return the load with no more room than the service may have, where it could have no more.

    ``grant`` is the last one: what the scaler is told is a tick old.
    """
    if grant is None or grant.reason is None:
        return load
    pools = tuple(
        replace(p, room=min(p.room, max(0, grant.replicas.get(p.pool, 0) - p.held)))
        for p in load.pools
    )
    return replace(load, pools=pools)


def holdings(wishes: Iterable[Wished], pools: Iterable[Pool]) -> Mapping[str, list[Held]]:
    """Return what the pods of each namespace hold, for the books."""
    by_name = {p.name: p for p in pools}
    fleet, found = fleet_of(by_name.values()), defaultdict[str, list[Held]](list)
    for wish in wishes:
        shapes = wish.facts.shapes
        each = {n: _held(fleet, by_name[n], s) for n, s in shapes.items() if n in by_name}
        pods = [p for p in wish.facts.service.pods if p.pool in each and _charged(p)]
        if pods:
            found[wish.facts.key.namespace] += [each[p.pool] for p in pods]
    return found


def _held(fleet: Fleet, pool: Pool, shape: Shape) -> Held:
    """Return what a replica holds in a pool."""
    return Held(
        accelerator=pool.spec.accelerator,
        gpus=pool.gpus_of(shape.need.gpus),
        charge=fleet.charge(shape, pool),
        price=pool.spec.price_per_gpu_hour or 0.0,
    )


def _charged(pod: Pod) -> bool:
    """Tell whether a pod takes place on a node: while it starts and while it drains too."""
    gone = pod.lost or pod.over or pod.gated
    return not gone and (pod.node or pod.pinned) is not None


def _stays(pod: Pod) -> bool:
    """Tell whether a pod holds its place, and is not giving it back."""
    return not (pod.deleting or pod.lost or pod.stranded or pod.gated or pod.draining_since)


def _claim(wish: Wished, tenancy: Tenancy) -> Claim:
    facts, service = wish.facts, wish.facts.service
    revision = service.revision or service.serving_revision
    there = {p.name: p for p in facts.pools}
    held, surplus = list[Holding](), list[Holding]()
    for pod in service.pods:
        pool = there.get(pod.pool)
        if not _stays(pod) or pod.pool not in facts.shapes or pool is None:
            continue
        place = pod.node or pod.pinned
        if place is None and not pool.spec.elastic:
            continue
        mine = pod.revision == revision and not wish.untouchable
        holding = Holding(pod.uid, pod.pool, place, pod.created, worth=3 if pod.ready else 2)
        (held if mine else surplus).append(holding)
    placement = facts.spec.placement
    return Claim(
        key=facts.key,
        tenant=tenancy.of(facts.key.namespace),
        wished=0 if wish.untouchable else wish.replicas,
        pools=tuple(there),
        shapes=facts.shapes,
        rates={
            p.name: wish.rates[p.spec.accelerator]
            for p in facts.pools
            if p.spec.accelerator in wish.rates
        },
        indifferent=not placement.accelerators and not placement.pools,
        held=tuple(held),
        surplus=tuple(surplus),
        begun={} if wish.untouchable else _begun(service, revision),
        priority=tenancy.priority(facts.key.namespace, facts.spec.priority),
        created=facts.body["metadata"]["creationTimestamp"],
        load_seconds=wish.load_seconds,
    )


def _begun(service: Service, revision: str | None) -> Mapping[str, int]:
    """Return, by pool, the replicas that a revision's ReplicaSets ask for and no pod is admitted for."""
    admitted = Counter(
        p.pool for p in service.pods if p.revision == revision and not p.gated and not p.deleting
    )
    asked = {s.pool: s.replicas for s in service.sets if s.revision == revision}
    return {pool: n - admitted[pool] for pool, n in asked.items() if n > admitted[pool]}


def _soon(
    wishes: Iterable[Wished], pools: Iterable[Pool], ledger: Ledger
) -> tuple[Ledger, Mapping[str, float]]:
    """Return what is free once everything that leaves has left, and the GPUs that leave, by pool.

    ``ledger`` has no bookings yet.
    """
    by_name = {p.name: p for p in pools}
    nodes = {p.name: {n.name for n in p.nodes} for p in by_name.values()}
    leaving: dict[str, float] = defaultdict(float)
    for wish in wishes:
        facts = wish.facts
        replicas.book_admitted(facts.service, facts.pools, facts.shapes, ledger)
        for pod in facts.service.pods:
            shape = facts.shapes.get(pod.pool)
            if shape is None or pod.node is None or pod.node not in nodes.get(pod.pool, ()):
                continue
            if not pod.over and (pod.deleting or pod.draining_since is not None):
                pool = by_name[pod.pool]
                ledger.release(pod.node, shape.need, pool.spec.resource_name)
                leaving[pod.pool] += pool.gpus_of(shape.need.gpus)
    return ledger, leaving


def _young(
    wishes: Iterable[Wished], pools: Iterable[Pool], now: float
) -> Mapping[str, list[tuple[float, float, float]]]:
    """Return charge, age and load time of the replicas of each namespace that still start."""
    by_name = {p.name: p for p in pools}
    fleet = fleet_of(by_name.values())
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for wish in wishes:
        facts = wish.facts
        for pod in facts.service.pods:
            age = now - pod.created
            pool, shape = by_name.get(pod.pool), facts.shapes.get(pod.pool)
            if age < wish.load_seconds and pool and shape and _charged(pod):
                charge = fleet.charge(shape, pool)
                found[facts.key.namespace].append((charge, age, wish.load_seconds))
    return found
