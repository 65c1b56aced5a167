"""The replicas of a simulated service: created, ready, drained, lost; and what they cost."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from conch.simulate.engine import Station
from conch.simulate.load_times import LoadTimes

SETTLE = 3.0
"""Seconds that a replica is kept between the end of its traffic and its own
(conch.decisions.replicas.DRAIN_SETTLE_S)."""
NOTICE = 40.0
"""Seconds until Kubernetes takes a silent node for lost (its node monitor's grace period)."""

Span = tuple[float, float]
"""From, until, in seconds."""


@dataclass(frozen=True)
class Failures:
    """Nodes that vanish with their replicas, each after an exponentially distributed time."""

    mean_seconds: float = math.inf
    """Until a node fails."""
    replicas_per_node: int = 4


@dataclass
class _Replica:
    number: int
    created: float
    ready_at: float
    node: int


@dataclass
class Fleet:
    """The replicas of a service. Times are in seconds and go only forward."""

    station: Station
    load_times: LoadTimes
    failures: Failures
    random: np.random.Generator
    _alive: list[_Replica] = field(default_factory=list)
    """In the order of their creation; also those on a node that vanished and isn't missed yet."""
    _paid: list[Span] = field(default_factory=list)
    _born: int = 0
    _doomed: list[tuple[float, int]] = field(default_factory=list)
    """(moment, node) of failures to come, a heap."""
    _silent: list[tuple[float, int]] = field(default_factory=list)
    """(moment that it is noticed, replica) of what vanished."""

    @property
    def held(self) -> int:
        """Replicas that are there as far as Kubernetes knows, ready or not."""
        return len(self._alive)

    def ready(self, now: float) -> int:
        """Return how many of them serve."""
        return sum(r.ready_at <= now for r in self._alive)

    def loaded(self, since: float, now: float) -> tuple[float, ...]:
        """Return the load times (s) of those that became ready after ``since``."""
        return tuple(r.ready_at - r.created for r in self._alive if since < r.ready_at <= now)

    def resize(self, wanted: int, now: float, *, warm: bool = False) -> bool:
        """Create or drain replicas; ``warm`` ones are ready at once. Return whether any was."""
        held = self.held
        if wanted > held:
            self._grow(wanted - held, now, warm=warm)
        elif wanted < held:
            self._shrink(held - wanted, now)
        return wanted != held

    def _grow(self, count: int, now: float, *, warm: bool) -> None:
        for _ in range(count):
            node, rank = divmod(self._born, self.failures.replicas_per_node)
            if rank == 0 and math.isfinite(self.failures.mean_seconds):
                end = now + self.random.exponential(self.failures.mean_seconds)
                heapq.heappush(self._doomed, (end, node))
            load = 0.0 if warm else self.load_times.draw(self.random)
            self._alive.append(_Replica(self._born, now, now + load, node))
            self.station.add(self._born, now + load)
            self._born += 1

    def _shrink(self, count: int, now: float) -> None:
        """Take the newest that start, then the newest that serve."""
        lost = {number for _, number in self._silent}
        ranked = sorted(
            (r for r in self._alive if r.number not in lost),
            key=lambda r: (r.ready_at > now, r.created, r.number),
            reverse=True,
        )
        for replica in ranked[:count]:
            end = self.station.drain(replica.number, now)
            self._end(replica, end + SETTLE if replica.ready_at <= now else end)

    def _end(self, replica: _Replica, moment: float) -> None:
        self._alive.remove(replica)
        self._paid.append((replica.created, moment))

    def fail(self, now: float) -> None:
        """Have the nodes vanish whose time has come; they are missed some time later."""
        while self._doomed and self._doomed[0][0] <= now:
            moment, node = heapq.heappop(self._doomed)
            self.station.advance(moment)
            lost = [r.number for r in self._alive if r.node == node]
            self.station.lose(lost, moment)
            self._silent += [(moment + NOTICE, number) for number in lost]

    def miss(self, now: float) -> None:
        """Strike off what vanished long enough ago."""
        missed = {number for moment, number in self._silent if moment <= now}
        self._silent = [s for s in self._silent if s[1] not in missed]
        for replica in [r for r in self._alive if r.number in missed]:
            self._end(replica, now)

    def cost(self, now: float, judged: Sequence[Span]) -> float:
        """Return the replica-seconds within the ``judged`` spans, until now."""
        spans = self._paid + [(r.created, now) for r in self._alive]
        return sum(
            max(0.0, min(end, until) - max(begin, since))
            for begin, end in spans
            for since, until in judged
        )
