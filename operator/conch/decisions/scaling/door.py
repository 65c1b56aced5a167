"""What came in, as the front door counted it: it sees what waits before it reaches a replica.

It counts for the samples that it has something to say to. Where it was not scraped since the last
one, or surely has not seen all, what replicas answered counts as without a front door: both are of the
same load, so that going over from one to the other is no jump.
"""

import math
from collections.abc import Sequence

from conch.decisions.scaling.demand import SURE, Door, Sample
from conch.decisions.scaling.load import ServiceLoad
from conch.decisions.scaling.measure import Measured, stale_after

APART = 0.5
"""Seconds between two scrapes, at least."""


def at_front_door(
    load: ServiceLoad, samples: Sequence[Sample], measured: Measured, now: float
) -> tuple[Door | None, float | None]:
    """Return what the front door has counted by now, and the items/s that came in by that.

    None for what is not known; ``samples`` are those before, oldest first.
    """
    told = load.arrivals
    if told is None or told.age > stale_after(load):
        return None, None
    door, before = Door(now - told.age, told.under_way), samples[-1].door if samples else None
    if before is None:
        return door, None
    seconds = door.time - before.time
    if seconds < APART:
        return before, None
    came = max(0.0, told.ended + (door.under_way - before.under_way) / seconds)
    served = measured.arrivals / max(measured.items, 1e-9)
    unseen = (served - came) * seconds > SURE * math.sqrt(max(1.0, served * seconds))
    return door, None if unseen else came * measured.items
