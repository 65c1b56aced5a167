"""Signs that the replicas are too few, whatever a profile says: the reactive floor."""

from conch.decisions.scaling.demand import BUSY, LATE, PENDING, QUEUE
from conch.decisions.scaling.load import ServiceLoad
from conch.decisions.scaling.measure import Measured

FULL = 0.9
"""Busy share from which queues grow without bound."""
IDLE = 0.5
"""Busy share below which another replica helps nobody (as when one connection pins a pod)."""
WAIT_SHARE = 0.5
"""Of the objective, that a request may wait before its run."""
LATE_SHARE = 0.2
"""Of the objective: a late answer that waited less is late for its run, which no replica mends."""


def busy_share(load: ServiceLoad, measured: Measured) -> float:
    """Return how much of the time the instances run, from 0 to about 1."""
    instances = measured.pods * max(1, load.instances)
    return measured.busy / instances if instances else 0.0


def signs(load: ServiceLoad, measured: Measured) -> int:
    """Return the signs as bits."""
    found = BUSY if busy_share(load, measured) >= FULL else 0
    if measured.queue_seconds > _longest_wait(load, measured):
        found |= QUEUE
    # More than the runs in progress and the next ones can take along.
    if measured.backlog > 2 * max(1, measured.pods * load.instances) * max(1, load.max_batch):
        found |= PENDING
    if load.objective is not None and measured.p99 is not None:
        waited = measured.queue_seconds >= LATE_SHARE * load.objective
        found |= LATE if waited and measured.p99 > load.objective else 0
    return found


def helps(load: ServiceLoad, measured: Measured) -> bool:
    """Return whether one more replica could take work from those that are there."""
    return measured.executions <= 0 or busy_share(load, measured) >= IDLE


def _longest_wait(load: ServiceLoad, measured: Measured) -> float:
    if load.objective is not None:
        return max(WAIT_SHARE * load.objective, load.queue_delay)
    return 2 * measured.mean_execution + load.queue_delay
