"""Where looking closer may pay: nodes on which replicas could make room, the most promising first.

What a node's replicas may give is costly to tell; what they can't give at all is not, for all of them
at once. Nothing is decided here: a node is left out only where it could give nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conch.decisions.fleet import Node, Pool
from conch.decisions.shares.books import Books
from conch.decisions.shares.claims import Claim, Holding

Bound = tuple[int, float, int, float]
"""At least so many services lose their last replica, so many GPUs are moved; the pool's place among
the taker's; and the highest share among the tenants that could lose, negative."""
_SMALL = 1e-9
_Floats = NDArray[np.float64]
_Ints = NDArray[np.intp]
_Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Victim:
    """A replica that could go, and whose it is."""

    claim: Claim
    holding: Holding


@dataclass(frozen=True)
class Terms:
    """What one more replica of a taker in a pool may cost others."""

    owed: bool
    """It is within the tenant's quota."""
    own_only: bool
    """At its limit, a tenant makes room for its own only."""
    after: float
    """The share that who loses must have at least once it lost; infinite where that never does."""
    turn: float
    """What one who loses must hold by weight for that to do as well, whatever is lost; infinite where
    nothing does."""
    most: float
    """GPUs that may be moved."""


class Candidates:
    """The replicas that have a node, as columns; brought up to date as some are taken."""

    def __init__(self, books: Books, victims: Sequence[Victim], run_time: float) -> None:
        """``run_time``: load times that a replica stays at least."""
        self._books = books
        names = sorted({str(v.holding.node) for v in victims})
        self._rows = {name: row for row, name in enumerate(names)}
        victims = sorted(victims, key=lambda v: self._rows[str(v.holding.node)])
        nodes = np.array([self._rows[str(v.holding.node)] for v in victims], dtype=np.intp)
        self._starts = np.flatnonzero(np.diff(nodes, prepend=-1))
        """Where the replicas of each node begin."""
        self._places = {(v.claim.key, v.holding.id): n for n, v in enumerate(victims)}
        self._claims = {claim.key: n for n, claim in enumerate(books.claims)}
        self._tenants = {name: n for n, name in enumerate(books.tenants)}
        self._claim = np.array([self._claims[v.claim.key] for v in victims], dtype=np.intp)
        self._tenant = np.array([self._tenants[v.claim.tenant] for v in victims], dtype=np.intp)
        self._priority = np.array([v.claim.priority for v in victims])
        self._charge = np.array([books.charge(v.claim, v.holding.pool) for v in victims])
        self._gpus = np.array([books.gpus_in(v.claim, v.holding.pool) for v in victims])
        needs = [v.claim.shapes[v.holding.pool].need for v in victims]
        self._devices = np.array([float(need.gpus) for need in needs])
        resources = [books.pools[v.holding.pool].spec.resource_name for v in victims]
        self._resource = np.array(resources, dtype=object)
        self._rested = np.array(
            [books.now - v.holding.created >= run_time * v.claim.load_seconds for v in victims],
            dtype=bool,
        )
        self._there = np.array([books.tenants[v.claim.tenant].preemptible for v in victims], bool)
        self._many = np.array([books.total(claim) > 1 for claim in books.claims], dtype=bool)
        self._free: dict[str, tuple[list[Node], _Ints, _Floats]] = {}
        """By pool: its nodes, their rows, and the devices that are free there."""

    def took(self, victims: Sequence[Victim], taker: Claim) -> None:
        """Note that replicas were taken for a service."""
        for victim in victims:
            self._there[self._places[victim.claim.key, victim.holding.id]] = False
        for claim in (*(v.claim for v in victims), taker):
            self._many[self._claims[claim.key]] = self._books.total(claim) > 1
        self._free.clear()

    def of(self, claim: Claim, pool: Pool, place: int, terms: Terms) -> list[tuple[Bound, Node]]:
        """Return the nodes of a pool where enough could go for one more replica, and its bound."""
        if not len(self._starts):
            return []
        nodes, rows, free = self._nodes(pool)
        # Devices of another resource are not those that are looked for.
        alike = (self._resource == pool.spec.resource_name) | (self._devices == 0)
        shares, able = self._able(claim, alike, terms)
        least = np.minimum.reduceat(np.where(able, self._gpus, np.inf), self._starts)[rows]
        devices = np.add.reduceat(np.where(able, self._devices, 0.0), self._starts)[rows]
        missing = claim.shapes[pool.name].need.gpus - free
        least = np.maximum(least, missing / self._parts(pool) - _SMALL)
        few = ~np.logical_or.reduceat(able & self._many[self._claim], self._starts)[rows]
        most = np.maximum.reduceat(np.where(able, shares, -np.inf), self._starts)[rows]
        could = (devices >= missing) & np.isfinite(least) & (least <= terms.most + _SMALL)
        found = np.flatnonzero(could).tolist()
        return [((int(few[n]), least[n], place, -most[n]), nodes[n]) for n in found]

    def _able(self, taker: Claim, alike: _Flags, terms: Terms) -> tuple[_Floats, _Flags]:
        """Return the share of whose each replica is, and whether it could go were it alone."""
        books = self._books
        mine = self._tenant == self._tenants[taker.tenant]
        able = mine & self._rested & (self._priority < taker.priority)
        allocated = np.array([books.allocated[t] for t in self._tenants])[self._tenant]
        entitled = np.array([books.entitled.get(t, 0.0) for t in self._tenants])[self._tenant]
        shares = _over(allocated, entitled)
        levels = np.array([books.level(t) for t in self._tenants])[self._tenant]
        if not terms.own_only:
            fair = _over(allocated - self._charge, entitled) >= terms.after
            fair = self._rested & (fair | (levels >= terms.turn))
            able |= ~mine & (fair | terms.owed)
        return shares, able & self._there & alike & (self._claim != self._claims[taker.key])

    def _nodes(self, pool: Pool) -> tuple[list[Node], _Ints, _Floats]:
        """Return the nodes of a pool that run replicas, their rows, and the devices free there."""
        known = self._free.get(pool.name)
        if known is None:
            nodes = [n for n in pool.nodes if n.name in self._rows]
            rows = np.array([self._rows[n.name] for n in nodes], dtype=np.intp)
            free = np.array([float(self._books.free.free(n, pool).gpus) for n in nodes])
            known = self._free[pool.name] = nodes, rows, free
        return known

    def _parts(self, pool: Pool) -> float:
        """Return into how many devices a GPU is divided at most, where the same ones are counted."""
        pools = self._books.pools.values()
        alike = [p for p in pools if p.spec.resource_name == pool.spec.resource_name]
        return float(max(p.spec.sharing.devices_per_gpu for p in alike))


def _over(allocated: _Floats, entitled: _Floats) -> _Floats:
    """Return shares, as the books do; infinite without entitlement."""
    some = entitled > _SMALL
    found: _Floats = np.where(some, allocated / np.where(some, entitled, 1.0), np.inf)
    return found
