"""Handing out what is free: quotas first, then whoever is farthest below its entitlement.

Progressive filling in whole replicas. Idle GPUs are anyone's: what is left goes to those above their
entitlement too, within their limits.
"""

import heapq
from collections import defaultdict

from conch.decisions import placement
from conch.decisions.fleet import ServiceKey
from conch.decisions.shares.books import Books
from conch.decisions.shares.claims import Claim
from conch.decisions.shares.reserve import Reserve
from conch.decisions.shares.suit import suited

_Turn = tuple[int, int, str, ServiceKey, int]
"""Priority (negative), whether it has a replica already, created, key; and its place in a list."""
_Place = tuple[bool, float, str, str]
"""Whether no quota is owed, the share afterwards, tenant, and the pool of the next replica."""


def hand_out(books: Books) -> set[ServiceKey]:
    """Grant what fits, one replica at a time; return the services whose limit held them back."""
    return _Handing(books).run()


class _Handing:
    """One run of it."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._reserve = Reserve(books)
        self._options = suited(books)
        self._begun = {c.key: dict(c.begun) for c in books.claims if c.begun}
        self._limited: set[ServiceKey] = set()
        self._full: set[tuple[ServiceKey, str]] = set()
        """Services and pools that have no room for them: what is free only gets less."""
        self._queues: dict[str, list[_Turn]] = defaultdict(list)
        self._line: list[_Place] = []
        for n, claim in enumerate(books.claims):
            if books.missing(claim) > 0 and books.options(claim):
                self._queue(n)

    def _queue(self, n: int) -> None:
        claim = self._books.claims[n]
        served = int(self._books.total(claim) > 0)
        turn = (-claim.priority, served, claim.created, claim.key, n)
        heapq.heappush(self._queues[claim.tenant], turn)

    def run(self) -> set[ServiceKey]:
        for tenant in self._queues:
            self._line_up(tenant)
        while self._line:
            *_, tenant, pool = heapq.heappop(self._line)
            n = self._queues[tenant][0][-1]
            self._give(n, pool)
            self._line_up(tenant)
        return self._limited

    def _line_up(self, tenant: str) -> None:
        """Line a tenant up with its next service for which there is room.

        Tenants are ordered by who is owed its quota, then by the share that each has with the
        replica in the very pool where it would be: what is charged differs between them.
        """
        queue, books = self._queues[tenant], self._books
        while queue:
            claim = books.claims[queue[0][-1]]
            pool = self._open(claim)
            if pool is not None:
                share = books.share(tenant, books.charge(claim, pool))
                heapq.heappush(self._line, (not books.owed(claim, pool), share, tenant, pool))
                return
            heapq.heappop(queue)

    def _open(self, claim: Claim) -> str | None:
        """Return the pool for the next replica of a service, or None."""
        options = self._options[claim.key]
        allowed = [p for p in options if self._books.allowed(claim, p)]
        if not allowed:
            self._limited.add(claim.key)
        # Where a quota is owed, it is taken from there first; and what was begun is not begun anew
        # elsewhere, each time that another place comes free.
        begun = self._begun.get(claim.key, {})
        for pool in sorted(
            allowed, key=lambda p: (not self._books.owed(claim, p), begun.get(p, 0) <= 0)
        ):
            if (claim.key, pool) not in self._full and self._reserve.leaves(claim, pool):
                if _fits(self._books, claim, pool):
                    return pool
                self._full.add((claim.key, pool))
        return None

    def _give(self, n: int, pool: str) -> None:
        """Grant one more replica, unless the room went to another meanwhile."""
        claim = self._books.claims[n]
        if not self._reserve.leaves(claim, pool):
            return
        if not booked(self._books, claim, pool):
            self._full.add((claim.key, pool))
            return
        self._books.give(claim, pool)
        self._reserve.took(claim, pool)
        if claim.key in self._begun:
            self._begun[claim.key][pool] = self._begun[claim.key].get(pool, 0) - 1
        heapq.heappop(self._queues[claim.tenant])
        if self._books.missing(claim) > 0:
            self._queue(n)


def _fits(books: Books, claim: Claim, pool: str) -> bool:
    """Tell whether a replica has room in a pool."""
    there = books.pools[pool]
    return there.spec.elastic or any(True for _ in books.free.fitting(there, claim.shapes[pool]))


def booked(books: Books, claim: Claim, pool: str) -> bool:
    """Book a replica's place; tell whether there is any. An elastic pool brings a node for it."""
    there, shape = books.pools[pool], claim.shapes[pool]
    if there.spec.elastic:
        return True
    node = placement.choose(there, shape, books.free)
    if node is not None:
        books.free.book(node, shape.need, there.spec.resource_name)
    return node is not None
