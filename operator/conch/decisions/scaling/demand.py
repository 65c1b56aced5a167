"""How many items a second a service is asked for.

Arrivals are what was answered or failed, and the change of what waits: completions alone show
77 a second with 8 callers and 79 with 32. One odd sample moves nothing: of a sample only that
counts which its neighbours say too (the median of three, Tukey's running median), unless two
signals of other kinds confirm it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

BUSY, QUEUE, PENDING, LATE = 1, 2, 4, 8
"""Signs that there are too few replicas, as bits."""
SHORT = 1 / 6
"""Of the window: the recent part that alone may raise demand."""
SURE = 3.0
"""Standard deviations that the recent part must be above the mean, or it is chance."""
SETTLE = 30.0
"""Seconds, at least, in which a backlog is to be worked off."""
_MOST = 1e12


@dataclass(frozen=True, slots=True)
class Door:
    """What the front door counted at one scrape of it."""

    time: float
    under_way: float
    """Requests."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Arrivals between two scrapes of all pods."""

    time: float
    """When the newest of them was scraped."""
    rate: float
    """Items a second."""
    backlog: float
    """Items that wait."""
    signs: int
    """Bits of BUSY, QUEUE, PENDING, LATE."""
    level: float
    """``rate`` without what only this sample says."""
    door: Door | None = None
    """What the front door had counted by then, where that is known."""


def sampled(
    samples: tuple[Sample, ...],
    *,
    time: float,
    arrivals: float,
    backlog: float,
    signs: int,
    window: float,
    direct: float | None = None,
    door: Door | None = None,
) -> tuple[Sample, ...]:
    """Return the samples of the last ``window`` seconds after one more.

    ``direct`` is what the front door says that came in, in items a second, None where it says
    nothing.
    """
    since = time - window
    kept = tuple([s for s in samples if since <= s.time < time])
    if not kept:
        return (Sample(time, min(arrivals, _MOST), backlog, signs, 0.0, door),)
    last = kept[-1]
    change = (backlog - last.backlog) / (time - last.time)
    rate = min(max(0.0, arrivals + change if direct is None else direct), _MOST)
    before = kept[-2].rate if len(kept) > 1 else min(last.rate, rate)
    settled = _median(before, last.rate, rate)
    if settled != last.level:
        kept = (*kept[:-1], replace(last, level=settled))
    return (*kept, Sample(time, rate, backlog, signs, min(rate, last.rate), door))


def _median(one: float, two: float, three: float) -> float:
    return max(min(one, two), min(max(one, two), three))


@dataclass(frozen=True, slots=True)
class Demand:
    """What a service is asked for, in items a second."""

    mean: float = 0.0
    """Over the window."""
    lately: float = 0.0
    """Over its last part."""
    recent: float = 0.0
    """``lately``, or the mean where that is higher by chance at most; or a confirmed jump."""
    work_off: float = 0.0
    """To work off what waits."""

    @property
    def total(self) -> float:
        """What to serve now."""
        return max(self.mean, self.recent) + self.work_off


def demand(
    samples: Sequence[Sample], *, window: float, load_seconds: float, dispersion: float = 1.0
) -> Demand:
    """Return what to plan for: the mean, what has risen above it for sure, and the backlog.

    ``dispersion`` is the variance over the mean of the items between two scrapes.
    """
    if not samples:
        return Demand()
    mean = sum([s.level for s in samples]) / len(samples)
    last = _recent(samples, window)
    lately = sum([s.level for s in last]) / len(last)
    apart = _apart(samples, window)
    items = max(mean, 1.0 / window) * apart
    chance = max(1.0, dispersion) / items
    sure = lately > mean * (1.0 + SURE * math.sqrt(chance / len(last)))
    return Demand(
        mean=mean,
        lately=lately,
        recent=max(lately if sure else mean, _jump(samples)),
        work_off=_backlog(samples) / max(SETTLE, load_seconds),
    )


def whole(samples: Sequence[Sample], window: float) -> bool:
    """Return whether the samples cover the window, but for one at each end."""
    return len(samples) > 1 and samples[-1].time - samples[0].time >= window - 2 * _apart(
        samples, window
    )


def _apart(samples: Sequence[Sample], window: float) -> float:
    """Return the seconds between two samples, on average; the window where there is one only."""
    if len(samples) < 2:
        return window
    return (samples[-1].time - samples[0].time) / (len(samples) - 1)


def pressed(samples: Sequence[Sample], *, alone: int = QUEUE | PENDING | LATE) -> bool:
    """Return whether there are too few replicas by two signs, or by one in two samples.

    At least one has to be among ``alone``: busy instances that keep nobody waiting are well used.
    """
    if not samples:
        return False
    now = samples[-1].signs
    before = samples[-2].signs if len(samples) > 1 else 0
    return bool(now & alone) and (now.bit_count() > 1 or bool(now & before & alone))


def _recent(samples: Sequence[Sample], window: float) -> Sequence[Sample]:
    since = samples[-1].time - SHORT * window
    first = len(samples) - min(2, len(samples))
    while first > 0 and samples[first - 1].time > since:
        first -= 1
    return samples[first:]


def _jump(samples: Sequence[Sample]) -> float:
    """Return the last rate when signs of other kinds confirm it, else nothing."""
    if not pressed(samples):
        return 0.0
    last = samples[-1]
    # Once a second sample tells of pressure too, both have to agree on how much.
    return last.level if pressed(samples[:-1]) else last.rate


def _backlog(samples: Sequence[Sample]) -> float:
    last = samples[-1].backlog
    if pressed(samples):
        return last
    return min(last, samples[-2].backlog) if len(samples) > 1 else 0.0
