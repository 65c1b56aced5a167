"""What a policy is asked, and what it may know."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from conch.simulate.load_times import LoadTimes
from conch.simulate.workload import Workload


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


PolicyMaker = Callable[[Workload, NDArray[np.float64], LoadTimes], Policy]
"""Makes a policy for one run, which may keep a state. The second argument are the arrivals, in
seconds: only an optimum that nobody reaches looks at them."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What whoever sets an autoscaler up knows of the service."""

    rate: float
    """Requests a second that one replica serves within the objective, fully used."""
    instances: int
    """Instances of the model in each replica."""
    max_batch: int
    """Requests that one run serves at most."""
    load_time: float
    """Seconds from created to ready, the 90th percentile."""
    minimum: int
    """Never fewer replicas; 0 lets the service sleep."""
    maximum: int
    """Never more replicas."""

    @property
    def concurrency(self) -> int:
        """Requests that one replica works on at once."""
        return self.instances * self.max_batch


def setting_of(workload: Workload, load_times: LoadTimes) -> Setting:
    """Return what is known of a service before it runs."""
    return Setting(
        rate=workload.rate,
        instances=workload.instances,
        max_batch=workload.max_batch,
        load_time=load_times.p90,
        minimum=workload.minimum,
        maximum=max(workload.minimum, workload.maximum),
    )
