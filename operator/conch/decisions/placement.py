"""Which node takes a replica: filter, then the tightest fit; and why none does.

The tightest fit (fewest GPUs left over) keeps whole nodes free for replicas that need many GPUs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
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


@dataclass
class Ledger:
    """What is still free while one pass hands out nodes; each booking counts at once."""

    booked: dict[str, Amounts] = field(default_factory=dict)

    def free(self, node: Node, pool: Pool) -> Amounts:
        """Return what is left of a node after the bookings of this pass."""
        return node.free(pool.spec.resource_name) - self.booked.get(node.name, Amounts())

    def book(self, node: str, need: Amounts) -> None:
        """Take ``need`` from a node."""
        self.booked[node] = self.booked.get(node, Amounts()) + need

    def release(self, node: str, need: Amounts) -> None:
        """Give ``need`` back to a node: what leaves it is free for others."""
        self.booked[node] = self.booked.get(node, Amounts()) - need


def obstacle(node: Node, shape: Shape, free: Amounts) -> str | None:
    """Return why a node can't take a replica, in a few words; None when it can."""
    if not node.ready:
        return "not ready"
    if not node.schedulable:
        return "cordoned"
    for taint in node.taints:
        if taint.get("effect") in _EFFECTS and not tolerates(shape.tolerations, taint):
            return f"with taint {taint.get('key')}:{taint.get('effect')}, which is not tolerated"
    if any(node.labels.get(k) != v for k, v in shape.node_selector.items()):
        return "outside podTemplate.nodeSelector"
    short = free.missing_for(shape.need)
    if short:
        return f"with only {', '.join(short)} free"
    return None


def choose(pool: Pool, shape: Shape, ledger: Ledger) -> str | None:
    """Return the node of the pool that fits most tightly, or None; ties go by name."""
    fits = [
        (ledger.free(node, pool), node.name)
        for node in pool.nodes
        if obstacle(node, shape, ledger.free(node, pool)) is None
    ]
    if not fits:
        return None
    return min(fits, key=lambda fit: (fit[0].gpus, fit[0].cpu, fit[1]))[1]


def room(pool: Pool, shape: Shape, ledger: Ledger, *, most: int) -> int:
    """Return how many more replicas the pool can take, at most ``most``.

    An elastic pool takes ``most``: its autoscaler brings nodes for pods that wait.
    """
    if pool.spec.elastic:
        return most
    total = 0
    for node in pool.nodes:
        free = ledger.free(node, pool)
        while total < most and obstacle(node, shape, free) is None:
            free -= shape.need
            total += 1
    return total


def explain(pool: Pool, shape: Shape, ledger: Ledger) -> str:
    """Return one sentence on why a pool takes no more replicas."""
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
