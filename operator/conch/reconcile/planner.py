"""The planner of migrations at work: what it sees of the fleet, and what it asks for.

It only ever makes ModelMigrations, or deletes those of its own that make no sense any more.
"""

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from conch.api.base import parse_duration
from conch.api.conditions import Reason
from conch.api.migration import MoveReason, Phase
from conch.api.signals import Signals
from conch.clients.clock import iso
from conch.decisions.fleet import Pod, Pool, ServiceKey
from conch.decisions.migrating import disturbed
from conch.decisions.migration import (
    MovableFleet,
    MovableService,
    Move,
    OpenMove,
    Option,
    Plan,
    Replica,
    Reserved,
    Waiting,
    propose,
    revalidate,
)
from conch.decisions.placement import Ledger
from conch.decisions.scaling import PoolLoad, ServiceLoad
from conch.decisions.scaling.account import Decided
from conch.reconcile.gather import FleetFacts, ServiceFacts
from conch.reconcile.kept_room import KeptRoom
from conch.reconcile.migrations import KIND, Filed, Wanted
from conch.reconcile.profiles import Profiles
from conch.reconcile.replica_figures import ReplicaFigures
from conch.reconcile.settings import Planning
from conch.reconcile.status import Outcome
from conch.reconcile.writer import Writer

logger = logging.getLogger(__name__)
Object = dict[str, Any]

PACE_S = 10.0
"""Between two looks."""
STEADY = 0.2
"""Share by which a figure may differ from what it was and still be much the same."""
_BEFORE_SHIFT = (None, Phase.RESERVE, Phase.LOAD, Phase.WARM)
_DAY_S = 86_400.0


@dataclass
class _Known:
    """What is remembered of one service's figures; times in seconds since the epoch."""

    late: float | None = None
    busy: float | None = None
    since: float = 0.0
    too_slow: dict[str, float] = field(default_factory=dict)


