"""What is free while one pass hands out nodes."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property

import numpy as np

from conch.decisions.fleet import Amounts, Node, Pool, Shape
from conch.decisions.placement.board import Board
from conch.decisions.placement.filters import ZONE, bar, obstacle
from conch.decisions.placement.fragmentation import Demand, Floats, Fragmentation, States
from conch.decisions.placement.shelf import Shelf
from conch.decisions.placement.wish import GPUS_PER_FAILING, GPUS_PER_REPLICA_IN_ZONE, Wish

Workload = Mapping[Amounts, float]
"""What replicas need, with how popular that is; see fragmentation.popular."""


class Ledger:
    """What is still free while one pass hands out nodes; each booking counts at once.

    A pass sees one state of the fleet: a pool's name stands for the same nodes throughout.

    ``workload`` tells which replicas are popular, so that nodes are chosen that keep room for
    those; ``by_pool`` the same by the name of a pool, where replicas need other amounts in one pool
    than in others, such as slices of GPUs. Without either the tightest fit is chosen.
    """

    def __init__(
        self,
        workload: Workload | None = None,
        *,
        by_pool: Mapping[str, Workload] | None = None,
    ) -> None:
        self._workload, self._by_pool = workload or {}, by_pool or {}
        self._measures: dict[str, Fragmentation] = {}
        self._ranked: dict[tuple[str, str], _Ranked] = {}
        self._booked: dict[str, dict[str | None, Amounts]] = {}
        """By node, and by what the devices are."""
        self._left: dict[str, dict[str, Amounts]] = {}
        """What is left, by the name of the GPU resource and node; looked up again once booked."""
        self._shelves: dict[tuple[str, str], Shelf] = {}
        self._sentences: dict[tuple[str, str, Amounts], str] = {}
        self._rooms: dict[tuple[str, str, Amounts], tuple[int, int]] = {}
        """How many replicas fit, and how many were asked for at most."""
        self._moved: list[str] = []

    def copy(self) -> "Ledger":
        """Return a ledger with the same bookings, for trying things out; neither sees the other's."""
        other = Ledger(self._workload, by_pool=self._by_pool)
        other._measures = self._measures  # made from what both have in common
        other._booked = {node: dict(booked) for node, booked in self._booked.items()}
        return other

    def free(self, node: Node, pool: Pool) -> Amounts:
        """Return what is left of a node after the bookings of this pass."""
        known = self._left.setdefault(pool.spec.resource_name, {})
        left = known.get(node.name)
        if left is None:
            resource = pool.spec.resource_name
            left = node.free(resource) - self._taken(node.name, resource)
            known[node.name] = left
        return left

    def _taken(self, node: str, resource: str) -> Amounts:
        """Return what is booked at a node; of devices only those of a resource."""
        total = Amounts()
        for of, amounts in self._booked.get(node, {}).items():
            total += amounts if of in (None, resource) else replace(amounts, gpus=0)
        return total

    def book(self, node: str, need: Amounts, resource: str | None = None) -> None:
        """Take ``need`` from a node.

        A node may have devices of several kinds, such as MIG profiles: ``resource`` tells of which
        these are; None stands for whatever is asked about.
        """
        booked = self._booked.setdefault(node, {})
        booked[resource] = booked.get(resource, Amounts()) + need
        self._changed(node)

    def release(self, node: str, need: Amounts, resource: str | None = None) -> None:
        """Give ``need`` back to a node: what leaves it is free for others."""
        self.book(node, Amounts() - need, resource)

    def measure(self, pool: Pool) -> Fragmentation | None:
        """Return how fragmentation is measured in a pool; None where nothing is popular there."""
        return self._measure(pool)

    @property
    def changes(self) -> int:
        """How many changes the books have had."""
        return len(self._moved)

    def moved(self, since: int) -> list[str]:
        """Return the nodes whose books changed, in order, without the first ``since`` of them."""
        return self._moved[since:]

    def _changed(self, node: str) -> None:
        self._moved.append(node)
        for known in self._left.values():
            known.pop(node, None)
        for shelf in self._shelves.values():
            shelf.moved(node)
        for ranked in self._ranked.values():
            ranked.moved(node)
        self._rooms.clear()
        self._sentences.clear()

    def fitting(self, pool: Pool, shape: Shape) -> Iterator[tuple[Node, Amounts]]:
        """Yield the nodes that take a replica with what they have left, the tightest fit first.

        Nodes that show signs of failing come after all others.
        """
        key = (pool.name, shape.suits)
        if key not in self._shelves:
            nodes = [n for n in pool.nodes if bar(n, shape) is None]
            self._shelves[key] = Shelf(nodes, lambda node: self.free(node, pool))
        return self._shelves[key].fitting(shape.need)

    def room(self, pool: Pool, shape: Shape, most: int) -> int:
        """Return how many replicas fit, at most ``most``; counted once while the books stay."""
        key = (pool.name, shape.suits, shape.need)
        count, asked = self._rooms.get(key, (0, 0))
        if count == asked < most:
            count = self._count(pool, shape, most)
            self._rooms[key] = count, most
        return min(count, most)

    def _count(self, pool: Pool, shape: Shape, most: int) -> int:
        total = 0
        for _, left in self.fitting(pool, shape):
            while total < most and left.covers(shape.need):
                left -= shape.need  # noqa: PLW2901 -- what the next replica would find
                total += 1
            if total >= most:
                break
        return total

    def best(self, pool: Pool, shape: Shape, wish: Wish | None = None) -> str | None:
        """Return the node that should take a replica, or None where none can."""
        if wish is None and not self._popular(pool):
            return next((node.name for node, _ in self.fitting(pool, shape)), None)
        key = (pool.name, shape.suits)
        if key not in self._ranked:
            nodes = [n for n in pool.nodes if bar(n, shape) is None]
            measure = self._measure(pool)
            self._ranked[key] = _Ranked(nodes, lambda node: self.free(node, pool), measure)
        return self._ranked[key].best(shape.need, wish)

    def _popular(self, pool: Pool) -> Workload:
        return self._by_pool.get(pool.name, self._workload)

    def _measure(self, pool: Pool) -> Fragmentation | None:
        """Return the measure of a pool, made when the first replica needs it."""
        name = pool.name if pool.name in self._by_pool else ""
        if name not in self._measures and (popular := self._popular(pool)):
            demands = {Demand.of(need): weight for need, weight in popular.items()}
            self._measures[name] = Fragmentation(demands)
        return self._measures.get(name)

    def sentence(self, pool: Pool, shape: Shape) -> str:
        """Return why a pool takes no more replicas; made once while the books stay as they are."""
        key = (pool.name, shape.suits, shape.need)
        if key not in self._sentences:
            self._sentences[key] = _sentence(pool, shape, self)
        return self._sentences[key]


