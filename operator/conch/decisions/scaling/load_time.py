"""How long a replica takes to start: L, the p90 over those that started lately.

A reactive scaler is late by its start-up time, so that time has to be known and not hoped for
(Gandhi et al., AutoScale, ACM TOCS 2012, section 2.1). In real fleets of model servers it spreads:
p50 22.7 s, p90 42.0 s, p99 51.8 s.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from conch.decisions.scaling.load import PoolLoad

DEFAULT_S = 42.0
"""p90 of real fleets, until a model's own is seen."""
REMEMBERED = 50
"""Starts that count, the latest ones: a p90 of fewer is their slowest but few."""
SEED_LASTS = 10
"""Starts seen, from which what was known before no longer counts."""
_ODD = 4.0
"""Times the median: more than that a single start never says."""
_SHORTEST = 1.0


def p90(starts: Sequence[float], known: float | None = None) -> float | None:
    """Return the p90 (nearest rank) of ``starts`` in seconds, None where nothing is known.

    ``known`` is what an earlier operator found: one more start until enough others were seen. A
    pod that was ready once and lost it for a while reads too long, as does one whose image came
    over a slow link: of what differs from the median (Tukey's) by a factor, no more than that
    counts, and the median of few starts includes what is usual.
    """
    seeded = known is not None and len(starts) < SEED_LASTS
    times = sorted([*starts, *([known] if seeded and known is not None else [])])
    if not times:
        return None
    usual = times if seeded or len(starts) >= SEED_LASTS else sorted([*times, DEFAULT_S])
    found = times[math.ceil(0.9 * len(times)) - 1]
    return max(_SHORTEST, min(found, _ODD * usual[(len(usual) - 1) // 2]))


def of_pools(pools: Iterable[PoolLoad], learned: Mapping[str, float]) -> float:
    """Return the load time to count on: the longest of the accelerators in use.

    Before any is in use, and for one that is not known, the longest that is; a default before.
    """
    pools = tuple(pools)
    used = [p.accelerator for p in pools if p.held] or [p.accelerator for p in pools]
    known = [learned[a] for a in used if a in learned]
    others = [learned[p.accelerator] for p in pools if p.accelerator in learned]
    return max(known or others, default=DEFAULT_S)
