"""A flood: one tenant takes whatever is free while another sleeps; then that one wakes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from e2e.bench.fairness.engine import Step
from e2e.bench.fairness.entitlement import slices
from e2e.bench.fairness.scene import GPUS_PER_NODE, LOAD_SECONDS, Work, Workload

FLOOD, SLEEPER = "flood", "sleeper"
WAKES = 6 * 3600.0
"""Seconds after the start of the workload: usage has a past of half a half-life by then."""
WATCHED = 1800.0
"""Seconds for which the one that woke is watched."""
FLOOD_TICK = 15.0
"""Seconds; finer than otherwise, since a load time is what is measured in."""


def flooded(workload: Workload, nodes: int) -> Workload:
    """Return a workload with two tenants more, of weight 1, with services of replicas of one GPU.

    The flood wishes for the whole fleet from the start. The sleeper wishes for its slice by weight
    from :data:`WAKES` on, and so is entitled to all of it at once, whatever the others wish for.
    """
    weights = {**workload.weights, FLOOD: 1.0, SLEEPER: 1.0}
    capacity = nodes * GPUS_PER_NODE
    mine = slices(weights, capacity)[SLEEPER]
    works = (
        Work("flood", FLOOD, 1, 0.0, wishes=((0.0, capacity),)),
        Work("sleeper", SLEEPER, 1, WAKES, wishes=((WAKES, mine),)),
        *workload.works,
    )
    return Workload(workload.name, weights, works, WAKES + WATCHED)


@dataclass(frozen=True, slots=True)
class Recovery:
    """How the sleeper came to what is its own."""

    entitled: int
    """GPUs."""
    seconds: float | None
    """From its wake until replicas with all these GPUs had loaded; None: not while it was watched."""
    share: float
    """The part of its GPUs that had loaded in the end."""

    @property
    def load_times(self) -> float | None:
        """The same in load times L; one is the least that is possible."""
        return None if self.seconds is None else self.seconds / LOAD_SECONDS


def recovery(steps: Iterable[Step], weights: Mapping[str, float], nodes: int) -> Recovery:
    """Return when the sleeper had its slice; to the tick, counted to its end."""
    mine = slices(weights, nodes * GPUS_PER_NODE)[SLEEPER]
    last = 0
    for step in steps:
        end = step.start + step.seconds
        last = step.ready[SLEEPER]
        if end > WAKES and last >= mine:
            return Recovery(mine, end - WAKES, 1.0)
    return Recovery(mine, None, last / mine)
