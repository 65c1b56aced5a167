"""Requests, batches, queues and replicas of one service, request by request.

One queue before all instances of all replicas, first come first served: as behind a front door
that sends each request to the replica with the least to do. An instance that is free takes what
waits, up to a batch, and is held for fixed + per_item·batch seconds.
"""

import math
from collections.abc import Iterable
from heapq import heapify, heappush, heapreplace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from conch.decisions.scaling import Profile

Seconds = NDArray[np.float64]


Slot = tuple[float, int, int, int]
"""An instance of the model in a replica: when it can begin another run (the end of its run, or when
its replica is ready), the replica, the requests of its last run (0 before the first) and the index
of the first of them."""


class Totals(NamedTuple):
    """What happened until a moment, all counted from the start."""

    arrivals: int
    begun: int
    """Requests whose run began."""
    runs: int
    """Runs that began."""
    lost: int
    running: int
    """Requests in a run now."""
    in_runs: int
    """Runs in progress now."""
    busy_seconds: float
    present_seconds: float
    waited_seconds: float

    @property
    def waiting(self) -> int:
        """Requests that wait now."""
        return self.arrivals - self.begun

    @property
    def answered(self) -> int:
        """Requests whose run ended."""
        return self.begun - self.running - self.lost


class Station:
    """The instances of a service and the queue before them.

    ``arrivals`` are the times of the requests, in seconds, rising.
    """

    def __init__(
        self,
        arrivals: Seconds,
        profile: Profile,
        *,
        max_batch: int = 1,
        instances: int = 1,
        queue_delay: float = 0.0,
    ) -> None:
        self._arrivals = arrivals
        self._sums = np.concatenate(([0.0], np.cumsum(arrivals)))
        self._profile = profile
        self._batch = max(1, max_batch)
        self._instances = max(1, instances)
        self._delay = queue_delay if self._batch > 1 else 0.0
        self._slots: list[Slot] = []
        self._leaving: list[Slot] = []
        """Of replicas that drain: they finish their run and begin none."""
        self._starts = np.empty(len(arrivals))
        self.begun = 0
        """Requests whose run began."""
        self._sizes: list[int] = []
        """Of each run that serves a batch, in the order of their beginnings."""
        self._runs = 0
        self._time = -math.inf
        self._lost: list[tuple[int, int]] = []
        self._work = 0.0
        """Seconds of all runs that began, to their end."""
        self._waiting = 0.0
        """Seconds that all requests that began had waited."""
        self._sojourn = 0.0
        """Request-seconds of all requests that began, to their end; what is lost taken off."""

    def add(self, replica: int, ready_at: float) -> None:
        """Add the instances of a replica that will be ready at a time."""
        for _ in range(self._instances):
            heappush(self._slots, (ready_at, replica, 0, 0))

    def drain(self, replica: int, now: float) -> float:
        """Begin no more runs on a replica; return when its last one ends, ``now`` without any."""
        runs = [slot for slot in self._take(replica) if _runs_at(slot, now)]
        self._leaving += runs
        return max((free for free, *_ in runs), default=now)

    def lose(self, replicas: Iterable[int], now: float) -> None:
        """Have replicas vanish, with the requests in their runs."""
        lost = set(replicas)
        gone = [slot for replica in lost for slot in self._take(replica)]
        gone += [slot for slot in self._leaving if slot[1] in lost]
        self._leaving = [slot for slot in self._leaving if slot[1] not in lost]
        for slot in gone:
            if _runs_at(slot, now):
                free, _, size, first = slot
                self._lost.append((first, size))
                self._work -= free - now
                self._sojourn -= size * (free - now)

    def _take(self, replica: int) -> list[Slot]:
        mine = [slot for slot in self._slots if slot[1] == replica]
        self._slots = [slot for slot in self._slots if slot[1] != replica]
        heapify(self._slots)
        return mine

    def advance(self, until: float) -> None:
        """Begin all runs that begin by ``until`` (s)."""
        if not self._slots:
            return
        before = self.begun
        if self._batch > 1:
            self._advance_batches(until)
            return
        new = [free for free, _, size, _ in self._slots if not size and self._time < free < until]
        for moment in sorted({*new, until}):
            self._advance_singles(moment)
        self._time = until
        work = self._profile.seconds(1) * (self.begun - before)
        self._runs += self.begun - before
        self._account(before, work, work)

    def _advance_singles(self, until: float) -> None:
        """As long as all runs take the same time, instances take turns: one column each.

        Within a column a run begins when its request has come and the run before has ended, which
        is a running maximum once the time of the runs so far is taken off.
        """
        ready = sorted(slot for slot in self._slots if slot[0] < until or slot[2])
        came = int(self._arrivals.searchsorted(until, side="right"))
        count, width = came - self.begun, len(ready)
        if not count or not width:  # all that came has begun, or nothing can begin
            return
        seconds = self._profile.seconds(1)
        rows = -(-count // width)
        starts = np.full(rows * width, np.inf)
        starts[:count] = self._arrivals[self.begun : came]
        table = starts.reshape(rows, width)
        np.maximum(table[0], [slot[0] for slot in ready], out=table[0])
        taken = (np.arange(rows) * seconds)[:, None]
        table -= taken
        np.maximum.accumulate(table, axis=0, out=table)
        table += taken
        begun = int(starts[:count].searchsorted(until, side="right"))
        self._starts[self.begun : self.begun + begun] = starts[:begun]
        for column in range(min(width, begun)):
            last = column + (begun - 1 - column) // width * width
            end = float(starts[last]) + seconds
            ready[column] = (end, ready[column][1], 1, self.begun + last)
        self._slots = ready + [slot for slot in self._slots if slot[0] >= until and not slot[2]]
        heapify(self._slots)
        self.begun += begun

    def _advance_batches(self, until: float) -> None:
        fixed, item, most = self._profile.fixed, self._profile.per_item, self._batch
        slots, delay, first = self._slots, self._delay, self.begun
        # Those that can begin, and a batch more, for the delay looks ahead.
        came = int(self._arrivals.searchsorted(until, side="right"))
        arrivals = self._arrivals[first : came + most].tolist()
        starts: list[float] = []
        sizes: list[int] = []
        i, count = 0, len(arrivals)
        while i < count:
            start = arrivals[i]
            if delay:
                full = i + most - 1
                start = min(start + delay, arrivals[full]) if full < count else start + delay
            start = max(start, slots[0][0])
            if start > until:
                break
            end, last = i + 1, min(i + most, count)
            while end < last and arrivals[end] <= start:
                end += 1
            size = end - i
            starts += [start] * size
            sizes.append(size)
            heapreplace(slots, (start + fixed + item * size, slots[0][1], size, first + i))
            i = end
        self._starts[first : first + i] = starts
        self.begun += i
        self._sizes += sizes
        self._runs += len(sizes)
        served = sum([size * (fixed + item * size) for size in sizes])
        self._account(first, fixed * len(sizes) + item * i, served)

    def _account(self, before: int, work: float, served: float) -> None:
        """Add what began since to the sums: instance-seconds, and request-seconds, of its runs."""
        begun = slice(before, self.begun)
        waited = float(self._starts[begun].sum() - self._sums[self.begun] + self._sums[before])
        self._work += work
        self._waiting += waited
        self._sojourn += waited + served

    def totals(self, now: float) -> Totals:
        """Return what happened until ``now``, which everything must have been advanced to."""
        self._leaving = [slot for slot in self._leaving if slot[0] > now]
        runs = [slot for slot in self._slots if _runs_at(slot, now)] + self._leaving
        came = int(self._arrivals.searchsorted(now, side="right"))
        queued = (came - self.begun) * now - float(self._sums[came] - self._sums[self.begun])
        ahead = sum([size * (free - now) for free, _, size, _ in runs])
        return Totals(
            arrivals=came,
            begun=self.begun,
            runs=self._runs,
            lost=sum(size for _, size in self._lost),
            running=sum([size for _, _, size, _ in runs]),
            in_runs=len(runs),
            busy_seconds=self._work - sum([free - now for free, *_ in runs]),
            present_seconds=self._sojourn - ahead + queued,
            waited_seconds=self._waiting,
        )

    def waits(self) -> Seconds:
        """Return how long each request that began had waited (s); infinite for the lost ones."""
        found = self._starts[: self.begun] - self._arrivals[: self.begun]
        for first, size in self._lost:
            found[first : first + size] = np.inf
        return found

    def serves(self) -> Seconds:
        """Return how long the run of each request that began took (s)."""
        if self._batch == 1:
            return np.full(self.begun, self._profile.seconds(1))
        sizes = np.array(self._sizes, dtype=np.int64)
        return np.repeat(self._profile.fixed + self._profile.per_item * sizes, sizes)


def _runs_at(slot: Slot, now: float) -> bool:
    return slot[2] > 0 and slot[0] > now