class Planner:
    """Looks at the fleet now and then, and moves what is worth it."""

    def __init__(
        self,
        planning: Planning,
        writer: Writer,
        profiles: Profiles,
        figures: ReplicaFigures,
        kept: KeptRoom,
    ) -> None:
        """``figures``: what is known of single replicas; ``kept``: told what room moves make."""
        self._planning, self._writer, self._profiles = planning, writer, profiles
        self._single, self._kept = figures, kept
        self._known: dict[ServiceKey, _Known] = {}
        self._moves: dict[tuple[str, str], Move] = {}
        """Why each migration was made, by namespace and name; not known of an earlier operator's."""
        self._looked = 0.0
        self.account: Mapping[str, Any] = {"at": None, "moves": [], "later": [], "refused": []}
        """What was proposed last, for people; read by other threads, so only replaced."""

    async def look(
        self,
        fleet: FleetFacts,
        outcomes: Sequence[Outcome],
        decided: Mapping[ServiceKey, Decided],
        ledger: Ledger,
        now: float,
    ) -> None:
        """Propose, take back what is not worth it any more, and ask for what is; seldom.

        ``ledger`` has all that this tick booked, ``now`` is in seconds since the epoch. Raises
        ClusterError.
        """
        if self._planning is Planning.OFF or 0.0 <= now - self._looked < PACE_S:
            return
        self._looked = now
        seen = self._seen(fleet, outcomes, decided, ledger, now)
        plan = propose(seen, now)
        self.account = _account(plan, now)
        if self._planning is Planning.ON:
            await self._take_back(fleet, seen, now)
            left = set(_left(fleet, self._moves))
            for move in plan.moves:
                if await self._ask(fleet, move) and move.waiting is not None:
                    left.add(move.source_node)
            rooms = [r for r in plan.reserved if r.node in left and not _free_now(r, seen)]
            self._kept.keep(rooms, (w.service for w in seen.waiting), now)

    def forget(self, kept: set[ServiceKey]) -> None:
        """Drop what is remembered of all services but these."""
        for key in self._known.keys() - kept:
            del self._known[key]

    async def _ask(self, fleet: FleetFacts, move: Move) -> bool:
        """Ask for a move; tell whether that is new."""
        facts = next(f for f in fleet.services if f.key == move.service)
        body = wanted(facts, move).to_object()
        if not await self._writer.make_once(body):
            # It was tried already; another try waits until that one is deleted.
            return False
        logger.info("%s: %s", body["metadata"]["name"], move.text)
        self._moves[move.service.namespace, body["metadata"]["name"]] = move
        return True

    async def _take_back(self, fleet: FleetFacts, seen: MovableFleet, now: float) -> None:
        """Delete migrations of the planner's own that make no sense any more."""
        there = {_place(f): f for f in fleet.migrations.filed}
        for place in self._moves.keys() - there.keys():
            del self._moves[place]
        for place, move in list(self._moves.items()):
            filed = there[place]
            if filed.migration.phase not in _BEFORE_SHIFT:
                continue
            why = revalidate(move, seen, now)
            if why is not None:
                logger.info("%s makes no sense any more: %s", place, why)
                await self._writer.delete(KIND, filed.body)

    def _seen(
        self,
        fleet: FleetFacts,
        outcomes: Sequence[Outcome],
        decided: Mapping[ServiceKey, Decided],
        ledger: Ledger,
        now: float,
    ) -> MovableFleet:
        services, replicas, opened = {}, list[Replica](), list[OpenMove]()
        by_person = {f.key for f in fleet.migrations.filed if _by_person(f)}
        for outcome in outcomes:
            facts = outcome.facts
            if not facts.shapes:
                continue
            figures = self._figures(facts, decided.get(facts.key), now)
            services[facts.key] = MovableService(
                key=facts.key,
                options=options(facts),
                held=_held(outcome, self._moves.keys(), by_person=facts.key in by_person),
                late=figures.late,
                busy=figures.busy,
                steady_since=figures.since,
                standby=facts.spec.scaling.standby,
                too_slow=dict(figures.too_slow),
            )
            replicas += self._replicas(facts, decided.get(facts.key), now)
            opened += _open(facts, self._moves)
        return MovableFleet(
            pools=fleet.pools,
            ledger=ledger,
            services=services,
            replicas=replicas,
            waiting=[w for o in outcomes if (w := _waiting(o)) is not None],
            open=opened,
            left=frozenset(nodes_left(fleet.migrations.filed)),
        )

    def _figures(self, facts: ServiceFacts, decided: Decided | None, now: float) -> _Known:
        """Return what is known of a service's latency and use, and since when it is so."""
        late = busy = None
        slow: list[str] = []
        if decided is not None and facts.spec.objective.p99 is not None:
            for pool, signals, ratio in _lateness(decided.load):
                late = max(late or 0.0, ratio)
                capacity = max(1, pool.ready * decided.load.instances)
                busy = max(busy or 0.0, min(1.0, signals.busy / capacity))
                slow += [pool.pool] if ratio > 1 else []
        known = self._known.setdefault(facts.key, _Known(since=now))
        if not (_alike(known.late, late) and _alike(known.busy, busy)):
            known.late, known.busy, known.since = late, busy, now
        known.too_slow |= dict.fromkeys(slow, now)
        known.too_slow = {p: at for p, at in known.too_slow.items() if now - at < _DAY_S}
        return known

    def _replicas(
        self, facts: ServiceFacts, decided: Decided | None, now: float
    ) -> Iterable[Replica]:
        accelerators = {p.name: p.spec.accelerator for p in facts.pools}
        loads = self._profiles.load_seconds(facts)
        text = facts.spec.objective.p99
        objective = None if text is None else parse_duration(text)
        instances = 1 if decided is None else decided.load.instances
        leaves = {m.uid for m in self._moves.values() if m.reason is MoveReason.INTERFERENCE}
        for pod in facts.service.pods:
            node, name = pod.node or pod.pinned, (facts.key.namespace, pod.name)
            if node is None or not pod.takes_place or pod.deleting or pod.pool not in facts.shapes:
                continue
            yield Replica(
                service=facts.key,
                pod=pod.name,
                uid=pod.uid,
                pool=pod.pool,
                node=node,
                shape=facts.shapes[pod.pool],
                load_seconds=loads.get(
                    accelerators.get(pod.pool, ""), max(loads.values(), default=42.0)
                ),
                since=pod.created,
                ready=pod.ready,
                late=self._single.late(name, objective, now, moves=pod.uid in leaves)
                if objective
                else None,
                busy=self._single.busy(name, instances, now),
                disturbed=disturbed(pod),
            )


