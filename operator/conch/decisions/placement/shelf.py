"""The nodes that shapes of one kind may use, in the order of what is left of them."""

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from conch.decisions.fleet import Amounts, Node


class Shelf:
    """The nodes of a pool that shapes of one kind may use at all, the fullest first.

    Those that show signs of failing come after all others.
    """

    def __init__(self, nodes: Iterable[Node], left: Callable[[Node], Amounts]) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._left = left
        self._places = {node.name: self._place(node) for node in self._nodes.values()}
        self._order = sorted(self._places.values())
        self._moved: set[str] = set()

    def _place(self, node: Node) -> tuple[int, float, str]:
        left = self._left(node)
        return left.gpus, left.cpu, node.name

    def moved(self, node: str) -> None:
        """Note that a node's books changed."""
        if node in self._nodes:
            self._moved.add(node)

    def fitting(self, need: Amounts) -> Iterator[tuple[Node, Amounts]]:
        """Yield the nodes that take ``need`` with what they have left, the tightest fit first."""
        self._settle()
        start = bisect_left(self._order, (need.gpus, -math.inf, ""))
        shunned = list[Node]()
        for _, _, name in islice(self._order, start, None):
            node = self._nodes[name]
            if node.signs:
                shunned.append(node)
                continue
            left = self._left(node)
            if left.covers(need):
                yield node, left
        for node in shunned:
            left = self._left(node)
            if left.covers(need):
                yield node, left

    def _settle(self) -> None:
        for name in self._moved:
            del self._order[bisect_left(self._order, self._places[name])]
            self._places[name] = self._place(self._nodes[name])
            insort(self._order, self._places[name])
        self._moved.clear()
