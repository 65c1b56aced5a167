"""How long a run of the model takes, and how many items a second one replica serves.

A run of b items takes a + b·batch seconds: the usual linear model of batched inference (Crankshaw
et al., Clipper, NSDI 2017, figure 3; Gujarati et al., Clockwork, OSDI 2020).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

OBJECTIVE_SHARE = 0.5
"""Of the objective, for a run: a request may meet one run in progress and wait it out."""
MEMORY = 0.98
"""Weight that an older sample keeps at each new one: half of it after 34 samples."""
ENOUGH = 3.0
"""Weight of samples from which a fit counts as known."""
STEP = (0.5, 1.5)
"""How far one sample, and the measured against a declared profile, may be from the known."""
LEARNABLE = (0.3, 0.9)
"""Busy shares at which samples teach: idle replicas run odd batches, full ones queue."""

SPREAD = 0.2
"""Relative spread of batch sizes at which samples and prior weigh the same for the slope."""
_SEED_BATCHES = (1, 4, 16)
_SHORTEST = 1e-7
"""Seconds; no run is shorter, so that a replica never counts as infinitely fast."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Seconds of a run of b items: fixed + b·per_item."""

    fixed: float
    per_item: float

    def seconds(self, batch: float) -> float:
        """Return how long a run of ``batch`` items takes."""
        return self.fixed + self.per_item * batch


@dataclass(frozen=True, slots=True)
class Fit:
    """Weighted sums of the samples (batch x, seconds y), and the line through them."""

    weight: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    line: Profile | None = None

    @property
    def profile(self) -> Profile | None:
        """The line, once enough is known."""
        return self.line if self.weight >= ENOUGH else None

    @classmethod
    def seeded(cls, profile: Profile) -> "Fit":
        """Return a fit that knows ``profile`` from before, as if from one sample a batch size."""
        points = [(float(batch), profile.seconds(batch)) for batch in _SEED_BATCHES]
        return cls(
            weight=float(len(points)),
            x=sum(x for x, _ in points),
            y=sum(y for _, y in points),
            xx=sum(x * x for x, _ in points),
            xy=sum(x * y for x, y in points),
            line=profile,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fit as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Fit":
        """Return the fit that ``to_dict`` gave. Raises ValueError when it is none."""
        try:
            sums = {name: _number(data[name]) for name in ("weight", "x", "y", "xx", "xy")}
            line = data["line"]
            known = line and Profile(_number(line["fixed"]), _number(line["per_item"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a stored fit: {data!r:.200}") from error
        return cls(**sums, line=known or None)


def _number(value: object) -> float:
    number = float(value) if isinstance(value, int | float) else math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"a stored fit holds numbers of zero or more, not {value!r:.50}")
    return number


def learned(fit: Fit, batch: float, seconds: float) -> Fit:
    """Return the fit after one more sample: the mean batch of some runs, and their mean time.

    Least squares with exponential forgetting (Ljung, System Identification, 1999, section 11.2).
    A known line pulls a sample that is far from it to within ``STEP``.
    """
    if batch <= 0 or seconds <= 0:
        return fit
    if fit.profile is not None:
        expected = fit.profile.seconds(batch)
        seconds = min(max(seconds, STEP[0] * expected), STEP[1] * expected)
    weight, x = fit.weight * MEMORY + 1.0, fit.x * MEMORY + batch
    y, xx = fit.y * MEMORY + seconds, fit.xx * MEMORY + batch * batch
    xy = fit.xy * MEMORY + batch * seconds
    line = _line(x / weight, y / weight, xx / weight, xy / weight, fit.line)
    return Fit(weight, x, y, xx, xy, line)


def _line(x: float, y: float, xx: float, xy: float, before: Profile | None) -> Profile:
    """Return the line through the samples' mean (x, y) whose slope is theirs, as far as they tell.

    Batches that hardly differ say nothing about the slope: then the shape known before is kept
    (ridge regression towards it). Before anything is known a batch is taken to save nothing,
    which errs towards more replicas. The bounds are those of a time: neither part is negative.
    """
    variance, covariance = max(0.0, xx - x * x), xy - x * y
    prior = y / x
    if before is not None and before.seconds(x) > 0:
        prior = before.per_item * y / before.seconds(x)
    ridge = (SPREAD * x) ** 2
    slope = (covariance + ridge * prior) / (variance + ridge)
    slope = min(max(slope, 0.0), y / x)
    return Profile(fixed=max(0.0, y - slope * x), per_item=slope)


def teaches(busy_share: float) -> bool:
    """Return whether runs at this busy share say what the model costs."""
    return LEARNABLE[0] <= busy_share <= LEARNABLE[1]


def batch_within(profile: Profile, max_batch: int, objective: float | None) -> int:
    """Return the largest batch whose run fits its share of the objective (s); 1 when none does."""
    most = max(1, max_batch)
    if objective is None or profile.per_item <= 0:
        return most
    fitting = (OBJECTIVE_SHARE * objective - profile.fixed) / profile.per_item
    return int(min(max(fitting, 1.0), most))


def serving_rate(
    profile: Profile, *, max_batch: int, objective: float | None, instances: int
) -> float | None:
    """Return mu: items a second that one replica serves within the objective, fully used.

    None for a profile without any time, of which nothing follows.
    """
    batch = batch_within(profile, max_batch, objective)
    seconds = profile.seconds(batch)
    return instances * batch / seconds if seconds > _SHORTEST else None


def corrected(declared: float | None, measured: float | None) -> float | None:
    """Return mu from what was declared and what was measured, None when neither is known.

    The measured one counts, within ``STEP`` of the declared one.
    """
    if declared is None or measured is None:
        return measured if declared is None else declared
    return min(max(measured, STEP[0] * declared), STEP[1] * declared)
