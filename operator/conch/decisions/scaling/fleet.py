"""Counting replicas that are not alike: each adds what its accelerator serves."""

import math
from collections.abc import Mapping, Sequence

from conch.decisions.scaling.capacity import Profile, batch_within, corrected, serving_rate
from conch.decisions.scaling.load import PoolLoad, ServiceLoad
from conch.decisions.scaling.queueing import servers_for
from conch.decisions.scaling.state import ScalingState

_MOST = 1_000_000
"""Replicas; beyond every bound, and still a number."""
_LEAST_WAIT = 0.25
_RUNS_UNPROMISED = 4.0


def rates(load: ServiceLoad, state: ScalingState) -> Mapping[str, float]:
    """Return mu (items/s) by accelerator; empty when none is known.

    One that is not known is taken from the slowest that is, by the pools' relative speeds.
    """
    known: dict[str, float] = {}
    speeds = {pool.accelerator: pool.speed for pool in load.pools}
    for accelerator in speeds:
        rate = _rate(load, state, accelerator)
        if rate is not None:
            known[accelerator] = rate
    if not known:
        return {}
    unit = min(rate / speeds[accelerator] for accelerator, rate in known.items())
    return {a: known.get(a, unit * speed) for a, speed in speeds.items()}


def _rate(load: ServiceLoad, state: ScalingState, accelerator: str) -> float | None:
    fit = state.fits.get(accelerator)
    declared = _served(load, load.declared.get(accelerator))
    return corrected(declared, _served(load, fit.profile if fit else None))


def _served(load: ServiceLoad, profile: Profile | None) -> float | None:
    if profile is None:
        return None
    return serving_rate(
        profile,
        max_batch=load.max_batch,
        objective=load.objective,
        instances=max(1, load.instances),
    )


def longest_wait(load: ServiceLoad, state: ScalingState) -> float:
    """Return how long (s) a request may wait before its run and still be answered in time.

    On the slowest accelerator that is known; at least a quarter of the objective, which a run that
    takes too long misses anyway. Without an objective nothing is promised: a few runs.
    """
    seconds = 0.0
    for pool in load.pools:
        fit = state.fits.get(pool.accelerator)
        profile = (fit.profile if fit else None) or load.declared.get(pool.accelerator)
        if profile is not None:
            batch = batch_within(profile, load.max_batch, load.objective)
            seconds = max(seconds, profile.seconds(batch))
    if load.objective is None:
        return _RUNS_UNPROMISED * seconds + load.queue_delay
    return max(_LEAST_WAIT * load.objective, load.objective - seconds)


def prompt_rate(
    load: ServiceLoad,
    rates: Mapping[str, float],
    demand: float,
    *,
    late: float,
    wait: float,
    variation: float,
) -> float:
    """Return the items/s that replicas must be able to serve so that few wait longer than ``wait``.

    ``demand`` in items/s, ``rates`` by accelerator, ``wait`` in seconds; ``late`` is the share that
    may wait longer, ``variation`` the index of dispersion of the arrivals. Counted in replicas of
    the first pool that has any.
    """
    pool = next((p for p in load.pools if p.held), load.pools[0])
    instances = max(1, load.instances)
    each = rates[pool.accelerator] / instances
    servers = servers_for(
        min(demand / each, _MOST),
        wait=wait * each,
        late=late,
        variation=variation,
    )
    return servers * each


def replicas_for(demand: float, pools: Sequence[PoolLoad], planned: Mapping[str, float]) -> int:
    """Return how many replicas serve ``demand``; ``planned`` is what each is planned for (items/s).

    Those held count first, then those that fit, each in the pools' order. What is still left is
    counted on the first pool's accelerator, so that the wish says how many are missing.
    """
    left, count = demand, 0
    for there in (_held, _room):
        for pool in pools:
            if left <= 0:
                return count
            rate = planned[pool.accelerator]
            taken = min(there(pool), _whole(left / rate))
            left, count = left - taken * rate, count + taken
    return count + _whole(left / planned[pools[0].accelerator])


def _held(pool: PoolLoad) -> int:
    return pool.held


def _room(pool: PoolLoad) -> int:
    return max(0, pool.room)


def _whole(replicas: float) -> int:
    # The small part is what adding floats may have left over.
    return max(0, math.ceil(min(replicas, _MOST) - 1e-9))


def spread(total: int, pools: Sequence[PoolLoad]) -> Mapping[str, int]:
    """Return ``total`` replicas by pool: those held first, then where there is room."""
    kept = {}
    for pool in pools:
        kept[pool.pool] = min(pool.held, total)
        total -= kept[pool.pool]
    for pool in pools:
        more = min(_room(pool), total)
        kept[pool.pool] += more
        total -= more
    return kept
