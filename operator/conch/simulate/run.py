"""A policy, a service and its requests, from the first to the last."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from conch.simulate.engine import Seconds, Station, Totals
from conch.simulate.fleet import Failures, Fleet, Span
from conch.simulate.load_times import LoadTimes
from conch.simulate.policies.base import Policy, Tick
from conch.simulate.workload import Workload

__all__ = ["WARM_UP", "Failures", "Outcome", "Timeline", "simulate"]

WARM_UP = 300.0
"""Seconds at the beginning that are not judged."""
WARM_USE = 0.7
"""Use of the replicas that a service begins with."""


@dataclass(frozen=True)
class Timeline:
    """What was, at each tick of the policy."""

    time: Seconds
    ready: NDArray[np.int64]
    starting: NDArray[np.int64]
    waiting: NDArray[np.int64]

    @property
    def held(self) -> NDArray[np.int64]:
        """Replicas that are paid for, without those that drain."""
        return self.ready + self.starting


@dataclass(frozen=True)
class Outcome:
    """What came of it, over the time that is judged: without the warm-up and without gaps."""

    judged_seconds: float
    replica_seconds: float
    """From created to gone, starting and draining included."""
    actions: int
    """Ticks that changed the number of replicas."""
    arrivals: Seconds
    """Of the judged requests."""
    waits: Seconds
    """Of each; infinite for one that was lost."""
    late: NDArray[np.bool_]
    """Of each: whether wait and run took longer than the objective."""
    timeline: Timeline

    @property
    def late_percent(self) -> float:
        """Share of late requests, in percent; 0 without any request."""
        return 100.0 * float(self.late.mean()) if len(self.late) else 0.0

    @property
    def actions_per_hour(self) -> float:
        """Changes of the number of replicas."""
        return 3600.0 * self.actions / self.judged_seconds if self.judged_seconds else 0.0

    def wait(self, share: float) -> float:
        """Return the wait (s) that ``share`` of the requests did not exceed."""
        if not len(self.waits):
            return 0.0
        return float(np.quantile(self.waits, share, method="higher"))


def simulate(
    workload: Workload,
    arrivals: Seconds,
    policy: Policy,
    *,
    load_times: LoadTimes,
    seed: int,
    span: float,
    gaps: Sequence[Span] = (),
    warm_up: float = WARM_UP,
    failures: Failures | None = None,
) -> Outcome:
    """Return what a policy makes of the requests that come at ``arrivals`` (s, rising).

    ``span`` is the length of the trace in seconds. At the start, and after each of the ``gaps`` (in
    which nothing is known of the load), the service has the replicas that the load of the next
    ``warm_up`` seconds needs at 70 % of their use, all ready; from then on so many seconds are not
    judged. ``seed`` draws load times and failures.
    """
    station = Station(
        arrivals,
        workload.profile,
        max_batch=workload.max_batch,
        instances=workload.instances,
        queue_delay=workload.queue_delay,
    )
    fleet = Fleet(station, load_times, failures or Failures(), np.random.default_rng(seed))
    race = _Race(workload, arrivals, fleet, policy)
    pieces = list(_pieces(span, gaps))
    for since, until in pieces:
        race.run(since, until, warm=race.warm(since, min(until, since + warm_up)))
    return race.outcome([(a + warm_up, b) for a, b in pieces if b > a + warm_up], span)


def _pieces(span: float, gaps: Sequence[Span]) -> Iterator[Span]:
    """Yield what lies between the gaps."""
    since = 0.0
    for begin, end in sorted(gaps):
        if begin > since:
            yield since, begin
        since = max(since, end)
    if span > since:
        yield since, span


@dataclass
class _Race:
    """One run of one policy."""

    workload: Workload
    arrivals: Seconds
    fleet: Fleet
    policy: Policy
    ticks: list[tuple[float, int, int, int]] = field(default_factory=list)
    """Time, ready, starting, waiting."""
    changes: list[float] = field(default_factory=list)

    def warm(self, since: float, until: float) -> int:
        """Return the replicas to begin with."""
        first, last = self.arrivals.searchsorted([since, until])
        rate = (last - first) / max(1e-9, until - since)
        return self.workload.bounded(math.ceil(rate / (WARM_USE * self.workload.rate)))

    def run(self, since: float, until: float, *, warm: int) -> None:
        """Go through a piece of the trace, beginning with ``warm`` replicas that are ready."""
        station = self.fleet.station
        self.fleet.resize(warm, since, warm=True)
        station.advance(since)
        before, last = station.totals(since), since
        now = since + self.policy.interval
        while now <= until:
            self.fleet.fail(now)
            station.advance(now)
            self.fleet.miss(now)
            after = station.totals(now)
            tick = self._tick(before, after, last, now)
            self.ticks.append((now, tick.ready, tick.starting, tick.waiting))
            if self.fleet.resize(self.workload.bounded(self.policy.replicas(tick)), now):
                self.changes.append(now)
            before, last = after, now
            now += self.policy.interval
        self.fleet.fail(until)
        station.advance(until)

    def _tick(self, before: Totals, after: Totals, last: float, now: float) -> Tick:
        ready = self.fleet.ready(now)
        return Tick(
            now=now,
            interval=now - last,
            ready=ready,
            starting=self.fleet.held - ready,
            arrivals=after.arrivals - before.arrivals,
            answered=after.answered - before.answered,
            failed=after.lost - before.lost,
            runs=(after.runs - after.in_runs) - (before.runs - before.in_runs),
            busy_seconds=after.busy_seconds - before.busy_seconds,
            present_seconds=after.present_seconds - before.present_seconds,
            waited_seconds=after.waited_seconds - before.waited_seconds,
            begun=after.begun - before.begun,
            waiting=after.waiting,
            running=after.running,
            instances=self.workload.instances,
            load_times=self.fleet.loaded(last, now),
        )

    def outcome(self, judged: Sequence[Span], span: float) -> Outcome:
        """Return what came of it, over the ``judged`` spans."""
        arrivals, station = self.arrivals, self.fleet.station
        # What still waits in the end waited at least until then.
        waits = np.maximum(0.0, span - arrivals)
        waits[: station.begun] = station.waits()
        serves = np.full(len(arrivals), self.workload.profile.seconds(1))
        serves[: station.begun] = station.serves()
        taken = np.zeros(len(arrivals), dtype=bool)
        for since, until in judged:
            taken |= (arrivals >= since) & (arrivals < until)
        waits, serves = waits[taken], serves[taken]
        limit = math.inf if self.workload.objective is None else self.workload.objective
        table = np.array(self.ticks, dtype=float).reshape(-1, 4)
        return Outcome(
            judged_seconds=sum(b - a for a, b in judged),
            replica_seconds=self.fleet.cost(span, judged),
            actions=sum(any(a <= c < b for a, b in judged) for c in self.changes),
            arrivals=arrivals[taken],
            waits=waits,
            # The small part is what adding floats may have left over.
            late=waits + serves > limit + 1e-9,
            timeline=Timeline(table[:, 0], *(table[:, i].astype(np.int64) for i in (1, 2, 3))),
        )
