"""One migration, phase by phase: what follows from its object and from what is there.

Reserve  a place is booked for the other replica, where it is to be
Load     its model loads; it gets no traffic
Warm     it answers real requests, until it does so as fast as the one that leaves
Shift    it gets traffic, and the other one gets none
Drain    the other one answers what it has begun, and goes
Done, or RolledBack: the other replica is taken away again, the one that was to leave stays

Nothing is remembered but what the object's status says: it is written first, and acted on once it is
known. Up to Shift all can be taken back, and is as soon as a phase lasts too long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from conch.api.migration import (
    ModelMigrationSpec,
    ModelMigrationStatus,
    MoveReason,
    Phase,
    Seat,
)
from conch.api.names import ANNOTATION_DISTURBED
from conch.decisions import placement
from conch.decisions.fleet import Node, Pod, Pool, Service, Shape
from conch.decisions.placement import Ledger
from conch.decisions.rollout import answers

_ABOUT_TO_SERVE = (Phase.RESERVE, Phase.LOAD, Phase.WARM)
_OPEN = (*_ABOUT_TO_SERVE, Phase.SHIFT, Phase.DRAIN)


@dataclass(frozen=True, slots=True)
class Migration:
    """One ModelMigration."""

    name: str
    spec: ModelMigrationSpec
    status: ModelMigrationStatus
    created: float
    """Seconds since the epoch."""
    since: float
    """When its phase began, in seconds since the epoch."""

    @property
    def phase(self) -> Phase | None:
        """How far it has come; None before anything was decided on it."""
        return self.status.phase

    @property
    def over(self) -> bool:
        """Whether nothing follows."""
        return self.phase is not None and self.phase.over


@dataclass(frozen=True, slots=True)
class Warmth:
    """What the requests of a warm-up showed."""

    passed: bool
    text: str


@dataclass(frozen=True, slots=True)
class Order:
    """A replica that is to have a place, for a migration that has none yet."""

    migration: str
    pool: str | None
    """None is any that the service may use."""
    node: str | None
    """None is any but the one that is left."""
    left: str | None
    """The node that is left."""
    disturbed: bool = False
    """Who leaves is disturbed by neighbours, or was before: so counts who comes."""


@dataclass(frozen=True, slots=True)
class Next:
    """What a migration's status is to say."""

    phase: Phase
    message: str
    source: Seat | None = None
    target: Seat | None = None
    warmth: str | None = None


@dataclass(frozen=True, slots=True)
class Ground:
    """What a step is decided from."""

    service: Service
    pools: Sequence[Pool]
    """Those that the service may use."""
    shapes: Mapping[str, Shape]
    ledger: Ledger


def target_of(service: Service, name: str) -> Pod | None:
    """Return the replica that takes another's place by a migration, if there is one."""
    found = (p for p in service.pods if p.comes == name and not (p.deleting or p.lost))
    return next(found, None)


def source_of(service: Service, migration: Migration) -> Pod | None:
    """Return the replica that leaves by a migration, while there is one."""
    seat = migration.status.source
    uid = None if seat is None else seat.uid
    return next((p for p in service.pods if p.uid == uid and not (p.deleting or p.lost)), None)


def disturbed(pod: Pod) -> bool:
    """Tell whether a replica, or one whose place it took by a migration, left busy neighbours."""
    return ANNOTATION_DISTURBED in ((pod.body.get("metadata") or {}).get("annotations") or {})


def marked(service: Service, migrations: Sequence[Migration], ground: Ground) -> Service:
    """Return the service with the part that each replica has in its migrations.

    Who leaves stays until its phase is Shift. Whose migration is over, or gone, and who has had no
    traffic yet, goes again.
    """
    opened = {m.name: m for m in migrations if m.phase in _OPEN}
    warming = {n for n, m in opened.items() if m.phase in _ABOUT_TO_SERVE}
    leave = {s.uid: m for m in opened.values() if (s := source_of(service, m)) is not None}
    if not leave and not any(p.comes for p in service.pods):
        return service

    def part(pod: Pod) -> Pod:
        mine = leave.get(pod.uid)
        if mine is not None:
            if mine.name in warming:
                begun = _begun(service, mine, ground)
                return replace(pod, leaves=None if begun else pod.leaves, moves=begun)
            return replace(pod, leaves=f"left by migration {mine.name}")
        if pod.comes is None or pod.serving or pod.draining_since is not None:
            return pod
        if pod.comes not in opened:
            return replace(pod, goes=True)
        return pod if pod.comes in warming else replace(pod, warm=True)

    return replace(service, pods=tuple(part(p) for p in service.pods))


def _begun(service: Service, migration: Migration, ground: Ground) -> str | None:
    """Return the migration's name where its other replica is there, or has a place to be."""
    there = target_of(service, migration.name) is not None
    return migration.name if there or _no_room(migration, ground) is None else None


def surge(service: Service) -> int:
    """Return how many replicas there are to be beside those that answer, for others to leave."""
    return sum(p.moves is not None and not p.deleting for p in service.pods)


