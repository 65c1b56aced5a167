"""What the time of day tells: the load that other days had at this hour, as far as that has held.

A day is cut into buckets, and the highest load in each is kept for some days. What is expected of a
bucket is a high quantile of what it had on the days before. Whether that is any good is measured: when
a bucket is over, the quantile (pinball) loss of what the days before said of it, and of what the bucket
just before it said, are added up (Koenker and Bassett, Regression Quantiles, Econometrica 46, 1978).
Only while the days have lost less, so have more skill than persistence, they are listened to.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

BUCKET = 900.0
"""Seconds."""
DAY = 96
"""Buckets of a day."""
DAYS = 4
"""Days that are kept."""
QUANTILE = 0.75
"""Of the days before, that is expected."""
ENOUGH = 24.0
"""Weight of judged buckets (six hours) before which no skill is claimed."""
KEPT = 1.0 - 1.0 / DAY
"""Weight that the buckets judged so far keep at each new one: a third of it after a day."""
SKILL = 0.1
"""Share of persistence's loss that the days must save to be listened to."""


@dataclass(frozen=True, slots=True)
class Season:
    """The load by time of day; items a second."""

    bucket: int | None = None
    """The one that goes on, counted from the clock's zero."""
    peak: float = 0.0
    """The highest load in it so far."""
    past: tuple[float, ...] = ()
    """The peaks of those before, oldest first; NaN where nothing was measured."""
    weight: float = 0.0
    """Of what was judged."""
    loss: float = 0.0
    """Pinball loss of the days before, weighted."""
    persistence: float = 0.0
    """That of the bucket before."""

    @property
    def skill(self) -> float:
        """How much less the days lose than persistence, as a share; 0 while too little is known."""
        if self.weight < ENOUGH or self.persistence <= 0:
            return 0.0
        return 1.0 - self.loss / self.persistence


def passed(season: Season, now: float, load: float) -> Season:
    """Return the season after a sample of ``load`` (items/s) at ``now`` (s)."""
    bucket = int(now // BUCKET)
    if bucket == season.bucket:
        return season if load <= season.peak else replace(season, peak=load)
    if season.bucket is None or bucket < season.bucket:
        return Season(bucket=bucket, peak=load)  # begun, or the clock went back
    unknown = min(bucket - season.bucket - 1, DAYS * DAY)
    past = (*season.past, season.peak, *([math.nan] * unknown))[-DAYS * DAY :]
    return replace(_judged(season, season.past, season.peak), bucket=bucket, peak=load, past=past)


def remembered(peaks: Sequence[float], bucket: int) -> Season:
    """Return the season that goes on in ``bucket``, after those with ``peaks`` (items/s).

    Oldest first, NaN where nothing is known; judged as if they had just passed.
    """
    past = tuple(peaks[-DAYS * DAY :])
    season = Season(bucket=bucket, past=past)
    if sum(not math.isnan(peak) for peak in past) <= DAY:
        return season
    for n in range(DAY, len(past)):
        season = _judged(season, past[:n], past[n])
    return season


def expected(season: Season, now: float, ahead: float) -> float:
    """Return the load (items/s) of the next ``ahead`` seconds by other days; 0 without skill."""
    if season.bucket is None or season.skill < SKILL:
        return 0.0
    first, last = int(now // BUCKET), int((now + ahead) // BUCKET)
    if first != season.bucket:
        return 0.0
    told = [
        _by_days(season.past, n - season.bucket) for n in range(first, min(last, first + DAY) + 1)
    ]
    return max((t for t in told if t is not None), default=0.0)


def _by_days(past: tuple[float, ...], ahead: int) -> float | None:
    """Return what the days before expect, so many buckets after the one that goes on."""
    known = sorted(
        past[place]
        for place in range(len(past) + ahead - DAY, -1, -DAY)
        if place < len(past) and not math.isnan(past[place])
    )
    return known[math.ceil(QUANTILE * len(known)) - 1] if known else None


def _judged(season: Season, past: tuple[float, ...], actual: float) -> Season:
    """Return the season with both forecasts of a bucket, made from ``past``, held against it."""
    told, before = _by_days(past, 0), past[-1] if past else math.nan
    if told is None or math.isnan(before + actual):
        return season
    return replace(
        season,
        weight=KEPT * season.weight + 1.0,
        loss=KEPT * season.loss + _pinball(actual, told),
        persistence=KEPT * season.persistence + _pinball(actual, before),
    )


def _pinball(actual: float, told: float) -> float:
    missed = actual - told
    return QUANTILE * missed if missed > 0 else (QUANTILE - 1.0) * missed
