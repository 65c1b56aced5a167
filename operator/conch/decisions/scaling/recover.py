"""What an operator that begins anew would remember, had it been there: the last minutes again."""

from collections.abc import Iterable
from dataclasses import replace

from conch.decisions.scaling.load import ServiceLoad
from conch.decisions.scaling.state import ScalingState
from conch.decisions.scaling.steer import decide


def recovered(past: Iterable[tuple[float, ServiceLoad]], state: ScalingState) -> ScalingState:
    """Return the state after the loads of the past; times in seconds, oldest first.

    ``state`` is what is known anyway. The very decisions are made again, so that demand and the
    window of wishes are as they would be. What was learned of the model stays what it is: whether
    replicas started then, so that nothing should be learned, is not known any more. What was said,
    and how long ago the last step was, begins anew.
    """
    found = state
    for time, load in past:
        if any(pool.signals is not None for pool in load.pools):
            found = decide(load, found, time).state
    return replace(found, fits=state.fits, said=state.said, pace=state.pace)
