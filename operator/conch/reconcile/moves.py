"""Replicas on the move, for the one who decides: who leaves, who comes, and what is told of it."""

import math
from dataclasses import dataclass, field, replace

from conch.api.migration import Phase
from conch.clients.clock import iso
from conch.decisions import migrating, placement
from conch.decisions.fleet import ServiceKey
from conch.decisions.migrating import Ground, Order
from conch.decisions.moving import Moving, leaving, moving
from conch.decisions.placement import Ledger
from conch.reconcile.gather import FleetFacts, ServiceFacts
from conch.reconcile.migrations import Filed, News, news
from conch.reconcile.warming import Warming


@dataclass
class Moves:
    """What a tick finds out about migrations; ``look`` comes before what asks."""

    warming: Warming
    _orders: dict[ServiceKey, tuple[Order, ...]] = field(default_factory=dict)
    _news: dict[ServiceKey, tuple[News, ...]] = field(default_factory=dict)

    def begin(self) -> None:
        """Forget what the last tick found."""
        self._orders.clear()
        self._news.clear()

    def look(self, facts: ServiceFacts, ledger: Ledger, now: float) -> ServiceFacts:
        """Return a service with the part that its replicas have in migrations.

        ``ledger``: what is free before anything was planned; ``now`` in seconds since the epoch.
        """
        if not facts.migrations and not any(p.comes for p in facts.service.pods):
            return facts
        ground = Ground(facts.service, facts.pools, facts.shapes, ledger)
        moves = tuple(f.migration for f in facts.migrations)
        self._news[facts.key] = tuple(self._told(facts, ground, now))
        self._orders[facts.key] = migrating.orders(facts.service, moves, ground)
        return replace(facts, service=migrating.marked(facts.service, moves, ground))

    def orders(self, key: ServiceKey) -> tuple[Order, ...]:
        """Return the places that a service's migrations ask for."""
        return self._orders.get(key, ())

    def news(self, key: ServiceKey) -> tuple[News, ...]:
        """Return what there is to tell of a service's migrations."""
        return self._news.get(key, ())

    def _told(self, facts: ServiceFacts, ground: Ground, now: float) -> list[News]:
        found, ahead = [], None
        for filed in facts.migrations:
            move = filed.migration
            warmth = None
            if move.phase is Phase.WARM:
                target = migrating.target_of(facts.service, move.name)
                source = migrating.source_of(facts.service, move)
                warmth = self.warming.look(facts, target, source)
            step = migrating.advanced(move, ground, now, warmth=warmth, ahead=ahead)
            if not step.phase.over:
                ahead = ahead or move.name
            told = news(filed, step, iso(now))
            if told is not None:
                found.append(told)
        return found


def homeless(fleet: FleetFacts, now: float) -> list[News]:
    """Return what there is to tell of migrations whose service is not there, or can't be read."""
    there = {f.key for f in fleet.services}
    lost = (f for f in fleet.migrations.filed if f.key not in there and not f.migration.over)
    told = (_told_alone(f, now) for f in lost)
    return [one for one in told if one is not None]


def _told_alone(filed: Filed, now: float) -> News | None:
    return news(filed, migrating.advanced(filed.migration, None, now), iso(now))


def off_nodes(
    facts: ServiceFacts, wanted: int, ledger: Ledger, *, most: float = math.inf
) -> Moving:
    """Return what to plan for, of at most ``most`` replicas, where some are to leave their nodes."""
    count = len(leaving(facts.service))
    if not count:
        return Moving(wanted)
    room = sum(placement.room(p, facts.shapes[p.name], ledger, most=count) for p in facts.pools)
    return moving(facts.service, wanted, room=room, most=most)
