"""Room that moves under way make for a replica that waits: others don't get it meanwhile.

The planner says at each look what is to be kept, and what it does not say again is free to all. Who
else waits, and is granted what it waits for, is kept from that room for ``KEPT_S`` at most; moves that
people ask for, and nodes that they drain, are not.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from conch.decisions.fleet import Amounts, Node, Pool, ServiceKey
from conch.decisions.migration import Reserved
from conch.decisions.placement import Ledger

KEPT_S = 60.0
"""So long room is kept from one that waits, and by what the planner said last: about as long as a
move takes."""


class KeptRoom:
    """What the planner wants kept, and since when services wait."""

    def __init__(self) -> None:
        self._rooms: tuple[Reserved, ...] = ()
        self._said = 0.0
        self._waits: dict[ServiceKey, float] = {}

    def keep(self, rooms: Sequence[Reserved], waiting: Iterable[ServiceKey], now: float) -> None:
        """Keep these from now on, and no others; ``now`` is in seconds since the epoch.

        ``waiting``: services with replicas that are granted and have no place.
        """
        self._rooms, self._said = tuple(rooms), now
        self._waits = {key: self._waits.get(key, now) for key in waiting}

    def begin(
        self, ledger: Ledger, pools: Iterable[Pool], now: float, first: Iterable[ServiceKey] = ()
    ) -> "Keeping":
        """Book in a tick's ledger what is free of the room; ``now`` is in seconds since the epoch.

        ``first``: services from which nothing is kept.
        """
        if not self._rooms or not 0.0 <= now - self._said < KEPT_S:
            return Keeping(ledger, (), frozenset())
        nodes = {(p.name, n.name): (p, n) for p in pools for n in p.nodes}
        there = [(r, *nodes[r.pool, r.node]) for r in self._rooms if (r.pool, r.node) in nodes]
        impatient = (key for key, since in self._waits.items() if now - since >= KEPT_S)
        return Keeping(ledger, there, frozenset({*impatient, *first}))


@dataclass(eq=False)
class _Booked:
    """What of a room is booked now."""

    room: Reserved
    pool: Pool
    node: Node
    amounts: Amounts = field(default_factory=Amounts)

    def book(self, ledger: Ledger) -> None:
        free, need = ledger.free(self.node, self.pool), self.room.need
        self.amounts = Amounts(
            max(0, min(free.gpus, need.gpus)),
            max(0.0, min(free.cpu, need.cpu)),
            max(0.0, min(free.memory, need.memory)),
            max(0, min(free.pods, need.pods)),
        )
        ledger.book(self.node.name, self.amounts, self.pool.spec.resource_name)

    def release(self, ledger: Ledger) -> None:
        ledger.release(self.node.name, self.amounts, self.pool.spec.resource_name)


class Keeping:
    """The bookings of one tick."""

    def __init__(
        self,
        ledger: Ledger,
        rooms: Iterable[tuple[Reserved, Pool, Node]],
        first: frozenset[ServiceKey],
    ) -> None:
        """``first``: services from which nothing is kept."""
        self._ledger, self._first = ledger, first
        self._booked = [_Booked(*room) for room in rooms]
        for one in self._booked:
            one.book(ledger)

    def open_to(self, key: ServiceKey) -> AbstractContextManager[None]:
        """Let a service see what is not kept from it, as long as the context lasts."""
        mine = [b for b in self._booked if b.room.service == key or key in self._first]
        return self._opened(mine) if mine else contextlib.nullcontext()

    @contextlib.contextmanager
    def _opened(self, mine: Sequence[_Booked]) -> Iterator[None]:
        for one in mine:
            one.release(self._ledger)
        before = [self._ledger.free(one.node, one.pool) for one in mine]
        try:
            yield
        finally:
            for one, free in zip(mine, before, strict=True):
                if self._ledger.free(one.node, one.pool) == free:
                    one.book(self._ledger)
                else:
                    self._booked.remove(one)  # it was taken

    def end(self) -> None:
        """Take all bookings back: what follows sees what is really free."""
        for one in self._booked:
            one.release(self._ledger)
        self._booked.clear()