def misses(load: ServiceLoad) -> bool:
    """Tell whether a service misses its objective in one of its pools, by what metrics say now."""
    return any(ratio > 1 for _, _, ratio in _lateness(load))


def _lateness(load: ServiceLoad) -> Iterable[tuple[PoolLoad, Signals, float]]:
    """Yield the pools where the slowest percentile is known, with it over the objective."""
    for pool in load.pools:
        signals = pool.signals
        if load.objective and signals and not signals.absurd and signals.p99 is not None:
            yield pool, signals, signals.p99 / load.objective


def _alike(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= STEADY * max(one, other, 0.1)


def options(facts: ServiceFacts) -> tuple[Option, ...]:
    """Return the pools that a service may use; those that its user did not tell apart rank alike."""
    wish = facts.spec.placement

    def named(pool: Pool) -> tuple[int, int]:
        accelerator = pool.spec.accelerator
        return (
            wish.pools.index(pool.name) if pool.name in wish.pools else len(wish.pools),
            wish.accelerators.index(accelerator)
            if accelerator in wish.accelerators
            else len(wish.accelerators),
        )

    ranks = sorted({named(p) for p in facts.pools})
    found = []
    for pool in facts.pools:
        price = pool.spec.price_per_gpu_hour
        gpus = pool.gpus_of(facts.shapes[pool.name].need.gpus)
        found.append(
            Option(
                pool=pool.name,
                shape=facts.shapes[pool.name],
                rank=ranks.index(named(pool)),
                speed=pool.device_speed,
                price=None if price is None else price * gpus,
            )
        )
    return tuple(found)


def _held(outcome: Outcome, own: Collection[tuple[str, str]], *, by_person: bool) -> str | None:
    """Return why no replica of a service moves now, in words.

    ``own``: migrations that are looked at again while they run, by namespace and name. They are open
    moves, and who comes by one need not answer yet.
    """
    facts, service = outcome.facts, outcome.facts.service
    if outcome.paused:
        return "it is paused"
    if service.revision != service.serving_revision or (
        outcome.rollout is not None and not outcome.rollout.phase.over
    ):
        return "a new revision takes over"
    others = [f for f in facts.migrations if _place(f) not in own]
    if others:
        return f"{others[0].migration.name} moves one of its replicas"
    if by_person:
        return "somebody moved one of its replicas lately"
    comes = {f.migration.name for f in facts.migrations}
    pods = (p for p in service.pods if p.revision == service.revision and not p.deleting)
    mine = [p for p in pods if not _may_come(p, comes)]
    answering = sum(p.ready and p.serving for p in mine)
    if outcome.wanted is None or answering < outcome.wanted or len(mine) > answering:
        return "not all of it answers"
    return None


def _may_come(pod: Pod, by: Collection[str]) -> bool:
    """Tell whether a replica comes by one of these migrations and has no traffic yet.

    One that waits for its place may: by which it comes is written once it has that.
    """
    return bool(by) and (pod.gated or (pod.comes in by and not pod.serving))


def _by_person(filed: Filed) -> bool:
    return filed.migration.spec.reason is MoveReason.REQUESTED


def nodes_left(filed: Iterable[Filed]) -> Iterable[str]:
    """Return the nodes that replicas left, or were to, as they seemed to fail; while that is kept."""
    for one in filed:
        seat = one.migration.status.source
        if one.migration.spec.reason is MoveReason.NODE_FAILING and seat and seat.node:
            yield seat.node


def _open(facts: ServiceFacts, own: Mapping[tuple[str, str], Move]) -> Iterable[OpenMove]:
    service = facts.service
    asked = {f.migration.name: _by_person(f) for f in facts.migrations}
    coming = {p.comes: p.uid for p in service.pods if p.comes in asked}

    def name_of(pod: Pod) -> str | None:
        for filed in facts.migrations:
            seat, mine = filed.migration.status.source, own.get(_place(filed))
            # One that was just asked for may not say yet who leaves.
            if ((seat and seat.uid) or (mine and mine.uid)) == pod.uid:
                return filed.migration.name
        return None

    for pod in service.pods:
        name = name_of(pod)
        if name is not None or pod.leaves is not None:
            successor = None if name is None else coming.get(name)
            yield OpenMove(pod.uid, successor, asked=asked.get(name or "", True))


def _waiting(outcome: Outcome) -> Waiting | None:
    """Return the replicas of a service that only want of room keeps waiting."""
    if outcome.paused or outcome.wanted is None or outcome.grant is None:
        return None
    if outcome.grant.reason is not None:
        return None
    count = outcome.plan.shortage
    scaling = outcome.scaling
    if scaling is not None and scaling.reason is Reason.LIMITED_BY_CAPACITY:
        count += max(0, scaling.wished - outcome.wanted)
    return Waiting(outcome.facts.key, options(outcome.facts), count) if count else None


def _left(fleet: FleetFacts, own: Mapping[tuple[str, str], Move]) -> Iterable[str]:
    """Yield the nodes that replicas are leaving so that others fit there."""
    for filed in fleet.migrations.filed:
        move = filed.migration
        if move.over or move.spec.reason is not MoveReason.DEFRAGMENTATION:
            continue
        seat, mine = move.status.source, own.get(_place(filed))
        if seat is not None and seat.node is not None:
            yield seat.node
        elif mine is not None:
            yield mine.source_node


def _free_now(room: Reserved, seen: MovableFleet) -> bool:
    """Tell whether room is there already: who waits takes it at once, or has no use for it."""
    pool = seen.pool_of[room.pool]
    return seen.ledger.free(seen.nodes[room.node], pool).covers(room.need)


def wanted(facts: ServiceFacts, move: Move) -> Wanted:
    """Return what asks for a move."""
    elastic = any(p.spec.elastic for p in facts.pools if p.name == move.target_pool)
    if move.target_node is not None and not elastic:
        to = {"node": move.target_node}
    else:
        # Within an elastic pool: to wherever there is room but on the node that is left.
        to = {} if move.target_pool == move.source_pool else {"pool": move.target_pool}
    owner = facts.body["metadata"]["uid"]
    return Wanted(facts.key, owner, move.pod, move.uid, move.reason, to, move.text)


def _place(filed: Filed) -> tuple[str, str]:
    metadata = filed.body["metadata"]
    return metadata["namespace"], metadata["name"]


def _account(plan: Plan, now: float) -> Mapping[str, Any]:
    def told(move: Move) -> Object:
        return {
            "service": f"{move.service.namespace}/{move.service.name}",
            "replica": move.pod,
            "from": move.source_node,
            "to": move.target_node or move.target_pool,
            "reason": str(move.reason),
            "because": move.text,
        }

    refused = [
        {
            "service": f"{r.service.namespace}/{r.service.name}",
            "replica": r.pod,
            "node": r.node,
            "reason": str(r.reason),
            "refused": str(r.because),
            "because": r.text,
        }
        for r in plan.refused
    ]
    return {
        "at": iso(now),
        "moves": [told(m) for m in plan.moves],
        "later": [told(m) for m in plan.later],
        "refused": refused,
    }
