"""When a service that nobody asks may sleep: by how long its gaps without requests have been.

Gaps are counted by length, older ones less, as in Shahrad et al., Serverless in the Wild, USENIX ATC
2020, section 4.2. A service sleeps once the next request is expected farther away than waking is
worth; where too few such long gaps are known, once it has been idle for as long as that: at most twice
the cost of knowing the future (Karlin et al., Competitive Snoopy Caching, Algorithmica 3, 1988).
"""

import math
from dataclasses import dataclass, replace

SHORTEST = 60.0
"""Seconds of the shortest gap that is counted, and the width of the first bin; each is twice as wide
as the one before."""
BINS = 14
"""The last begins at 5.7 days."""
KEPT = 0.95
"""Weight that gaps keep when another is counted: half of it after 13."""
FEWEST = 3.0
"""Weight of gaps that were at least as long as this one, before they say how much longer it lasts."""
CALLER = 9.0
"""Seconds of a replica that a second of a caller's waiting is worth."""


@dataclass(frozen=True, slots=True)
class Gaps:
    """Gaps between requests, by length."""

    weights: tuple[float, ...] = (0.0,) * BINS
    """Of bins; the first holds gaps from ``SHORTEST`` to twice that, in seconds."""
    asked_at: float | None = None
    """When somebody asked last."""


def asked(gaps: Gaps, now: float) -> Gaps:
    """Return the gaps once somebody asks at ``now`` (s)."""
    if gaps.asked_at is None or not now - gaps.asked_at >= SHORTEST:
        return replace(gaps, asked_at=now)
    place = min(int(math.log2((now - gaps.asked_at) / SHORTEST)), BINS - 1)
    weights = tuple(KEPT * w + (n == place) for n, w in enumerate(gaps.weights))
    return Gaps(weights, asked_at=now)


def idle(gaps: Gaps, now: float) -> float:
    """Return for how many seconds nobody has asked; 0 where nobody ever did."""
    return 0.0 if gaps.asked_at is None else max(0.0, now - gaps.asked_at)


def remaining(gaps: Gaps, seconds: float) -> float | None:
    """Return how long a gap that has lasted ``seconds`` is expected to go on (s); None: unknown."""
    total = lengths = 0.0
    for place, weight in enumerate(gaps.weights):
        begin = SHORTEST * 2.0**place
        if 2.0 * begin > seconds:
            total += weight
            lengths += weight * max(0.0, max(math.sqrt(2.0) * begin, seconds) - seconds)
    return lengths / total if total >= FEWEST else None


def may_sleep(gaps: Gaps, now: float, load_seconds: float) -> bool:
    """Return whether the last replica may go.

    Waking costs a load time (s) of a replica, and lets a caller wait for as long.
    """
    price = (1.0 + CALLER) * load_seconds
    lasted = idle(gaps, now)
    left = remaining(gaps, lasted)
    return lasted >= price if left is None else left >= price
