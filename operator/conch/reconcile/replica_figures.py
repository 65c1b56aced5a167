"""Latency and use of single replicas for long enough to act on: one odd sample moves nobody.

What Prometheus tells of pods (metrics/replicas.py) is asked for while some service misses its
objective, and kept for as many scrapes as are needed; another operator asks anew.
"""

from collections.abc import Mapping

from conch.metrics.queries import LOOKBACK
from conch.metrics.replicas import PodName, ReplicaSignals

PACE_S = 30.0
"""Between two questions to Prometheus, while somebody is late."""
HELD_S = 90.0
"""For so long a replica has to be late, by one scrape after the other. Triton's percentiles look back
about a minute: one slow request is told for so long."""


class ReplicaFigures:
    """The last scrapes of each pod, the oldest at least ``HELD_S`` before the newest, once there are."""

    def __init__(self) -> None:
        self._looks: dict[PodName, tuple[ReplicaSignals, ...]] = {}

    def take(self, found: Mapping[PodName, ReplicaSignals], now: float) -> None:
        """Take over what was told just now; ``now`` is in seconds since the epoch.

        A pod of which nothing is told keeps what is known of it until that is too old.
        """
        for name, new in found.items():
            self._looks[name] = _joined(self._looks.get(name, ()), new)
        self._looks = {n: k for n, k in self._looks.items() if now - k[-1].scraped <= LOOKBACK}

    def late(
        self, name: PodName, objective: float, now: float, *, moves: bool = False
    ) -> float | None:
        """Return a pod's slowest percentile over the objective (s): what it was at least, above 1.

        Where it met the objective all the time it is what it was at most. None: it is not known, not
        for long enough, or was now this and now that. Once it ``moves`` for it, late now and then is
        late: what was begun is not begun again and again.
        """
        looks = self._steady(name, now)
        known = [look.p99 / objective for look in looks if look.p99 is not None]
        if not looks or len(known) < len(looks):
            return None
        if min(known) > 1:
            return min(known)
        return max(known) if moves or max(known) <= 1 else None

    def busy(self, name: PodName, instances: int, now: float) -> float | None:
        """Return the share of the time in which a pod computed lately, 0 to 1; None: it is not known.

        ``instances`` of the model run in each pod.
        """
        looks = self._steady(name, now)
        known = [min(1.0, k.busy / max(1, instances)) for k in looks if k.busy is not None]
        if not looks or len(known) < len(looks):
            return None
        return sum(known) / len(known)

    def _steady(self, name: PodName, now: float) -> tuple[ReplicaSignals, ...]:
        """Return the scrapes of a pod; none where they are too old, or all of a short time."""
        looks = self._looks.get(name, ())
        if not looks or now - looks[-1].scraped > LOOKBACK:
            return ()
        return looks if looks[-1].scraped - looks[0].scraped >= HELD_S else ()


def _joined(looks: tuple[ReplicaSignals, ...], new: ReplicaSignals) -> tuple[ReplicaSignals, ...]:
    """Return the scrapes with a new one, if it is; those before a gap say nothing of what followed."""
    if not looks or new.scraped - looks[-1].scraped > LOOKBACK:
        return (new,)
    if new.scraped <= looks[-1].scraped:
        return looks
    looks = (*looks, new)
    while new.scraped - looks[1].scraped >= HELD_S:
        looks = looks[1:]
    return looks
