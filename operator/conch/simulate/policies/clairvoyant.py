"""The optimum that nobody reaches: it knows all requests that will come.

In each interval so many replicas are needed as serve what arrives in it. Replicas are alike, so
each level can be looked at alone: the n-th replica is on while at least n are needed, stays on
through a pause shorter than a load time, and is started one load time before it is needed again.
Holding it through a longer pause would cost more than starting it anew; so no schedule that meets
the need costs less.

The interval is the objective: what comes within one objective is served within one. A longer one
costs less and is late: requests that come together wait for each other.
"""

import math

import numpy as np
from numpy.typing import NDArray

from conch.simulate.load_times import LoadTimes
from conch.simulate.policies.base import Policy, PolicyMaker, Tick
from conch.simulate.policies.options import Options
from conch.simulate.workload import Workload

STEP_S = 5.0
"""Seconds between two decisions."""
NO_OBJECTIVE_S = 10.0
"""The interval where a service has no objective."""


def needed(arrivals: NDArray[np.float64], rate: float, interval: float) -> NDArray[np.int64]:
    """Return the replicas needed in each interval (s), each of which serves ``rate`` a second."""
    counts = np.bincount((arrivals // interval).astype(np.int64), minlength=1)
    return np.ceil(counts / (rate * interval) - 1e-9).astype(np.int64)


def bridged(need: NDArray[np.int64], pause: int) -> NDArray[np.int64]:
    """Return the replicas that are on in each interval, where pauses up to ``pause`` are bridged."""
    change = np.zeros(len(need) + 1, dtype=np.int64)
    for level in range(1, int(need.max(initial=0)) + 1):
        on = np.flatnonzero(need >= level)
        breaks = np.flatnonzero(np.diff(on) - 1 > pause)
        np.add.at(change, on[np.concatenate(([0], breaks + 1))], 1)
        np.add.at(change, on[np.concatenate((breaks, [len(on) - 1]))] + 1, -1)
    return np.cumsum(change)[:-1]


class Clairvoyant:
    """The policy: a schedule, with each replica started one load time ahead."""

    def __init__(self, schedule: NDArray[np.int64], interval: float, load_time: float) -> None:
        self.interval = STEP_S
        self._schedule = schedule
        self._seconds = interval
        self._ahead = load_time + STEP_S

    def replicas(self, tick: Tick) -> int:
        """Return what is needed from now until a replica that is asked for next would be ready."""
        first = int(tick.now // self._seconds)
        last = int((tick.now + self._ahead) // self._seconds)
        return int(self._schedule[first : last + 1].max(initial=0))


def maker(options: Options) -> PolicyMaker:
    """Return what ``clairvoyant`` means; ``interval`` (s) is another one than the objective."""
    given = options.number("interval", 0.0, above=0.0) if options.has("interval") else None

    def make(workload: Workload, arrivals: NDArray[np.float64], load_times: LoadTimes) -> Policy:
        interval = given or workload.objective or NO_OBJECTIVE_S
        need = needed(arrivals, workload.rate, interval)
        pause = math.floor(load_times.mean / interval)
        return Clairvoyant(bridged(need, pause), interval, load_times.longest)

    return make
