"""What the planner of migrations looks at: frozen facts about replicas, services and what waits."""

from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from conch.decisions.fleet import Node, Pool, ServiceKey, Shape
from conch.decisions.placement import Ledger

_K = TypeVar("_K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Option:
    """A pool that suits a service."""

    pool: str
    shape: Shape
    """What one replica asks there."""
    rank: int = 0
    """Its place in the order that the user wrote; pools that the user did not tell apart have the
    same one."""
    speed: float = 1.0
    """What one replica does there, relative to its speed elsewhere."""
    price: float | None = None
    """Of one replica an hour, in the currency of the pools; None: not known."""


@dataclass(frozen=True)
class MovableService:
    """A service whose replicas may be moved."""

    key: ServiceKey
    options: tuple[Option, ...]
    """The preferred first; besides those where it is, only such as shares leave it room in."""
    held: str | None = None
    """Why none of its replicas moves now, in words: it is paused, is being updated, not all of it
    answers (but for what moves), its tenant has no GPU more for a surge."""
    late: float | None = None
    """Its slowest percentile over the objective: above 1 it is missed. None: no data, no objective."""
    busy: float | None = None
    """Share of the time in which its replicas compute, 0 to 1; None: no data."""
    steady_since: float | None = None
    """Since when ``late`` and ``busy`` have been much as they are now (seconds since the epoch)."""
    standby: int = 0
    """Replicas beyond what the load asks for."""
    too_slow: Mapping[str, float] = field(default_factory=dict)
    """Pools where it has missed its objective, with when it was last seen to (s since the epoch)."""

    @cached_property
    def by_pool(self) -> Mapping[str, Option]:
        """Its options by the pool's name."""
        return {o.pool: o for o in self.options}


@dataclass(frozen=True, slots=True)
class Replica:
    """A replica that has a node. Those that leave already, or are moving, are open moves besides."""

    service: ServiceKey
    pod: str
    uid: str
    pool: str
    node: str
    shape: Shape
    load_seconds: float
    """From creation to the first answer, of its model on this accelerator (s)."""
    since: float
    """When it was created or last moved, the later (seconds since the epoch)."""
    ready: bool = True
    late: float | None = None
    """Its own slowest percentile over the objective; None: no data."""
    busy: float | None = None
    """Share of the time in which it computes, 0 to 1; None: no data."""
    disturbed: bool = False
    """It, or one whose place it took, was moved away from busy neighbours: it is never moved beside
    others again, nor are others beside it."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Replicas of a service that are granted to it and have no place; what comes first is first."""

    service: ServiceKey
    options: tuple[Option, ...]
    count: int = 1


@dataclass(frozen=True, slots=True)
class OpenMove:
    """A move under way. The books hold its old place, and the new one too once that is chosen."""

    uid: str
    """Of the replica that leaves."""
    successor: str | None = None
    """UID of the replica that takes its place, once that is there."""
    asked: bool = False
    """By a person or a drain: it counts against no budget."""


@dataclass(frozen=True)
class MovableFleet:
    """The fleet at one moment."""

    pools: Sequence[Pool]
    ledger: Ledger
    """What is free now, with what is popular; it is copied, and stays as it is."""
    services: Mapping[ServiceKey, MovableService]
    replicas: Sequence[Replica]
    """All that take place on nodes."""
    waiting: Sequence[Waiting] = ()
    open: Sequence[OpenMove] = ()
    left: Collection[str] = frozenset()
    """Nodes that replicas left a short while ago as they seemed to fail: nobody is moved there now."""

    @cached_property
    def pool_of(self) -> Mapping[str, Pool]:
        """Pools by name."""
        return {p.name: p for p in self.pools}

    @cached_property
    def nodes(self) -> Mapping[str, Node]:
        """Nodes by name."""
        return {n.name: n for p in self.pools for n in p.nodes}

    @cached_property
    def by_uid(self) -> Mapping[str, Replica]:
        """Replicas by UID."""
        return {r.uid: r for r in self.replicas}

    @cached_property
    def by_node(self) -> Mapping[str, Sequence[Replica]]:
        """The replicas of each node, by pod name."""
        return _grouped(self._in_order, lambda r: r.node)

    @cached_property
    def by_pool(self) -> Mapping[str, Sequence[Replica]]:
        """The replicas of each pool, by pod name."""
        return _grouped(self._in_order, lambda r: r.pool)

    @cached_property
    def by_service(self) -> Mapping[ServiceKey, Sequence[Replica]]:
        """The replicas of each service, by pod name."""
        return _grouped(self._in_order, lambda r: r.service)

    @cached_property
    def moving(self) -> Mapping[str, OpenMove]:
        """Open moves by the UID of the replica that leaves."""
        return {m.uid: m for m in self.open}

    @cached_property
    def _in_order(self) -> list[Replica]:
        return sorted(self.replicas, key=lambda r: (r.service, r.pod, r.uid))


def _grouped(
    replicas: Iterable[Replica], key: Callable[[Replica], _K]
) -> Mapping[_K, Sequence[Replica]]:
    found: dict[_K, list[Replica]] = {}
    for one in replicas:
        found.setdefault(key(one), []).append(one)
    return found
