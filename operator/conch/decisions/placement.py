"""Which node takes a replica: filter, then the tightest fit; and why none does.

The tightest fit (fewest GPUs left over) keeps whole nodes free for replicas that need many GPUs.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from conch.decisions.fleet import Amounts, Node, Pool, Shape

_EFFECTS = ("NoSchedule", "NoExecute")


def tolerates(tolerations: tuple[Mapping[str, Any], ...], taint: Mapping[str, Any]) -> bool:
    """Tell whether any toleration matches a taint, by the rules of the Kubernetes API."""
    return any(_matches(t, taint) for t in tolerations)


def _matches(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return toleration.get("key") in (None, "", taint.get("key"))
    return toleration.get("key") == taint.get("key") and toleration.get("value", "") == taint.get(
        "value", ""
    )


class _Shelf:
    """The nodes of a pool that shapes of one kind may use at all, the fullest first."""

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
        for _, _, name in islice(self._order, start, None):
            node = self._nodes[name]
            left = self._left(node)
            if left.covers(need):
                yield node, left

    def _settle(self) -> None:
        for name in self._moved:
            del self._order[bisect_left(self._order, self._places[name])]
            self._places[name] = self._place(self._nodes[name])
            insort(self._order, self._places[name])
        self._moved.clear()


class Ledger:
    """What is still free while one pass hands out nodes; each booking counts at once.

    A pass sees one state of the fleet: a pool's name stands for the same nodes throughout.
    """

    def __init__(self) -> None:
        self._booked: dict[str, Amounts] = {}
        self._left: dict[str, dict[str, Amounts]] = {}
        """What is left, by the name of the GPU resource and node; looked up again once booked."""
        self._shelves: dict[tuple[str, str], _Shelf] = {}
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
            self._shelves[key] = _Shelf(nodes, lambda node: self.free(node, pool))
        return self._shelves[key].fitting(shape.need)

    def sentence(self, pool: Pool, shape: Shape) -> str:
        """Return why a pool takes no more replicas; made once while the books stay as they are."""
        key = (pool.name, shape.suits, shape.need)
        if key not in self._sentences:
            self._sentences[key] = _sentence(pool, shape, self)
        return self._sentences[key]


def bar(node: Node, shape: Shape) -> str | None:
    """Return why a node takes no replica of a shape whatever is free, in a few words, or None."""
    if not node.ready:
        return "not ready"
    if not node.schedulable:
        return "cordoned"
    for taint in node.taints:
        if taint.get("effect") in _EFFECTS and not tolerates(shape.tolerations, taint):
            return f"with taint {taint.get('key')}:{taint.get('effect')}, which is not tolerated"
    if any(node.labels.get(k) != v for k, v in shape.node_selector.items()):
        return "outside podTemplate.nodeSelector"
    return None


def obstacle(node: Node, shape: Shape, free: Amounts) -> str | None:
    """Return why a node can't take a replica, in a few words; None when it can."""
    why = bar(node, shape)
    if why is None and not free.covers(shape.need):
        return f"with only {', '.join(free.missing_for(shape.need))} free"
    return why


def choose(pool: Pool, shape: Shape, ledger: Ledger) -> str | None:
    """Return the node of the pool that fits most tightly, or None; ties go by name."""
    first = next(ledger.fitting(pool, shape), None)
    return first[0].name if first else None


def room(pool: Pool, shape: Shape, ledger: Ledger, *, most: int) -> int:
    """Return how many more replicas the pool can take, at most ``most``.

    An elastic pool takes ``most``: its autoscaler brings nodes for pods that wait.
    """
    if pool.spec.elastic:
        return most
    total = 0
    for _, left in ledger.fitting(pool, shape):
        while total < most and left.covers(shape.need):
            left -= shape.need  # noqa: PLW2901 -- what the next replica would find
            total += 1
        if total >= most:
            break
    return total


def explain(pool: Pool, shape: Shape, ledger: Ledger) -> str:
    """Return one sentence on why a pool takes no more replicas."""
    return ledger.sentence(pool, shape)


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
