"""What a run comes to: fairness over windows, service, utilisation, preemptions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from e2e.bench.fairness.engine import Step

WINDOW = 6 * 3600.0
"""Seconds over which service is compared with entitlement."""
LEAST_ENTITLED = 1.0
"""GPU-seconds in a window below which nothing can be said of a tenant."""


def jain(shares: Sequence[float]) -> float:
    """Return Jain's index of fairness: 1 where all are equal, 1/n where one has everything.

    Jain, Chiu, Hawe: A quantitative measure of fairness and discrimination (DEC-TR-301, 1984).
    """
    squares = sum(x * x for x in shares)
    return sum(shares) ** 2 / (len(shares) * squares) if squares > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Figures:
    """One run: sums in GPU-seconds, by window and tenant."""

    served: tuple[Mapping[str, float], ...]
    entitled: tuple[Mapping[str, float], ...]
    preemptions: int
    capacity_seconds: float
    """GPU-seconds that the fleet had."""
    decisions: int = 0
    seconds: float = 0.0
    """That the run took."""

    @property
    def shares(self) -> list[dict[str, float]]:
        """Service over entitlement, by window, of tenants that were entitled to anything."""
        return [
            {t: served[t] / e for t, e in entitled.items() if e >= LEAST_ENTITLED}
            for served, entitled in zip(self.served, self.entitled, strict=True)
        ]

    @property
    def jains(self) -> list[float]:
        """Jain's index of each window."""
        return [jain(list(shares.values())) for shares in self.shares if shares]

    @property
    def jain_whole(self) -> float:
        """Jain's index of the whole span as one window."""
        entitled = _total(self.entitled)
        served = _total(self.served)
        return jain([served[t] / e for t, e in entitled.items() if e >= LEAST_ENTITLED])

    @property
    def total(self) -> dict[str, float]:
        """Service of each tenant."""
        return _total(self.served)

    @property
    def utilisation(self) -> float:
        """Service over what the fleet had."""
        return sum(self.total.values()) / self.capacity_seconds

    @property
    def preemptions_per_gpu_hour(self) -> float:
        """Preempted replicas by hour of service of one GPU."""
        hours = sum(self.total.values()) / 3600.0
        return self.preemptions / hours if hours > 0 else 0.0

    def worst_against(self, static: "Figures") -> tuple[float, str]:
        """Return who lost most against its static slice: percent, below 0 a gain, and the tenant."""
        mine, alone = self.total, static.total
        losses = {t: 100.0 * (1.0 - mine[t] / s) for t, s in alone.items() if s > 0}
        worst = max(losses, key=lambda t: (losses[t], t))
        return losses[worst], worst


@dataclass(slots=True)
class Adder:
    """Adds up steps by window."""

    served: list[dict[str, float]] = field(default_factory=list)
    entitled: list[dict[str, float]] = field(default_factory=list)
    preemptions: int = 0

    def add(self, step: Step) -> None:
        """Add one step; it lies in the window in which it begins."""
        window = int(step.start // WINDOW)
        while len(self.served) <= window:
            self.served.append(dict.fromkeys(step.served, 0.0))
            self.entitled.append(dict.fromkeys(step.served, 0.0))
        self.preemptions += step.preempted
        for tenant, seconds in step.served.items():
            self.served[window][tenant] += seconds
            self.entitled[window][tenant] += step.entitled[tenant]

    def figures(self, capacity_seconds: float, *, decisions: int, seconds: float) -> Figures:
        """Return the sums."""
        return Figures(
            tuple(self.served),
            tuple(self.entitled),
            self.preemptions,
            capacity_seconds,
            decisions,
            seconds,
        )


def mean_jain(figures: Figures) -> float:
    """Return the mean of Jain's index over the windows."""
    return fmean(figures.jains)


def _total(windows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for window in windows:
        for tenant, seconds in window.items():
            total[tenant] = total.get(tenant, 0.0) + seconds
    return total
