"""What is free while one pass hands out nodes."""

from collections.abc import Iterator

from conch.decisions.fleet import Amounts, Node, Pool, Shape
from conch.decisions.placement.filters import bar, obstacle
from conch.decisions.placement.shelf import Shelf


class Ledger:
    """What is still free while one pass hands out nodes; each booking counts at once.

    A pass sees one state of the fleet: a pool's name stands for the same nodes throughout.
    """

    def __init__(self) -> None:
        self._booked: dict[str, Amounts] = {}
        self._left: dict[str, dict[str, Amounts]] = {}
        """What is left, by the name of the GPU resource and node; looked up again once booked."""
        self._shelves: dict[tuple[str, str], Shelf] = {}
        self._sentences: dict[tuple[str, str, Amounts], str] = {}

    def free(self, node: Node, pool: Pool) -> Amounts:
        """Return what is left of a node after the bookings of this pass."""
        known = self._left.setdefault(pool.spec.resource_name, {})
        left = known.get(node.name)
        if left is None:
            left = node.free(pool.spec.resource_name) - self._booked.get(node.name, Amounts())
            known[node.name] = left
        return left

    def book(self, node: str, need: Amounts) -> None:
        """Take ``need`` from a node."""
        self._booked[node] = self._booked.get(node, Amounts()) + need
        self._changed(node)

    def release(self, node: str, need: Amounts) -> None:
        """Give ``need`` back to a node: what leaves it is free for others."""
        self._booked[node] = self._booked.get(node, Amounts()) - need
        self._changed(node)

    def _changed(self, node: str) -> None:
        for known in self._left.values():
            known.pop(node, None)
        for shelf in self._shelves.values():
            shelf.moved(node)
        self._sentences.clear()

    def fitting(self, pool: Pool, shape: Shape) -> Iterator[tuple[Node, Amounts]]:
        """Yield the nodes that take a replica with what they have left, the tightest fit first."""
        key = (pool.name, shape.suits)
        if key not in self._shelves:
            nodes = [n for n in pool.nodes if bar(n, shape) is None]
            self._shelves[key] = Shelf(nodes, lambda node: self.free(node, pool))
        return self._shelves[key].fitting(shape.need)

    def sentence(self, pool: Pool, shape: Shape) -> str:
        """Return why a pool takes no more replicas; made once while the books stay as they are."""
        key = (pool.name, shape.suits, shape.need)
        if key not in self._sentences:
            self._sentences[key] = _sentence(pool, shape, self)
        return self._sentences[key]


def _sentence(pool: Pool, shape: Shape, ledger: Ledger) -> str:
    if not pool.nodes:
        labels = ", ".join(f"{k}={v}" for k, v in sorted(pool.spec.node_selector.items()))
        return f"pool {pool.name}: no node carries {labels}"
    seen: dict[str, int] = {}
    for node in pool.nodes:
        why = obstacle(node, shape, ledger.free(node, pool)) or "has room"
        seen[why] = seen.get(why, 0) + 1
    parts = "; ".join(f"{count} {why}" for why, count in sorted(seen.items()))
    nodes = "1 node" if len(pool.nodes) == 1 else f"{len(pool.nodes)} nodes"
    return f"pool {pool.name}, {nodes}: {parts}"
