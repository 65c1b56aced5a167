"""How long a replica takes from created to ready, in a simulation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LoadTimes:
    """A quantile function, linear between its points: (share, seconds), both rising."""

    quantiles: Sequence[tuple[float, float]]

    def draw(self, random: np.random.Generator) -> float:
        """Return the load time (s) of one replica."""
        shares, seconds = zip(*self.quantiles, strict=True)
        return float(np.interp(random.random(), shares, seconds))

    @property
    def mean(self) -> float:
        """The mean in seconds."""
        shares, seconds = (np.array(v) for v in zip(*self.quantiles, strict=True))
        return float(np.sum(np.diff(shares) * (seconds[1:] + seconds[:-1]) / 2))

    @property
    def longest(self) -> float:
        """The longest in seconds."""
        return self.quantiles[-1][1]

    @property
    def p90(self) -> float:
        """The 90th percentile in seconds."""
        shares, seconds = zip(*self.quantiles, strict=True)
        return float(np.interp(0.9, shares, seconds))


def fixed(seconds: float) -> LoadTimes:
    """Return load times that are all the same."""
    return LoadTimes(((0.0, seconds), (1.0, seconds)))


FLEET = LoadTimes(((0.0, 12.0), (0.5, 22.7), (0.9, 42.0), (0.99, 51.8), (1.0, 60.0)))
"""Of a production fleet, with p50, p90 and p99 as measured there; the two ends are assumed."""
