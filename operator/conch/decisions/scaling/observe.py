"""What a tick adds to the state: one more sample of arrivals, and what it teaches of the model."""

from collections.abc import Mapping
from dataclasses import replace

from conch.api.signals import Signals
from conch.decisions.scaling.capacity import Fit, learned, teaches
from conch.decisions.scaling.demand import (
    LATE,
    Demand,
    Sample,
    demand,
    sampled,
    whole,
)
from conch.decisions.scaling.door import at_front_door
from conch.decisions.scaling.fleet import longest_wait
from conch.decisions.scaling.gaps import asked as gap_ended
from conch.decisions.scaling.load import PoolLoad, ServiceLoad
from conch.decisions.scaling.margin import Margin, dispersed, judged, late_share, surprised
from conch.decisions.scaling.measure import Measured
from conch.decisions.scaling.pressure import signs
from conch.decisions.scaling.season import passed
from conch.decisions.scaling.state import ScalingState


def observed(
    load: ServiceLoad,
    state: ScalingState,
    measured: Measured,
    usable: tuple[PoolLoad, ...],
    now: float,
) -> ScalingState:
    """Return the state after the signals of ``now`` (s).

    The same scrape seen by two ticks is one sample: a new one is there once every pod has been
    scraped since the last one.
    """
    samples = state.samples
    if samples and samples[-1].time > now:
        samples = ()  # the clock went back
    if samples and now - measured.age_oldest <= samples[-1].time:
        return state
    door, direct = at_front_door(load, samples, measured, now)
    samples = sampled(
        samples,
        time=now - measured.age,
        arrivals=measured.arrivals,
        backlog=measured.backlog,
        signs=signs(load, measured),
        window=load.window,
        direct=direct,
        door=door,
    )
    margin = _dispersion(state.margin, samples)
    asked = demand(
        samples,
        window=load.window,
        load_seconds=max(1.0, load.load_seconds),
        dispersion=margin.dispersion,
    )
    last = samples[-1]
    gaps = state.gaps
    if load.may_sleep and (last.rate > 0 or last.backlog > 0 or gaps.asked_at is None):
        gaps = gap_ended(gaps, last.time)
    return replace(
        state,
        samples=samples,
        asked=asked,
        gaps=gaps,
        season=passed(state.season, now, asked.mean),
        fits=_taught(load, state.fits, usable),
        margin=_watched(load, state, measured, asked, samples=samples, margin=margin),
    )


def _dispersion(margin: Margin, samples: tuple[Sample, ...]) -> Margin:
    if len(samples) < 2:
        return margin
    before, last = samples[-2:]
    return dispersed(margin, before.rate, last.rate, last.time - before.time)


def _watched(
    load: ServiceLoad,
    state: ScalingState,
    measured: Measured,
    asked: Demand,
    *,
    samples: tuple[Sample, ...],
    margin: Margin,
) -> Margin:
    """Return the margin after the newest of the samples."""
    if len(samples) < 2:
        return margin
    last = samples[-1]
    seconds = last.time - samples[-2].time
    if whole(samples, load.window):
        margin = surprised(
            margin,
            last.time,
            load=asked.lately,
            mean=asked.mean,
            load_seconds=load.load_seconds,
            seconds=seconds,
        )
    late = _late(load, state, measured, last)
    if late > load.allowed_late and not _free(load, measured):
        return margin
    return judged(margin, late=late, allowed=load.allowed_late, seconds=seconds)


def _late(load: ServiceLoad, state: ScalingState, measured: Measured, last: Sample) -> float:
    """Return the share of requests that were late, as far as waits tell."""
    late = late_share(longest_wait(load, state), measured.queue_seconds)
    # A p99 beyond the objective says at least one in a hundred.
    return max(late, 0.01) if last.signs & LATE else late


def _free(load: ServiceLoad, measured: Measured) -> bool:
    """Return whether lateness is for want of a margin: nothing starts, more could be had.

    What is late while replicas start was counted when they were asked for.
    """
    ready = sum([pool.ready for pool in load.pools])
    more = load.held < min(load.maximum, load.within_reach)
    return more and not load.starting and measured.pods >= ready


def _taught(
    load: ServiceLoad, fits: Mapping[str, Fit], usable: tuple[PoolLoad, ...]
) -> Mapping[str, Fit]:
    """Return the fits after one more sample of each pool.

    While replicas start nothing is learned, or one queue would count twice: as load and as cost.
    """
    if load.starting:
        return fits
    found = dict(fits)
    for pool in usable:
        s = pool.signals
        if s is not None and teaches(_busy_share(load, s)):
            fit = found.get(pool.accelerator, Fit())
            found[pool.accelerator] = learned(fit, max(1.0, s.mean_batch), s.mean_execution)
    return found


def _busy_share(load: ServiceLoad, s: Signals) -> float:
    return s.busy / (s.pods_scraped * max(1, load.instances))
