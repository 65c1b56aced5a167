"""What an operator that begins anew would remember, had it been there.

Of the last minutes, by deciding again; of what takes hours to learn, by the figures that the operator
before it showed.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from conch.decisions.scaling.load import ServiceLoad
from conch.decisions.scaling.margin import BETA, WORST, Margin
from conch.decisions.scaling.season import Season
from conch.decisions.scaling.state import ScalingState
from conch.decisions.scaling.steer import decide


def shown(margin: Margin) -> dict[str, float]:
    """Return what of a margin lasts, as figures; none of a load that nobody has watched yet.

    ``peak`` is in items/s, ``watched`` in seconds; the others have no unit.
    """
    if margin.watched <= 0:
        return {}
    return {
        "beta": margin.beta,
        "surprise": math.sqrt(max(0.0, margin.variance)),
        "dispersion": margin.dispersion,
        "peak": margin.peak,
        "watched": margin.watched,
    }


def margin_of(figures: Mapping[str, float]) -> Margin | None:
    """Return the margin that ``shown`` gave these figures of, each within its bounds.

    None where one is missing or no number: a peak of zero that was watched for a day, say, would
    hold back what there should be.
    """
    values = [figures.get(name, math.nan) for name in shown(Margin(watched=1.0))]
    if not all(math.isfinite(value) for value in values):
        return None
    beta, surprise, dispersion, peak, watched = (max(0.0, value) for value in values)
    return Margin(
        beta=min(max(beta, BETA[0]), BETA[1]),
        variance=min(surprise * surprise, WORST),
        dispersion=dispersion,
        peak=peak,
        watched=watched,
    )


def recovered(
    past: Iterable[tuple[float, ServiceLoad]],
    state: ScalingState,
    learned: Margin | None = None,
    season: Season | None = None,
) -> ScalingState:
    """Return the state after the loads of the past; times in seconds, oldest first.

    ``state`` is what is known anyway, ``learned`` what was known of the load before, ``season`` of
    the days before, up to now. The very decisions are made again, so that demand and the window of
    wishes are as they would be. What was learned of the model stays what it is: whether replicas
    started then, so that nothing should be learned, is not known any more. What was said, and how
    long ago the last step was, begins anew.
    """
    found = state
    if learned is not None:
        found = replace(found, margin=replace(learned, forecasts=state.margin.forecasts))
    for time, load in past:
        if any(pool.signals is not None for pool in load.pools):
            found = decide(load, found, time).state
    if learned is not None:
        found = replace(found, margin=_told_once(found.margin, learned))
    if season is not None:
        goes_on = found.season.bucket == season.bucket
        found = replace(
            found, season=replace(season, peak=found.season.peak) if goes_on else season
        )
    return replace(found, fits=state.fits, said=state.said, pace=state.pace)


def _told_once(after: Margin, learned: Margin) -> Margin:
    """Return the margin after the past, which was learned from already when it was the present."""
    return replace(
        after,
        beta=learned.beta,
        variance=learned.variance,
        peak=max(after.peak, learned.peak),
        watched=learned.watched,
    )
