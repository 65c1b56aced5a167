"""Whom a service belongs to, as other controllers are told by queues and priority classes. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from conch.api.tenant import TenantSpec
from conch.decisions.shares.tenancy import Claimant, owners

Object = dict[str, Any]


@dataclass(frozen=True)
class Belonging:
    """A tenant's name, and the bounds of its services' priorities."""

    tenant: str
    least: int
    most: int

    def within(self, priority: int) -> int:
        """Return the priority, or the bound that it lies beyond."""
        return min(max(priority, self.least), self.most)


def belongings(tenants: Iterable[tuple[Object, TenantSpec]]) -> Mapping[str, Belonging]:
    """Return whom each namespace belongs to."""
    claimants, found = [], {}
    for body, spec in tenants:
        metadata = body["metadata"]
        name = metadata["name"]
        claimants.append(Claimant(name, metadata["creationTimestamp"], tuple(spec.namespaces)))
        found[name] = Belonging(name, spec.priorities.min, spec.priorities.max)
    return {namespace: found[name] for namespace, name in owners(claimants).items()}
