"""What is kept above the load of now, for the load that there will be when a new replica serves.

How much the load has been above what it was one load time before is measured, and the margin is
beta times that, as far as the load was ever so high within a day. Beta follows the late requests: up
within seconds, down within hours, so that in the long run few more are late than may be (adaptive
conformal inference: Gibbs and Candès, Adaptive Conformal Inference Under Distribution Shift, NeurIPS
2021; with a step down that is smaller than the step up, since what comes too late costs requests and
what stays too long costs replicas only).
"""

import math
from dataclasses import dataclass, replace

LEAST = 0.02
"""Relative margin that is always kept: what is not seen yet may come."""
BETA = (0.0, 8.0)
"""Its bounds: a load that never makes anyone late needs no margin."""
BEGIN = 0.3
"""Beta of a service that nothing is known of."""
RISE = 0.8
"""Of beta, a second in which all requests are late."""
STEEPEST = 0.1
"""Of beta, that it rises in a second at most: one leap tells of one leap, however deep the queue."""
FALL = 0.06
"""Of beta, a second in which nobody is late and all might be: at one in a thousand, 0.2 an hour."""
LONGEST_STEP = 60.0
"""Seconds that one sample may stand for."""
MEMORY = 5400.0
"""Seconds after which a surprise counts a third."""
PEAK_MEMORY = 86_400.0
"""Seconds after which a peak counts a third: as high as a day ago may come again."""
PEAK_KNOWN = 1800.0
"""Seconds of samples before which nobody can tell how high the load goes."""
OVER_PEAK = 1.05
"""Of the peak, that is planned for at most."""
CHANCE_MEMORY = 250.0
"""Seconds after which the dispersion from one sample to the next counts a third."""
FIRST = 0.01
"""Variance of the surprises before any was seen: the load is a tenth higher at times."""
WORST = 1.0
"""Square of the greatest surprise that teaches: the load doubled. One may be an accident."""
_APART = 1 / 8
"""Of the load time, between two forecasts that are kept."""


@dataclass(frozen=True, slots=True)
class Margin:
    """What was learned of a service's load."""

    forecasts: tuple[tuple[float, float], ...] = ()
    """(time, items/s) of the last load time: what the load was taken for, oldest first."""
    variance: float = FIRST
    """Mean square of (load - forecast) / forecast, where positive."""
    dispersion: float = 1.0
    """Variance over mean of the items between two scrapes; 1 where arrivals are independent."""
    beta: float = BEGIN
    peak: float = 0.0
    """The highest load (items/s) of about a day, less what time has taken of it."""
    watched: float = 0.0
    """Seconds of samples that it is from."""

    @property
    def share(self) -> float:
        """What to keep above the load, as a share of it."""
        return max(LEAST, self.beta * math.sqrt(self.variance))

    def above(self, mean: float) -> float:
        """Return the load (items/s) to plan for where it is ``mean`` now."""
        planned = mean * (1.0 + self.share)
        if self.watched < PEAK_KNOWN:
            return planned
        return max(mean, min(planned, OVER_PEAK * self.peak))


def surprised(
    margin: Margin,
    now: float,
    *,
    load: float,
    mean: float,
    load_seconds: float,
    seconds: float,
) -> Margin:
    """Return the margin after one more sample at ``now``.

    ``load`` is the rate of the last samples, ``mean`` the one to plan for (items/s); ``seconds``
    since the sample before; ``load_seconds`` from created to ready.
    """
    forecasts = margin.forecasts
    if forecasts and forecasts[-1][0] >= now:
        forecasts = ()  # the clock went back
    while len(forecasts) > 1 and forecasts[1][0] <= now - load_seconds:
        forecasts = forecasts[1:]
    variance = margin.variance
    if forecasts and forecasts[0][0] <= now - load_seconds and forecasts[0][1] > 0:
        error = max(0.0, load / forecasts[0][1] - 1.0)
        square = min(error * error, WORST)
        variance += (square - variance) * min(1.0, seconds / MEMORY)
    if not forecasts or now - forecasts[-1][0] >= _APART * load_seconds:
        forecasts = (*forecasts, (now, mean))
    return replace(
        margin,
        forecasts=forecasts,
        variance=variance,
        peak=max(load, margin.peak * math.exp(-seconds / PEAK_MEMORY)),
        watched=margin.watched + seconds,
    )


def dispersed(margin: Margin, before: float, rate: float, seconds: float) -> Margin:
    """Return the margin after two successive rates (items/s), each over ``seconds``.

    From successive differences, so that a trend doesn't count (von Neumann, Annals of Mathematical
    Statistics 12, 1941).
    """
    if before + rate <= 0:
        return margin
    index = (rate - before) ** 2 * seconds / (before + rate)
    index = min(index, 20.0 * margin.dispersion + 1.0)  # one odd sample tells little
    moved = (index - margin.dispersion) * min(1.0, seconds / CHANCE_MEMORY)
    return replace(margin, dispersion=margin.dispersion + moved)


def judged(margin: Margin, *, late: float, allowed: float, seconds: float) -> Margin:
    """Return the margin after a time in which a share ``late`` was late and ``allowed`` may be."""
    change = min(RISE * (late - allowed), STEEPEST) if late > allowed else FALL * (late - allowed)
    beta = margin.beta + change * min(seconds, LONGEST_STEP)
    return replace(margin, beta=min(max(beta, BETA[0]), BETA[1]))


def late_share(wait: float, mean_wait: float) -> float:
    """Return the share of requests that waited longer than ``wait`` (s), by their mean wait.

    Waits have an exponential tail; the mean is over all, those that did not wait too.
    """
    return math.exp(-max(0.0, wait) / mean_wait) if mean_wait > 0 else 0.0
