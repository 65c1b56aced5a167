"""What a policy is asked, and what it may know."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Tick:
    """What a monitoring system knows of a service; counts and sums are since the tick before."""

    now: float
    """Seconds since the simulation began."""
    interval: float
    """Seconds since the tick before."""
    ready: int
    """Replicas that serve."""
    starting: int
    """Replicas that were created and do not serve yet."""
    arrivals: int
    """Requests that came."""
    answered: int
    """Requests whose run ended."""
    failed: int
    """Requests that were lost with their replica."""
    runs: int
    """Runs of the model that ended; one serves a batch."""
    busy_seconds: float
    """Seconds of runs, over all instances of all replicas."""
    present_seconds: float
    """Request-seconds in the system, waiting or running: the mean concurrency times interval."""
    waited_seconds: float
    """Waiting time, summed over the requests whose run began."""
    begun: int
    """Requests whose run began."""
    waiting: int
    """Requests that wait now."""
    running: int
    """Requests in a run now."""
    instances: int
    """Instances of the model in each replica."""
    load_times: tuple[float, ...] = ()
    """Seconds from created to ready, of replicas that became ready."""

    @property
    def utilization(self) -> float:
        """Busy share of the ready replicas' instances, from 0 to 1; 0 without any."""
        capacity = self.interval * self.ready * self.instances
        return min(1.0, self.busy_seconds / capacity) if capacity > 0 else 0.0

    @property
    def concurrency(self) -> float:
        """Mean number of requests in the system, over all replicas."""
        return self.present_seconds / self.interval if self.interval > 0 else 0.0


class Policy(Protocol):
    """Says how many replicas there should be. It is asked every ``interval`` seconds."""

    @property
    def interval(self) -> float:
        """Seconds between two ticks."""

    def replicas(self, tick: Tick) -> int:
        """Return the replicas wanted now, starting ones included; the runner keeps the bounds."""
