"""As many replicas as at the start, whatever comes."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from conch.simulate.load_times import LoadTimes
from conch.simulate.policies.base import Policy, PolicyMaker, Tick
from conch.simulate.policies.options import Options, PolicyError
from conch.simulate.workload import Workload

_MINUTE = 60.0


@dataclass(frozen=True)
class Static:
    """The policy: a number."""

    count: int
    interval: float = 60.0

    def replicas(self, tick: Tick) -> int:  # noqa: ARG002 - whatever comes
        """Return the number."""
        return self.count


def peak(rate: float, arrivals: NDArray[np.float64]) -> int:
    """Return the replicas that the busiest minute needs, each of which serves ``rate`` a second."""
    minutes = (arrivals / _MINUTE).astype(np.int64)
    most = int(np.bincount(minutes).max(initial=0)) if len(minutes) else 0
    return max(1, math.ceil(most / (_MINUTE * rate)))


def maker(options: Options) -> PolicyMaker:
    """Return what ``static:8`` or ``static:peak`` means."""
    if options.given.get("replicas") == "peak":
        options.given.pop("replicas")
        return _at_peak
    if not options.has("replicas"):
        raise PolicyError(f"{options.policy}: how many replicas? Write static:8 or static:peak")
    count = options.whole("replicas", 0, least=1)
    return lambda *_: Static(count)


def _at_peak(workload: Workload, arrivals: NDArray[np.float64], _: LoadTimes) -> Policy:
    return Static(peak(workload.rate, arrivals))