class _Ranked:
    """The nodes of a pool that shapes of one kind may use at all, with their scores."""

    def __init__(
        self,
        nodes: Iterable[Node],
        left: Callable[[Node], Amounts],
        measure: Fragmentation | None,
    ) -> None:
        self._nodes = sorted(nodes, key=lambda node: node.name)
        self._left = left
        names = [node.name for node in self._nodes]
        self._board = Board(names, States.of(map(left, self._nodes)), measure)
        self._failing = np.flatnonzero([bool(node.signs) for node in self._nodes])
        self._moved: set[int] = set()

    def moved(self, node: str) -> None:
        """Note that a node's books changed."""
        row = self._board.rows.get(node)
        if row is not None:
            self._moved.add(row)

    def best(self, need: Amounts, wish: Wish | None) -> str | None:
        """Return the name of the node with the best score, or None where nothing fits."""
        if self._moved:
            rows = sorted(self._moved)
            self._board.put(rows, States.of(self._left(self._nodes[row]) for row in rows))
            self._moved.clear()
        dislike = self._dislike(need, wish) if wish else None
        if self._failing.size:
            dislike = np.zeros(len(self._nodes)) if dislike is None else dislike
            dislike[self._failing] += GPUS_PER_FAILING
        spot = self._board.best(Demand.of(need), dislike)
        return self._nodes[spot.row].name if spot else None

    def _dislike(self, need: Amounts, wish: Wish) -> Floats:
        """Return by row what load time and neighbours weigh, in GPUs."""
        rows = self._board.rows
        load = wish.load_gpus(need.gpus)
        total = np.full(len(rows), load)
        total[[rows[name] for name in wish.cached if name in rows]] = 0.0
        for name, count in wish.beside.items():
            if name in rows:
                total[rows[name]] += count * wish.neighbour_gpus
        for zone, count in wish.zones.items():
            total[self._zones.get(zone, [])] += count * GPUS_PER_REPLICA_IN_ZONE
        return total

    @cached_property
    def _zones(self) -> dict[str | None, list[int]]:
        """The rows of each zone."""
        found: dict[str | None, list[int]] = {}
        for row, node in enumerate(self._nodes):
            found.setdefault(node.labels.get(ZONE), []).append(row)
        return found


def _sentence(pool: Pool, shape: Shape, ledger: Ledger) -> str:
    if not pool.nodes:
        labels = ", ".join(f"{k}={v}" for k, v in sorted(pool.spec.node_selector.items()))
        return f"pool {pool.name}: no node carries {labels}"
    seen: dict[str, int] = {}
    for node in pool.nodes:
        why = obstacle(node, shape, ledger.free(node, pool)) or _has_room(node)
        seen[why] = seen.get(why, 0) + 1
    parts = "; ".join(f"{count} {why}" for why, count in sorted(seen.items()))
    nodes = "1 node" if len(pool.nodes) == 1 else f"{len(pool.nodes)} nodes"
    return f"pool {pool.name}, {nodes}: {parts}"


def _has_room(node: Node) -> str:
    """Return that a node has room, and why it is taken last where it is."""
    kinds = ", ".join(s.kind for s in node.signs)
    return f"has room but shows {kinds}" if kinds else "has room"
