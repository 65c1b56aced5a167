"""What scaling remembers of one service from tick to tick.

After a restart the arrivals and the window come from Prometheus (recover.py); where it does not
tell, nothing scales down until a whole scale-down window has passed. What was learned of the model
survives in Model.status.profiles.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from conch.decisions.scaling.capacity import Fit, Profile
from conch.decisions.scaling.demand import Demand, Sample
from conch.decisions.scaling.gaps import Gaps
from conch.decisions.scaling.margin import Margin
from conch.decisions.scaling.season import Season
from conch.decisions.scaling.window import Window


@dataclass(frozen=True, slots=True)
class Said:
    """What was said last, so that small changes in load change no status."""

    key: tuple[object, ...] = ()
    demand: float = 0.0
    message: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """What was decided last, and when that was more, and when less, than before."""

    replicas: int | None = None
    raised_at: float | None = None
    lowered_at: float | None = None


@dataclass(frozen=True, slots=True)
class ScalingState:
    """Of one service; the empty one is where every service starts."""

    fits: Mapping[str, Fit] = field(default_factory=dict)
    """What was learned, by accelerator."""
    samples: tuple[Sample, ...] = ()
    """Arrivals within the window, oldest first."""
    asked: Demand = field(default_factory=Demand)
    """What the samples ask for."""
    window: Window = field(default_factory=Window)
    grown_at: float | None = None
    """When a replica was last asked for on signs alone."""
    started_at: float | None = None
    """When replicas still started, last; at first, when the service was first seen."""
    said: Said = field(default_factory=Said)
    pace: Pace = field(default_factory=Pace)
    margin: Margin = field(default_factory=Margin)
    season: Season = field(default_factory=Season)
    gaps: Gaps = field(default_factory=Gaps)
    """Kept only of a service that may sleep."""
    slept_at: float | None = None
    """Since when no replica is wished for; None where some are, or where that is not known."""

    def to_dict(self) -> dict[str, Any]:
        """Return what lasts, as JSON values: the fits."""
        return {"fits": {name: fit.to_dict() for name, fit in sorted(self.fits.items())}}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ScalingState":
        """Return the state that ``to_dict`` gave. Raises ValueError when it is none."""
        fits = data.get("fits", {})
        return cls(fits={name: Fit.from_dict(fit) for name, fit in fits.items()})


def measured(state: ScalingState) -> list[tuple[str, float, float]]:
    """Return (accelerator, fixed ms, ms an item) for each accelerator known well enough."""
    known = ((name, fit.profile) for name, fit in sorted(state.fits.items()))
    return [(name, p.fixed * 1e3, p.per_item * 1e3) for name, p in known if p is not None]


def state_from_profiles(profiles: Iterable[tuple[str, float, float]]) -> ScalingState:
    """Return a state that starts from (accelerator, fixed ms, ms an item), as ``measured`` gives."""
    return ScalingState(
        fits={name: Fit.seeded(Profile(fixed / 1e3, item / 1e3)) for name, fixed, item in profiles}
    )
