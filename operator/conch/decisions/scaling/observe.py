"""What a tick adds to the state: one more sample of arrivals, and what it teaches of the model."""

from collections.abc import Mapping
from dataclasses import replace

from conch.api.signals import Signals
from conch.decisions.scaling.capacity import Fit, learned, teaches
from conch.decisions.scaling.demand import sampled
from conch.decisions.scaling.load import PoolLoad, ServiceLoad
from conch.decisions.scaling.measure import Measured
from conch.decisions.scaling.pressure import signs
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
    samples = sampled(
        samples,
        time=now - measured.age,
        arrivals=measured.arrivals,
        backlog=measured.backlog,
        signs=signs(load, measured),
        window=load.window,
    )
    return replace(state, samples=samples, fits=_taught(load, state.fits, usable))


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
