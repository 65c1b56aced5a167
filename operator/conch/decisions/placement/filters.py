"""Which nodes may take a replica at all, and in a few words why others may not."""

from collections.abc import Mapping
from typing import Any

from conch.decisions.fleet import Amounts, Node, Shape

ZONE = "topology.kubernetes.io/zone"
"""The label that tells a node's zone."""
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


def unwelcome(node: Node, tolerations: tuple[Mapping[str, Any], ...]) -> str | None:
    """Return by what a node says that it is to be left and takes nobody, in a few words, or None."""
    if not node.schedulable:
        return "cordoned"
    for taint in node.taints:
        if taint.get("effect") in _EFFECTS and not tolerates(tolerations, taint):
            return f"with taint {taint.get('key')}:{taint.get('effect')}, which is not tolerated"
    return None


def bar(node: Node, shape: Shape) -> str | None:
    """Return why a node takes no replica of a shape whatever is free, in a few words, or None."""
    if not node.ready:
        return "not ready"
    if why := unwelcome(node, shape.tolerations):
        return why
    if any(node.labels.get(k) != v for k, v in shape.node_selector.items()):
        return "outside podTemplate.nodeSelector"
    if shape.zones and node.labels.get(ZONE) not in shape.zones:
        return "outside placement.zones"
    return None


def obstacle(node: Node, shape: Shape, free: Amounts) -> str | None:
    """Return why a node can't take a replica, in a few words; None when it can."""
    why = bar(node, shape)
    if why is None and not free.covers(shape.need):
        return f"with only {', '.join(free.missing_for(shape.need))} free"
    return why
