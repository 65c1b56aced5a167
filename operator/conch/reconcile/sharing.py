"""From a fleet's services and what scaling wishes for them to claims, and back to grants. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from conch.decisions import replicas
from conch.decisions.fleet import Pod, Pool, Service, ServiceKey, Shape
from conch.decisions.migrating import Order
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
    orders: tuple[Order, ...] = ()
    """Places that its migrations ask for."""
    untouchable: bool = False
    """Paused: what it holds is charged, and neither taken nor added to."""


def shared(
    wishes: Sequence[Wished],
    tenancy: Tenancy,
    pools: Sequence[Pool],
    now: float,
    *,
    workload: Mapping[str, Workload],
    known: "Claims | None" = None,
) -> Shares:
    """Return what each service may have; ``now`` in seconds since the epoch.

    ``workload``: what is popular in each pool, so that nodes are chosen as planning chooses them.
    ``known``: the claims of the last pass, which spare some of the work.
    """
    free, leaving = _soon(wishes, pools, Ledger(by_pool=workload))
    claims = (known or Claims()).of(wishes, tenancy)
    fleet = fleet_of(pools)
    tenants = tenancy.tenants(_young(wishes, pools, fleet, now))
    return share(tenants, claims, pools, free=free, now=now, leaving=leaving, fleet=fleet)


def bound(load: ServiceLoad, grant: Grant | None) -> ServiceLoad:
    """Return the load with no more room than the service may have, where it could have no more.

    ``grant`` is the last one: what the scaler is told is a tick old.
    """
    if grant is None or grant.reason is None:
        return load
    rooms = [max(0, grant.replicas.get(p.pool, 0) - p.held) for p in load.pools]
    if all(p.room <= room for p, room in zip(load.pools, rooms, strict=True)):
        return load
    pools = [replace(p, room=min(p.room, r)) for p, r in zip(load.pools, rooms, strict=True)]
    return replace(load, pools=tuple(pools))


def holdings(wishes: Iterable[Wished], pools: Iterable[Pool]) -> Mapping[str, list[Held]]:
    """Return what the replicas of each namespace hold, for the books: those of a service together."""
    by_name = {p.name: p for p in pools}
    fleet, found = fleet_of(by_name.values()), defaultdict[str, list[Held]](list)
    for wish in wishes:
        shapes = wish.facts.shapes
        for pool, count in wish.facts.service.placed.items():
            if pool in shapes and pool in by_name:
                held = _held(fleet, by_name[pool], shapes[pool], count)
                found[wish.facts.key.namespace].append(held)
    return found


def _held(fleet: Fleet, pool: Pool, shape: Shape, replicas: int) -> Held:
    """Return what replicas hold in a pool."""
    return Held(
        accelerator=pool.spec.accelerator,
        gpus=replicas * pool.gpus_of(shape.need.gpus),
        charge=replicas * fleet.charge(shape, pool),
        price=pool.spec.price_per_gpu_hour or 0.0,
    )


def _stays(pod: Pod) -> bool:
    """Tell whether a pod holds its place, and is not giving it back."""
    return not (pod.deleting or pod.lost or pod.stranded or pod.gated or pod.draining_since)


class Claims:
    """The claims of a pass; those that say the same in the next are the same objects."""

    def __init__(self) -> None:
        self._known: dict[ServiceKey, tuple[Service, object, Claim]] = {}

    def of(self, wishes: Iterable[Wished], tenancy: Tenancy) -> list[Claim]:
        """Return a claim for each wish."""
        found = dict[ServiceKey, tuple[Service, object, Claim]]()
        for wish in wishes:
            facts, key = wish.facts, wish.facts.key
            tenant = tenancy.of(key.namespace)
            priority = tenancy.priority(key.namespace, facts.spec.priority)
            says = (
                *(wish.replicas, wish.orders, wish.untouchable),
                *(wish.load_seconds, wish.rates, tenant, priority),
            )
            service, said, claim = self._known.get(key, (None, None, None))
            # A service is another object as soon as anything is different about it or its pools.
            if claim is None or service is not facts.service or said != says:
                claim = _claim(wish, tenant, priority)
            found[key] = facts.service, says, claim
        self._known = found
        return [claim for _, _, claim in found.values()]


def _claim(wish: Wished, tenant: str, priority: int) -> Claim:
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
        tried = pod.revision == service.trial
        mine = (tried or pod.revision == revision) and not wish.untouchable
        worth = 3 if pod.ready and not tried else 2
        holding = Holding(pod.uid, pod.pool, place, pod.created, worth=worth)
        (held if mine else surplus).append(holding)
    placement = facts.spec.placement
    return Claim(
        key=facts.key,
        tenant=tenant,
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
        begun={} if wish.untouchable else _begun(service, revision, wish.orders),
        priority=priority,
        created=facts.body["metadata"]["creationTimestamp"],
        load_seconds=wish.load_seconds,
    )


def _begun(service: Service, revision: str | None, orders: Iterable[Order]) -> Mapping[str, int]:
    """Return, by pool, the replicas that a revision's ReplicaSets ask for and no pod is admitted for.

    Those of a revision on trial and those that migrations ask for in a pool count too.
    """
    those = {revision, service.trial} - {None}
    admitted = Counter(
        p.pool for p in service.pods if p.revision in those and not p.gated and not p.deleting
    )
    asked = Counter[str]()
    for one in service.sets:
        asked[one.pool] += one.replicas if one.revision in those else 0
    missing = {pool: n - admitted[pool] for pool, n in asked.items() if n > admitted[pool]}
    for pool, count in Counter(o.pool for o in orders if o.pool is not None).items():
        missing[pool] = max(missing.get(pool, 0), count)
    return missing


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
        for pod in facts.service.leaving:
            shape = facts.shapes.get(pod.pool)
            if shape is None or pod.node is None or pod.node not in nodes.get(pod.pool, ()):
                continue
            pool = by_name[pod.pool]
            ledger.release(pod.node, shape.need, pool.spec.resource_name)
            leaving[pod.pool] += pool.gpus_of(shape.need.gpus)
    return ledger, leaving


def _young(
    wishes: Iterable[Wished], pools: Iterable[Pool], fleet: Fleet, now: float
) -> Mapping[str, list[tuple[float, float, float]]]:
    """Return charge, age and load time of the replicas of each namespace that still start."""
    by_name = {p.name: p for p in pools}
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for wish in wishes:
        facts = wish.facts
        if now - facts.service.newest >= wish.load_seconds:
            continue
        for pod in facts.service.pods:
            age = now - pod.created
            pool, shape = by_name.get(pod.pool), facts.shapes.get(pod.pool)
            if age < wish.load_seconds and pool and shape and pod.takes_place:
                charge = fleet.charge(shape, pool)
                found[facts.key.namespace].append((charge, age, wish.load_seconds))
    return found
