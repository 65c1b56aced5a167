"""What is counted in a race of scalers: replicas over time, late requests, breaches. Pure.

Times are seconds since the epoch, as watches and Prometheus have them on one machine.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from e2e.kubectl import condition

Object = dict[str, Any]
MOST_S = 60.0
"""After which a request counts as failed."""


@dataclass
class Replica:
    """One pod: when it came, was ready for the first time, and was gone."""

    name: str
    created: float
    ready: float | None = None
    gone: float | None = None

    def seconds(self, start: float, end: float) -> float:
        """Return for how many seconds between two times it was there."""
        until = end if self.gone is None else self.gone
        return max(0.0, min(until, end) - max(self.created, start))


@dataclass
class Replicas:
    """The pods of a service, as a watch tells of them."""

    of: dict[str, Replica] = field(default_factory=dict)

    def see(self, event: str, pod: Object, now: float) -> None:
        """Take over a watch event that arrived at ``now``."""
        metadata = pod["metadata"]
        uid = metadata["uid"]
        if event == "DELETED":
            if uid in self.of:
                self.of[uid].gone = now
            return
        replica = self.of.setdefault(uid, Replica(metadata["name"], now))
        if replica.ready is None and condition(pod, "Ready").get("status") == "True":
            replica.ready = now

    def counts(self, now: float) -> tuple[int, int]:
        """Return how many were there at a time, and how many of them had been ready."""
        there = [
            r for r in self.of.values() if r.created <= now and (r.gone is None or r.gone > now)
        ]
        return len(there), sum(r.ready is not None and r.ready <= now for r in there)

    def seconds(self, start: float, end: float) -> float:
        """Return the replica-seconds between two times, starting and leaving ones included."""
        return sum(r.seconds(start, end) for r in self.of.values())

    def created_after(self, time: float) -> list[float]:
        """Return when the pods after that came, sorted."""
        return sorted(r.created for r in self.of.values() if r.created > time)

    def start_seconds(self) -> list[float]:
        """Return how long each took from created to ready, where it got there; sorted."""
        return sorted(r.ready - r.created for r in self.of.values() if r.ready is not None)


def timeline(
    replicas: Replicas, start: float, end: float, *, every: float = 1.0
) -> list[dict[str, float]]:
    """Return the replicas that were there and ready, at equal distances from ``start`` on."""
    rows = []
    for step in range(int((end - start) / every) + 1):
        created, ready = replicas.counts(start + step * every)
        rows.append({"second": step * every, "created": created, "ready": ready})
    return rows


@dataclass(frozen=True)
class Answer:
    """One request: when it was due, in seconds from the load's start, and its latency."""

    due: float
    latency: float
    """Seconds from due to answered; infinite where it failed."""


def late_percent(answers: Iterable[Answer], *, objective: float, start: float, end: float) -> float:
    """Return how many of 100 requests due between two times took longer, failed ones included."""
    due = [a for a in answers if start <= a.due < end]
    if not due:
        return 0.0
    return 100.0 * sum(a.latency > objective for a in due) / len(due)


def quantile(answers: Iterable[Answer], share: float, *, start: float, end: float) -> float:
    """Return a quantile of latencies by nearest rank, in seconds; 0 where there are none.

    A request that failed took as long as any may take.
    """
    ordered = sorted(min(a.latency, MOST_S) for a in answers if start <= a.due < end)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def breach_at(samples: Sequence[tuple[float, float]], *, more_than: float) -> float | None:
    """Return the time of the first scrape that shows a queue longer than the objective allows."""
    return next((time for time, pending in samples if pending > more_than), None)


def delay(breach: float, created: float, *, interval: float) -> float:
    """Return the seconds from the scrape that confirms a breach to the pod created.

    A flood is to be acted on within two scrapes: the first confirms where it was acted on before
    the next came, else the second does. What comes later is late from there on.
    """
    confirmed = breach if created < breach + interval else breach + interval
    return created - confirmed


def longest_queue(service_seconds: float, objective: float) -> int:
    """Return how many may wait before one replica so that the last is still answered in time."""
    return max(1, math.floor((objective - service_seconds) / service_seconds))


def ratio(ours: float, theirs: float) -> float | None:
    """Return how many times theirs is ours; None where theirs is nothing."""
    return round(ours / theirs, 3) if theirs else None
