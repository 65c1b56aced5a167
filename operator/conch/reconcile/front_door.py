"""What all replicas of the front door report together.

Each report is whole, so the last one of each replica counts, and no replica's silence or nonsense
takes anything from what the others say. What nobody can tell is unknown, never zero.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from conch.api.names import FRONT_DOOR, LABEL_FRONT_DOOR
from conch.clients.clock import Clock
from conch.clients.front_door import Report
from conch.decisions.canary import Tally
from conch.decisions.fleet import ServiceKey
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.store import leaving
from conch.reconcile.views import condition

Object = dict[str, Any]
Tallies = Mapping[str, Tally]
"""By revision."""

FRESH_S = 15.0
"""Age up to which a report tells of now: three polls, each of which brings one."""
BROKEN_FRESH_S = 10.0
"""The same for what would delete a replica."""
REMEMBERED_S = 3600.0
"""So long it is known when somebody last asked in vain."""
_JITTER_S = 1.0
"""Two reports of one request put it so far apart at most."""


@dataclass(frozen=True)
class Door:
    """One replica of the front door."""

    uid: str
    name: str
    address: str
    ready: bool
    """Whether callers reach it."""
    leaving: bool = False


def doors_of(pods: Iterable[Object], namespace: str) -> Mapping[str, Door]:
    """Return the replicas of the front door that may answer, by UID; ``namespace`` is their own."""
    found = {}
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status") or {}
        labelled = (metadata.get("labels") or {}).get(LABEL_FRONT_DOOR) == FRONT_DOOR
        here = labelled and metadata.get("namespace") == namespace
        address = status.get("podIP")
        if here and address and status.get("phase") not in ("Succeeded", "Failed"):
            ready = condition(pod, "Ready").get("status") == "True"
            found[metadata["uid"]] = Door(
                metadata["uid"], metadata["name"], str(address), ready, leaving(pod)
            )
    return found


@dataclass(frozen=True)
class _Said:
    """What a replica said last; times are monotonic seconds."""

    door: Door
    since: float
    """When it was first seen."""
    at: float | None = None
    """When its last report came."""
    report: Report = field(default_factory=lambda: Report(0))

    @property
    def heard_at(self) -> float:
        return self.since if self.at is None else self.at

    @property
    def had_callers(self) -> bool:
        """Whether requests may be under way through it: one that just starts had none yet."""
        return self.door.ready or self.door.leaving or self.at is not None


@dataclass(frozen=True)
class Heard:
    """All that the front door tells at one moment."""

    said: tuple[_Said, ...] = ()
    asked_at: Mapping[ServiceKey, float] = field(default_factory=dict)
    """When a request last had to wait for a replica, in monotonic seconds."""
    canaries: Mapping[ServiceKey, Tallies] = field(default_factory=dict)
    """What all replicas counted, those that are gone included."""
    moment: float = 0.0
    """Now, in monotonic seconds."""
    wall: float = 0.0
    """The same in seconds since the epoch."""

    @property
    def deaf(self) -> float | None:
        """For how many seconds some replica that callers reach has told nothing; None: all do.

        0 where callers reach none: then nobody asks, and nobody knows.
        """
        silent = [
            self.moment - s.heard_at for s in self.said if s.door.ready and not self._fresh(s)
        ]
        if silent:
            return max(silent)
        return None if any(s.door.ready for s in self.said) else 0.0

    @property
    def doors(self) -> int:
        """How many replicas callers reach."""
        return sum(s.door.ready for s in self.said)

    def asked(self, key: ServiceKey) -> float | None:
        """Return how long ago (s) a request last had to wait for a replica of a service."""
        at = self.asked_at.get(key)
        return None if at is None else max(0.0, self.moment - at)

    def of(self, facts: ServiceFacts) -> ServiceFacts:
        """Return a service with what is told of it; it is another one whenever that is."""
        drains = [p for p in facts.service.pods if p.draining_since is not None]
        counts = {p.uid: self.in_flight(p.uid, p.draining_since or 0.0) for p in drains}
        silent = {p.uid: self.broken[p.uid] for p in facts.service.pods if p.uid in self.broken}
        told = (
            self.asked_at.get(facts.key),
            self.waiting(facts.key),
            tuple(counts.items()),
            tuple(silent.items()),
        )
        if told == (None, 0, (), ()):
            return facts
        pods = tuple(
            replace(p, in_flight=counts.get(p.uid, p.in_flight), broken=silent.get(p.uid))
            for p in facts.service.pods
        )
        service = replace(facts.service, pods=pods) if counts or silent else facts.service
        return replace(facts, service=service, versions=(*facts.versions, told))

    def waiting(self, key: ServiceKey) -> int:
        """Return how many requests wait for a replica of a service, as far as is known."""
        return sum(s.report.waiting.get(key, 0) for s in self.said if self._fresh(s))

    def in_flight(self, uid: str, since: float) -> int | None:
        """Return the requests under way to a pod that leaves ``since`` then (epoch, s).

        None while a replica has not told of it: what it said before the pod was to leave is no
        answer. With no replica there is nobody who could tell.
        """
        counts = [self._count(s, uid, since) for s in self.said if s.had_callers]
        known = [c for c in counts if c is not None]
        return sum(known) if counts and len(known) == len(counts) else None

    def _count(self, said: _Said, uid: str, since: float) -> int | None:
        if said.at is None or self.wall - (self.moment - said.at) < since:
            return None
        return said.report.in_flight.get(uid)

    @cached_property
    def broken(self) -> Mapping[str, str]:
        """Return, by UID, the pods that take requests and answer none, and how that showed."""
        found: dict[str, str] = {}
        for said in self.said:
            if said.at is not None and self.moment - said.at <= BROKEN_FRESH_S:
                for uid, words in said.report.broken.items():
                    found.setdefault(uid, words)
        return found

    def canary(self, key: ServiceKey) -> Tallies | None:
        """Return what requests to a service under a canary came to, by revision.

        Counts only grow; use Tally.since, also since they begin anew with the operator. None where no
        replica tells of that canary now: what nobody counts is unknown, never zero.
        """
        told = any(key in s.report.canaries for s in self.said if self._fresh(s))
        return self.canaries.get(key) if told else None

    def _fresh(self, said: _Said) -> bool:
        return said.at is not None and self.moment - said.at <= FRESH_S


class Reports:
    """Keeps the last report of each live replica, and wakes the loop when one brings news."""

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._said: dict[str, _Said] = {}
        self._asked: dict[ServiceKey, float] = {}
        self._canaries: dict[ServiceKey, Tallies] = {}

    def live(self, doors: Mapping[str, Door]) -> None:
        """Take over which replicas there are, by UID."""
        now, before = self._clock.monotonic(), self._said
        self._said = {
            uid: replace(before.get(uid, _Said(door, now)), door=door)
            for uid, door in sorted(doors.items())
        }
        if {u: s.door for u, s in before.items()} != doors:
            self._wake()

    def take(self, uid: str, report: Report) -> None:
        """Take over a report that came just now; one of a replica that is gone says nothing."""
        known = self._said.get(uid)
        if known is None:
            return
        now = self._clock.monotonic()
        news = known.at is None or now - known.at > FRESH_S or _differ(known.report, report)
        self._said[uid] = replace(known, at=now, report=report)
        self._counted(known.report, report)
        for key, seconds in report.asked.items():
            if now - seconds > self._asked.get(key, -math.inf) + _JITTER_S:
                self._asked[key] = now - seconds
                news = True
        if news:
            self._wake()

    def _counted(self, before: Report, report: Report) -> None:
        """Add what a replica has counted since its report before, to what all did."""
        for key, tallies in report.canaries.items():
            had, all_of_it = before.canaries.get(key, {}), dict(self._canaries.get(key, {}))
            for revision, tally in tallies.items():
                grown = tally.since(had.get(revision))
                all_of_it[revision] = all_of_it.get(revision, Tally()) + grown
            self._canaries[key] = all_of_it
        told = {key for said in self._said.values() for key in said.report.canaries}
        for key in self._canaries.keys() - told:
            del self._canaries[key]

    def heard(self, wall: float, moment: float) -> Heard:
        """Return all that is known now; ``wall`` since the epoch, ``moment`` monotonic, in seconds."""
        for key in [k for k, at in self._asked.items() if moment - at > REMEMBERED_S]:
            del self._asked[key]
        canaries = dict(self._canaries)
        return Heard(tuple(self._said.values()), dict(self._asked), canaries, moment, wall)


def _differ(before: Report, now: Report) -> bool:
    """Tell whether a report brings news; that more requests wait is none once they double."""
    if (before.in_flight, before.broken.keys()) != (now.in_flight, now.broken.keys()):
        return True
    if _troubles(before) != _troubles(now):
        return True
    return any(
        _far_apart(before.waiting.get(k, 0), now.waiting.get(k, 0))
        for k in {*before.waiting, *now.waiting}
    )


def _troubles(report: Report) -> Mapping[tuple[ServiceKey, str], int]:
    """Return what changes with a revision's first error under a canary, and once they double."""
    return {
        (key, revision): tally.errors.bit_length()
        for key, tallies in report.canaries.items()
        for revision, tally in tallies.items()
    }


def _far_apart(before: int, now: int) -> bool:
    return (before == 0) != (now == 0) or now >= 2 * before > 0