def orders(service: Service, migrations: Sequence[Migration], ground: Ground) -> tuple[Order, ...]:
    """Return the places that are to be found now."""
    found = []
    for one in migrations:
        source = source_of(service, one)
        if one.phase is not Phase.RESERVE or source is None or target_of(service, one.name):
            continue
        if _no_room(one, ground) is None:
            pool = _pool_of(one, ground)
            name = pool.name if pool is not None else None
            apart = one.spec.reason is MoveReason.INTERFERENCE or disturbed(source)
            found.append(Order(one.name, name, one.spec.to.node, source.node, apart))
    return tuple(found)


def advanced(
    migration: Migration,
    ground: Ground | None,
    now: float,
    *,
    warmth: Warmth | None = None,
    ahead: str | None = None,
) -> Next:
    """Return what a migration's status is to say at ``now`` (s since the epoch).

    ``ground`` is None where there is no such service, ``ahead`` the open migration of the same service
    that was there before, ``warmth`` what the warm-up showed so far.
    """
    status = migration.status
    if migration.over:
        return Next(
            status.phase or Phase.DONE,
            status.message or "",
            status.source,
            status.target,
            status.warmth,
        )
    if ground is None:
        return _late(migration, now) or Next(
            Phase.RESERVE,
            f"there is no ModelService {migration.spec.service} that can be decided on",
        )
    if status.phase is None or status.source is None:
        return _opened(migration, ground, ahead, now)
    step = _STEPS[status.phase](migration, ground, warmth)
    if step.phase is status.phase and (late := _late(migration, now, step)):
        return late
    return step


def _late(migration: Migration, now: float, step: Next | None = None) -> Next | None:
    """Return how it ends where its phase lasts too long, else None."""
    phase = migration.phase or Phase.RESERVE
    limit = migration.spec.deadlines.seconds(phase)
    if now - migration.since < limit:
        return None
    status, told = (
        migration.status,
        step.message if step else f"no service {migration.spec.service}",
    )
    target = step.target if step else status.target
    if phase is Phase.DRAIN:
        text = f"another answers; the old one has not ended within {limit:g} s"
        return Next(Phase.DONE, text, status.source, target, status.warmth)
    text = f"{phase} took longer than {limit:g} s: {told}"
    return Next(Phase.ROLLED_BACK, text, status.source, target, status.warmth)


def _refused(text: str) -> Next:
    return Next(Phase.ROLLED_BACK, text)


def _opened(migration: Migration, ground: Ground, ahead: str | None, now: float) -> Next:
    """Return the first step: which replica leaves, or why none may."""
    service, spec = ground.service, migration.spec
    if ahead is not None:
        return _refused(f"{spec.service} is being moved by {ahead}: wait for its end, or delete it")
    if why := _no_target(migration, ground):
        return _refused(why)
    candidates = _candidates(service)
    if spec.replica is not None:
        candidates = [p for p in candidates if p.name == spec.replica]
        if not candidates:
            return _refused(f"no replica {spec.replica} of {spec.service} answers")
    if not candidates:
        step = Next(Phase.RESERVE, f"no replica of {spec.service} answers that could be moved")
        return _late(migration, now, step) or step
    away = [p for p in candidates if not _there(p, migration)]
    if not away:
        where = spec.to.node or spec.to.pool
        return _refused(f"{candidates[0].name} is on {where} already")
    source = _seat(away[0])
    return Next(Phase.RESERVE, _no_room(migration, ground) or "a place is free", source)


def _candidates(service: Service) -> list[Pod]:
    revision = service.revision or service.serving_revision
    mine = (p for p in service.pods if p.revision == revision and answers(p) and not p.comes)
    moved = (p for p in service.pods if p.revision == revision and answers(p) and p.comes)
    # Who was moved lately rests while there are others.
    return [
        *sorted(mine, key=lambda p: (p.created, p.name)),
        *sorted(moved, key=lambda p: (p.created, p.name)),
    ]


def _there(pod: Pod, migration: Migration) -> bool:
    to = migration.spec.to
    return pod.node == to.node if to.node else pod.pool == to.pool


def _no_target(migration: Migration, ground: Ground) -> str | None:
    """Return why the target is none for this service, whatever is free there."""
    to = migration.spec.to
    names = ", ".join(p.name for p in ground.pools) or "none"
    if to.pool is not None and _pool_of(migration, ground) is None:
        return f"pool {to.pool} is none that {migration.spec.service} may use; these are: {names}"
    if to.node is None:
        return None
    pool = _pool_of(migration, ground)
    if pool is None:
        return f"node {to.node} is in no pool that {migration.spec.service} may use; these are: {names}"
    if pool.spec.elastic:
        return f"pool {pool.name} is elastic: its autoscaler chooses the node; name the pool"
    node, shape = _node(pool, to.node), ground.shapes[pool.name]
    empty = replace(node, requested={}, pods=0)
    why = placement.obstacle(node, shape, empty.free(pool.spec.resource_name))
    return f"node {to.node} can't take it: {why}" if why else None


def _pool_of(migration: Migration, ground: Ground) -> Pool | None:
    """Return the pool that is the target, or in which it is."""
    to = migration.spec.to
    if to.pool is not None:
        return next((p for p in ground.pools if p.name == to.pool), None)
    return next((p for p in ground.pools for n in p.nodes if n.name == to.node), None)


