"""What a tick measures of each service, pool by pool: what metrics give and decisions take."""

from dataclasses import dataclass
from typing import NamedTuple


class Key(NamedTuple):
    """Whose signals they are: the pods of one revision of a service in one pool."""

    namespace: str
    service: str
    revision: str
    pool: str


@dataclass(frozen=True, slots=True)
class Signals:
    """Measured between each pod's last two scrapes, summed over the pods of one ``Key``.

    Rates are per second. ``absurd`` is a sentence when a number made no sense (NaN, infinite,
    negative): then all numbers here are 0 and mean nothing.
    """

    inferences: float = 0.0
    """Items served; one request may carry a batch of them."""
    requests: float = 0.0
    """Requests answered with success."""
    failures: float = 0.0
    """Requests that failed, were rejected or cancelled."""
    executions: float = 0.0
    """Runs of the model; one run serves a batch."""
    mean_batch: float = 0.0
    """Items a run."""
    mean_execution: float = 0.0
    """Seconds that a run holds an instance of the model."""
    queue_seconds: float = 0.0
    """Seconds that a request waited before its run."""
    pending: float = 0.0
    """Requests that wait now."""
    pods_scraped: int = 0
    """Pods that these numbers come from."""
    p99: float | None = None
    """Seconds, of the worst pod; None where Triton keeps no summaries or nothing was asked."""
    age: float = 0.0
    """Seconds since the newest sample."""
    age_oldest: float = 0.0
    """Seconds since the last sample of the pod that was scraped longest ago."""
    absurd: str | None = None

    @property
    def items_per_request(self) -> float:
        """Items that a request carries; 1 while none was answered."""
        return self.inferences / self.requests if self.requests > 0 else 1.0

    @property
    def busy(self) -> float:
        """Instances of the model that were running, on average."""
        return self.executions * self.mean_execution


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What the front door counts of one service's requests, summed over its replicas."""

    ended: float
    """Requests a second that came to their end, whatever that was, but for those it refused itself."""
    under_way: float
    """Requests that have not."""
    doors: int = 1
    """Replicas of the front door that these numbers come from."""
    age: float = 0.0
    """Seconds since the scrape that is longest ago."""
