"""What sharing is decided on: tenants, what their services hold and wish for; and its answer."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from conch.api.conditions import Reason
from conch.decisions.fleet import ServiceKey, Shape
from conch.decisions.placement import Ledger


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant; quota and limit are GPUs by accelerator."""

    name: str
    weight: float = 1.0
    quota: Mapping[str, float] = field(default_factory=dict)
    limit: Mapping[str, float] = field(default_factory=dict)
    """No limit where an accelerator is not named."""
    preemptible: bool = True
    borrowing: bool = True
    lending: bool = True
    usage: float = 0.0
    """Decayed mean of what it held until now, in GPUs of relative speed 1, with the entry penalty."""

    def most(self, accelerator: str) -> float:
        """Return the GPUs of an accelerator that it may have at most."""
        limit = self.limit.get(accelerator, float("inf"))
        if self.borrowing and self.preemptible:
            return limit
        return min(limit, self.quota.get(accelerator, 0.0))


@dataclass(frozen=True, slots=True)
class Holding:
    """One replica that holds GPUs, or is bound to; not one that drains."""

    id: str
    """UID of its pod."""
    pool: str
    node: str | None
    created: float
    """Seconds since the epoch."""
    worth: int = 3
    """What it is to its service: 3 serves, 2 starts, 1 is on its way out; less goes first."""


@dataclass(frozen=True)
class Claim:
    """One service: what it holds, and what it wishes for."""

    key: ServiceKey
    tenant: str
    wished: int
    """Replicas, within the service's own bounds."""
    pools: tuple[str, ...]
    """Names of the pools that it may use, the preferred first."""
    shapes: Mapping[str, Shape]
    """By pool: what a replica asks of a node."""
    rates: Mapping[str, float] = field(default_factory=dict)
    """By pool: items a second that one replica serves there; the pools' speeds where empty."""
    indifferent: bool = False
    """Its user gave no order of pools or accelerators."""
    held: tuple[Holding, ...] = ()
    """Of the revision that is to be."""
    surplus: tuple[Holding, ...] = ()
    """Of other revisions: charged, and nobody's to take until the revision that is to be took over."""
    begun: Mapping[str, int] = field(default_factory=dict)
    """By pool: replicas asked for there that have no place yet; they stay with it where they can."""
    priority: int = 0
    created: str = ""
    """When the service was made (ISO 8601); among equals the older comes first."""
    load_seconds: float = 42.0
    """L: from created to ready."""

    @cached_property
    def victims(self) -> tuple["Victim", ...]:
        """What could be taken from it: its replicas that have a node, and whose place is known."""
        return tuple(
            Victim(self, h) for h in self.held if h.node is not None and h.pool in self.shapes
        )

    @cached_property
    def held_by_pool(self) -> Mapping[str, int]:
        """How many replicas it holds in each pool."""
        return Counter(h.pool for h in self.held)

    @cached_property
    def surplus_by_pool(self) -> Mapping[str, int]:
        """How many replicas of other revisions it holds in each pool."""
        return Counter(h.pool for h in self.surplus)


@dataclass(frozen=True, slots=True)
class Victim:
    """A replica that could go, and whose it is."""

    claim: Claim
    holding: Holding


@dataclass(frozen=True, slots=True)
class Grant:
    """What one service may have now."""

    replicas: Mapping[str, int]
    """By pool, at most."""
    given_up: frozenset[str] = frozenset()
    """UIDs of pods that have to leave, since others are entitled to their place."""
    reason: Reason | None = None
    """Why it gets no more; None where it has all that it wishes for, or nothing is free."""
    message: str = ""
    """The same in words, with the numbers."""

    @property
    def total(self) -> int:
        """Replicas in all pools."""
        return sum(self.replicas.values())


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a tenant stands. All but ``waiting`` in GPUs of relative speed 1."""

    allocated: float
    """What its replicas hold now."""
    entitlement: float
    demand: float
    waiting: int = 0
    """Replicas wished for and not granted."""

    @property
    def share(self) -> float | None:
        """Allocation over entitlement; None where it is entitled to nothing."""
        return self.allocated / self.entitlement if self.entitlement > 0 else None


@dataclass(frozen=True)
class Shares:
    """The answer: grants by service, and where each tenant stands."""

    grants: Mapping[ServiceKey, Grant]
    standings: Mapping[str, Standing]
    free: Ledger = field(default_factory=Ledger, compare=False)
    """What is left for nobody yet, once all that is granted is had and all that goes is gone."""