def _node(pool: Pool, name: str) -> Node:
    return next(n for n in pool.nodes if n.name == name)


def _no_room(migration: Migration, ground: Ground) -> str | None:
    """Return why there is no place now, or None where there is one."""
    pool, to = _pool_of(migration, ground), migration.spec.to
    if to.node is not None:
        if pool is None:
            return f"node {to.node} is gone"
        node = _node(pool, to.node)
        free = ground.ledger.free(node, pool)
        why = placement.obstacle(node, ground.shapes[pool.name], free)
        return f"node {to.node} is {why}" if why else None
    seat = migration.status.source
    left = seat.node if seat else None
    pools = [pool] if pool is not None else list(ground.pools)
    if any(_has_room(p, ground, left) for p in pools):
        return None
    return "; ".join(placement.explain(p, ground.shapes[p.name], ground.ledger) for p in pools)


def _has_room(pool: Pool, ground: Ground, left: str | None) -> bool:
    """Tell whether a pool has room for one more, on another node than the one that is left.

    One that shows signs of failing is moved to only where it is named.
    """
    shape = ground.shapes[pool.name]
    if pool.spec.elastic:
        return True
    fitting = ground.ledger.fitting(pool, shape)
    return any(node.name != left and not node.signs for node, _ in fitting)


def _seat(pod: Pod) -> Seat:
    return Seat(pod=pod.name, uid=pod.uid, node=pod.node or pod.pinned, pool=pod.pool)


def _kept(
    migration: Migration, phase: Phase, message: str, target: Pod | None = None, **more: str | None
) -> Next:
    status = migration.status
    seat = _seat(target) if target is not None else status.target
    return Next(phase, message, status.source, seat, more.get("warmth", status.warmth))


def _ended(migration: Migration, ground: Ground) -> Next | None:
    """Return how it ends where who leaves does not need to any more, or its revision is over."""
    source = source_of(ground.service, migration)
    name = migration.status.source.pod if migration.status.source else ""
    if source is None:
        return _kept(migration, Phase.ROLLED_BACK, f"{name} ended before another took its place")
    revision = ground.service.revision or ground.service.serving_revision
    if source.revision != revision:
        return _kept(migration, Phase.ROLLED_BACK, f"an update replaces {name}")
    return None


def _reserve(migration: Migration, ground: Ground, _: Warmth | None) -> Next:
    if end := _ended(migration, ground):
        return end
    target = target_of(ground.service, migration.name)
    if target is None:
        why = _no_room(migration, ground)
        return _kept(migration, Phase.RESERVE, why or "another replica is begun")
    return _kept(migration, Phase.LOAD, f"{target.name} loads its model", target)


def _load(migration: Migration, ground: Ground, _: Warmth | None) -> Next:
    if end := _ended(migration, ground):
        return end
    target = target_of(ground.service, migration.name)
    if target is None:
        return _kept(migration, Phase.ROLLED_BACK, "the replica that was to take over is gone")
    if not target.ready:
        waits = target.unschedulable or f"{target.name} loads its model"
        return _kept(migration, Phase.LOAD, waits, target)
    return _kept(migration, Phase.WARM, f"{target.name} answers its first requests", target)


def _warm(migration: Migration, ground: Ground, warmth: Warmth | None) -> Next:
    if end := _ended(migration, ground):
        return end
    target = target_of(ground.service, migration.name)
    if target is None:
        return _kept(migration, Phase.ROLLED_BACK, "the replica that was to take over is gone")
    if warmth is None or not target.ready:
        return _kept(migration, Phase.WARM, f"{target.name} answers its first requests", target)
    phase = Phase.SHIFT if warmth.passed else Phase.ROLLED_BACK
    return _kept(migration, phase, warmth.text, target, warmth=warmth.text)


def _shift(migration: Migration, ground: Ground, _: Warmth | None) -> Next:
    source = source_of(ground.service, migration)
    if source is None or source.draining_since is not None:
        return _kept(migration, Phase.DRAIN, "what was begun is answered to its end")
    target = target_of(ground.service, migration.name)
    if target is None:
        return _kept(migration, Phase.ROLLED_BACK, "the replica that was to take over is gone")
    if answers(target):
        return _kept(migration, Phase.SHIFT, "enough others have to answer before one goes", target)
    return _kept(migration, Phase.SHIFT, f"{target.name} gets its traffic", target)


def _drain(migration: Migration, ground: Ground, _: Warmth | None) -> Next:
    if source_of(ground.service, migration) is None:
        target = target_of(ground.service, migration.name)
        where = f"{target.name} answers on {target.node}" if target else "others answer"
        return _kept(migration, Phase.DONE, where, target)
    return _kept(migration, Phase.DRAIN, "what was begun is answered to its end")


_STEPS = {
    Phase.RESERVE: _reserve,
    Phase.LOAD: _load,
    Phase.WARM: _warm,
    Phase.SHIFT: _shift,
    Phase.DRAIN: _drain,
}
