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


def hand_out(books: Books) -> set[ServiceKey]:
    """Grant what fits, one replica at a time; return the services whose limit held them back."""
    return _Handing(books).run()


class _Handing:
    """One run of it."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._reserve = Reserve(books)
        self._options = suited(books)
        self._limited: set[ServiceKey] = set()
        self._queues: dict[str, list[_Turn]] = defaultdict(list)
        for n, claim in enumerate(books.claims):
            if books.missing(claim) > 0 and books.options(claim):
                self._queue(n)

    def _queue(self, n: int) -> None:
        claim = self._books.claims[n]
        served = int(self._books.total(claim) > 0)
        turn = (-claim.priority, served, claim.created, claim.key, n)
        heapq.heappush(self._queues[claim.tenant], turn)

    def run(self) -> set[ServiceKey]:
        line = [self._place_in_line(tenant) for tenant in self._queues]
        heapq.heapify(line)
        while line:
            tenant = heapq.heappop(line)[-1]
            *_, n = heapq.heappop(self._queues[tenant])
            claim = self._books.claims[n]
            if self._give(claim) and self._books.missing(claim) > 0:
                self._queue(n)
            if self._queues[tenant]:
                heapq.heappush(line, self._place_in_line(tenant))
        return self._limited

    def _place_in_line(self, tenant: str) -> tuple[bool, float, str]:
        """Return what tenants are ordered by: who is owed its quota, then the lowest share after."""
        claim = self._books.claims[self._queues[tenant][0][-1]]
        options = self._options[claim.key]
        owed = any(self._books.owed(claim, pool) for pool in options)
        more = self._books.charge(claim, options[0])
        return not owed, self._books.share(tenant, more), tenant

    def _give(self, claim: Claim) -> bool:
        """Grant one more replica where there is room; tell whether there was any."""
        options = self._options[claim.key]
        allowed = [p for p in options if self._books.allowed(claim, p)]
        if not allowed:
            self._limited.add(claim.key)
        # Where a quota is owed, it is taken from there first.
        for pool in sorted(allowed, key=lambda p: not self._books.owed(claim, p)):
            if not self._reserve.leaves(claim, pool):
                continue
            if _book(self._books, claim, pool):
                self._books.give(claim, pool)
                self._reserve.took(claim, pool)
                return True
        return False


def _book(books: Books, claim: Claim, pool: str) -> bool:
    """Book a replica's place; tell whether there is any. An elastic pool brings a node for it."""
    there, shape = books.pools[pool], claim.shapes[pool]
    if there.spec.elastic:
        return True
    node = placement.choose(there, shape, books.free)
    if node is not None:
        books.free.book(node, shape.need, there.spec.resource_name)
    return node is not None
