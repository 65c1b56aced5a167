"""A service without replicas: when it is woken, and what is known while nothing of it is measured.

What tells is whoever holds its requests. Its silence is no answer: it puts nothing to sleep, and where
it lasts, what sleeps is woken, as nobody knows who asks.
"""

from dataclasses import replace

from conch.decisions.scaling.gaps import asked as gap_ended
from conch.decisions.scaling.load import ServiceLoad
from conch.decisions.scaling.season import passed
from conch.decisions.scaling.state import ScalingState

DEAF = 60.0
"""Seconds of silence from which a service is woken though nobody is known to ask."""
SINCE_RESTART = 30.0
"""Seconds for which somebody who asked counts, where it is not known when the service fell asleep."""


def roused(load: ServiceLoad, state: ScalingState, now: float) -> ScalingState:
    """Return the state after what is told of requests without a replica at ``now`` (s)."""
    if not load.may_sleep:
        return state
    if load.asked_ago is not None:
        at = now - load.asked_ago
        if state.gaps.asked_at is None or at > state.gaps.asked_at:
            state = replace(state, gaps=gap_ended(state.gaps, at))
    if asleep(load, state) and load.deaf is None and not load.held_back:
        state = replace(state, season=passed(state.season, now, 0.0))
    return state


def lasting(load: ServiceLoad, state: ScalingState) -> int:
    """Return the replicas held, but for one that a service put to sleep leaves behind.

    Its last replica is followed by another for a moment, which waits at the gate until it is taken
    away: that one is nobody's wish, and wakes nothing.
    """
    ready = any(p.ready for p in load.pools)
    return 0 if _put_to_sleep(load, state) and not ready else load.held


def _put_to_sleep(load: ServiceLoad, state: ScalingState) -> bool:
    fresh = state.pace.replicas is None
    return state.slept_at is not None or (load.slept and (fresh or load.held == 0))


def asleep(load: ServiceLoad, state: ScalingState) -> bool:
    """Return whether the service has no replicas because it was put to sleep."""
    return lasting(load, state) == 0 and _put_to_sleep(load, state)


def called(load: ServiceLoad, state: ScalingState, now: float, *, window: float) -> bool:
    """Return whether somebody waits for a replica, or did within ``window`` (s) and since it slept."""
    if not load.may_sleep:
        return False
    if load.held_back > 0:
        return True
    if load.asked_ago is None:
        return False
    if state.slept_at is not None and lasting(load, state) == 0:
        return load.asked_ago < min(window, now - state.slept_at)
    return load.asked_ago < (min(window, SINCE_RESTART) if asleep(load, state) else window)


def missed(load: ServiceLoad, state: ScalingState) -> bool:
    """Return whether it has no replica though nobody put it to sleep, or nobody knows who asks.

    In the second case only what is free is used: nobody gives up anything for a demand that was
    not seen.
    """
    if not load.may_sleep or lasting(load, state) > 0:
        return False
    if not asleep(load, state):
        return True
    return load.deaf is not None and load.deaf > DEAF and load.within_reach > 0


def after(state: ScalingState, wished: int, now: float) -> ScalingState:
    """Return the state once so many replicas are wished for."""
    slept_at = None if wished else state.slept_at or now
    return state if slept_at == state.slept_at else replace(state, slept_at=slept_at)
