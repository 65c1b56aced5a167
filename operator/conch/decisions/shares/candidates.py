"""Where looking closer may pay: nodes on which replicas could make room, the most promising first.

What a node's replicas may give is costly to tell; what they can't give at all is not, for all of them
at once. Nothing is decided here: a node is left out only where it could give nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conch.decisions.fleet import Node, Pool
from conch.decisions.shares.books import Books
from conch.decisions.shares.claims import Claim, Victim

Bound = tuple[int, float, int, float]
"""At least so many services lose their last replica, so many GPUs are moved; the pool's place among
the taker's; and the highest share among the tenants that could lose, negative."""
_SMALL = 1e-9
_Floats = NDArray[np.float64]
_Ints = NDArray[np.intp]
_Flags = NDArray[np.bool_]


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


@dataclass
class _There:
    """The nodes of a pool: their rows, and the devices that are free on each."""

    nodes: list[Node]
    rows: _Ints
    free: _Floats
    places: Mapping[str, int]
    """By name, where a node is in these lists."""
    seen: int
    """So many changes of the ledger are in ``free``."""


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
        self._pools: dict[str, _There] = {}
        self._standings: tuple[_Floats, _Floats, _Floats] | None = None

    def took(self, victims: Sequence[Victim], taker: Claim) -> None:
        """Note that replicas were taken for a service."""
        for victim in victims:
            self._there[self._places[victim.claim.key, victim.holding.id]] = False
        for claim in (*(v.claim for v in victims), taker):
            self._many[self._claims[claim.key]] = self._books.total(claim) > 1
        self._standings = None

    def of(self, claim: Claim, pool: Pool, place: int, terms: Terms) -> list[tuple[Bound, Node]]:
        """Return the nodes of a pool where enough could go for one more replica, and its bound."""
        if not len(self._starts):
            return []
        there = self._nodes(pool)
        nodes, rows, free = there.nodes, there.rows, there.free
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
        mine = self._tenant == self._tenants[taker.tenant]
        able = mine & self._rested & (self._priority < taker.priority)
        shares, after, levels = self._standing()
        if not terms.own_only:
            fair = self._rested & ((after >= terms.after) | (levels >= terms.turn))
            able |= ~mine & (fair | terms.owed)
        return shares, able & self._there & alike & (self._claim != self._claims[taker.key])

    def _standing(self) -> tuple[_Floats, _Floats, _Floats]:
        """Return, of whose each replica is, the share, the share without it, and the level."""
        if self._standings is None:
            books = self._books
            allocated = np.array([books.allocated[t] for t in self._tenants])[self._tenant]
            entitled = np.array([books.entitled.get(t, 0.0) for t in self._tenants])[self._tenant]
            levels = np.array([books.level(t) for t in self._tenants])[self._tenant]
            shares, after = _over(allocated, entitled), _over(allocated - self._charge, entitled)
            self._standings = shares, after, levels
        return self._standings

    def _nodes(self, pool: Pool) -> "_There":
        """Return the nodes of a pool that run replicas, as they are after all that was taken."""
        known, free = self._pools.get(pool.name), self._books.free
        if known is None:
            nodes = [n for n in pool.nodes if n.name in self._rows]
            known = self._pools[pool.name] = _There(
                nodes,
                rows=np.array([self._rows[n.name] for n in nodes], dtype=np.intp),
                free=np.array([float(free.free(n, pool).gpus) for n in nodes]),
                places={n.name: place for place, n in enumerate(nodes)},
                seen=free.changes,
            )
        moved = free.moved(known.seen)
        known.seen += len(moved)
        for name in moved:
            place = known.places.get(name)
            if place is not None:
                known.free[place] = float(free.free(known.nodes[place], pool).gpus)
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
