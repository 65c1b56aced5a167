"""Whose a namespace is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claimant:
    """A Tenant as written: its name, when it was made (ISO 8601), and the namespaces it names."""

    name: str
    created: str
    namespaces: tuple[str, ...]


def owners(claimants: Iterable[Claimant]) -> Mapping[str, str]:
    """Return the tenant of each namespace: of those that name it the oldest, then the first by name."""
    found: dict[str, str] = {}
    for claimant in sorted(claimants, key=lambda c: (c.created, c.name)):
        for namespace in claimant.namespaces:
            found.setdefault(namespace, claimant.name)
    return found
