"""How long a run of the model takes, and how many items a second one replica serves.

A run of b items takes a + b·batch seconds: the usual linear model of batched inference (Crankshaw
et al., Clipper, NSDI 2017, figure 3; Gujarati et al., Clockwork, OSDI 2020).
"""

from collections.abc import Mapping
from dataclasses import dataclass
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
        """Return a fit that knows ``profile`` from before."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return the fit as JSON values."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Fit":
        """Return the fit that ``to_dict`` gave. Raises ValueError when it is none."""
        raise NotImplementedError
