"""One service's signals, added up over its pools, and whether they are complete."""

import math
from dataclasses import dataclass

from conch.api.signals import Signals
from conch.decisions.scaling.load import PoolLoad, ServiceLoad

_ABSURD = 1e12
"""No rate, count or time of a service comes near."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Sums over the pools whose signals are usable."""

    age: float
    age_oldest: float
    arrivals: float
    """Items a second that were answered, or failed."""
    backlog: float
    """Items that wait."""
    executions: float
    busy: float
    """Instances that run, on average."""
    mean_execution: float
    queue_seconds: float
    pods: int
    p99: float | None
    items: float = 1.0
    """Of a request, on average."""


@dataclass(frozen=True, slots=True)
class View:
    """What is known of a service, and what is not."""

    measured: Measured | None
    usable: tuple[PoolLoad, ...]
    ready: int
    missing: int
    """Ready replicas that report nothing fresh."""
    absurd: str | None

    @property
    def complete(self) -> bool:
        """Whether every ready replica is known, so that a way down may be judged."""
        known = self.measured is not None and self.ready > 0
        return known and self.missing == 0 and self.absurd is None


def stale_after(load: ServiceLoad) -> float:
    """Return the age (s) from which a sample says nothing about now."""
    return max(30.0, 1.5 * load.window)


def view(load: ServiceLoad) -> View:
    """Return what the pools' signals say together."""
    limit = stale_after(load)
    usable, missing, absurd = [], 0, None
    for pool in load.pools:
        signals = pool.signals
        fault = None if signals is None else _fault(signals)
        absurd = absurd or fault
        if signals is None or fault or not signals.pods_scraped or signals.age > limit:
            missing += pool.ready
            continue
        usable.append(pool)
        missing += max(0, pool.ready - signals.pods_scraped)
    measured = _sum([p.signals for p in usable if p.signals])
    ready = sum([p.ready for p in load.pools])
    return View(measured, tuple(usable), ready, missing, absurd)


def _fault(s: Signals) -> str | None:
    """Return what is wrong with the numbers, whoever made them."""
    if s.absurd is not None:
        return s.absurd
    p99 = s.p99 or 0.0
    numbers = (s.inferences, s.requests, s.failures, s.executions, s.mean_batch, s.mean_execution)
    others = (s.queue_seconds, s.pending, float(s.pods_scraped), p99, s.age, s.age_oldest)
    total = sum(numbers) + sum(others)
    if math.isnan(total) or total > _ABSURD or min(numbers) < 0 or min(others) < 0:
        return "a number that is not finite, negative or beyond reason"
    return None


def _sum(signals: list[Signals]) -> Measured | None:
    if not signals:
        return None
    executions = sum(s.executions for s in signals)
    busy = sum(s.busy for s in signals)
    requests = sum(s.requests for s in signals)
    waited = sum(s.queue_seconds * s.requests for s in signals)
    late = [s.p99 for s in signals if s.p99 is not None]
    return Measured(
        age=min(s.age for s in signals),
        age_oldest=max(max(s.age, s.age_oldest) for s in signals),
        arrivals=sum(s.inferences + s.failures * _items(s) for s in signals),
        backlog=sum(s.pending * _items(s) for s in signals),
        executions=executions,
        busy=busy,
        mean_execution=busy / executions if executions > 0 else 0.0,
        # A mean over requests, never a mean of the pools' means.
        queue_seconds=waited / requests if requests > 0 else 0.0,
        pods=sum(s.pods_scraped for s in signals),
        p99=max(late, default=None),
        items=sum(s.inferences for s in signals) / requests if requests > 0 else 1.0,
    )


def _items(s: Signals) -> float:
    return min(s.items_per_request, _ABSURD)
