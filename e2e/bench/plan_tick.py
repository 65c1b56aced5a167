"""One decision of the operator for a whole fleet, without its writes, timed part by part."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conch.api.signals import Key, Signals
from conch.clients.clock import Clock
from conch.clients.triton_fake import FakeReplicas
from conch.decisions.fleet import ServiceKey
from conch.decisions.shares import Shares
from conch.reconcile import garbage
from conch.reconcile.carrier import Carrier
from conch.reconcile.deciding import Decider
from conch.reconcile.fair import Sharing
from conch.reconcile.gather import FleetFacts, Gatherer, ServiceFacts
from conch.reconcile.kept_room import KeptRoom
from conch.reconcile.moves import Moves
from conch.reconcile.profiles import Profiles
from conch.reconcile.recall import Recall
from conch.reconcile.resting import Resting
from conch.reconcile.scaling import Measurement
from conch.reconcile.settings import Settings
from conch.reconcile.status import Outcome
from conch.reconcile.store import Store
from conch.reconcile.warming import Warmer
from e2e.bench.plan_fleet import IMAGES

PARTS = ("gather", "scale", "share", "place")


@dataclass(frozen=True)
class Moment:
    """A point in time: of the machine's clock, and of the CPU time of this process, in seconds."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Moment":
        """Return the present."""
        return cls(time.perf_counter(), time.process_time())


@dataclass(frozen=True)
class Spans:
    """Seconds of a decision by part, of the clock and of the CPU."""

    wall: Mapping[str, float]
    cpu: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """All parts together, by the clock."""
        return sum(self.wall.values())

    @property
    def cpu_seconds(self) -> float:
        """All parts together, of the CPU."""
        return sum(self.cpu.values())


@dataclass(frozen=True)
class Tick:
    """A decision: what it found, and what it took."""

    fleet: FleetFacts
    outcomes: Sequence[Outcome]
    shares: Shares
    spans: Spans


class NoWrites(Carrier):
    """Carries nothing out: plans are played elsewhere, at once."""

    def __init__(self) -> None:
        """Hold nothing."""

    def under_way(self, key: ServiceKey) -> Outcome | None:
        """Return nothing: what was decided is done."""
        del key
        return None

    def trouble(self, facts: ServiceFacts) -> str | None:
        """Return nothing: no write is refused."""
        del facts
        return None


class TimedSharing(Sharing):
    """Remembers when it began and ended last."""

    began = ended = Moment(0.0, 0.0)
    shares = Shares({}, {})

    def decide(self, *args: Any, **options: Any) -> Shares:
        """Return what each service may have."""
        self.began = Moment.now()
        self.shares = super().decide(*args, **options)
        self.ended = Moment.now()
        return self.shares


class Operator:
    """The parts of the operator that decide, put together as its loop does."""

    def __init__(self, store: Store, clock: Clock) -> None:
        settings = Settings(images=IMAGES)
        self._clock = clock
        self._gatherer = Gatherer(store, settings)
        self._profiles = Profiles(store)
        self._resting = Resting(settings.tick_seconds)
        self._sharing = TimedSharing(store, settings.lease_namespace)
        self._decider = Decider(
            clock=clock,
            carrier=NoWrites(),
            profiles=self._profiles,
            recall=Recall(clock),
            resting=self._resting,
            sharing=self._sharing,
            kept=KeptRoom(),
            moves=Moves(Warmer(FakeReplicas(), lambda: None)),
        )

    def measured(self, signals: Mapping[Key, Signals]) -> None:
        """Take over what metrics say."""
        self._decider.measured(Measurement(signals), self._clock.monotonic())

    def gather(self) -> FleetFacts:
        """Return the fleet as it is known now."""
        return self._gatherer.gather()

    def tick(self) -> Tick:
        """Decide for the whole fleet."""
        with garbage.undisturbed():
            return self._tick()

    def _tick(self) -> Tick:
        started = self._clock.monotonic()
        moments = [Moment.now()]
        fleet = self._gatherer.gather()
        self._profiles.observe(fleet.services)
        moments.append(Moment.now())
        outcomes = self._decider.decide(fleet, self._clock.wall())
        for outcome in outcomes:
            at = self._decider.measured_at
            self._resting.note(outcome, at, started, busy=moves(outcome))
        moments += [self._sharing.began, self._sharing.ended, Moment.now()]
        return Tick(fleet, outcomes, self._sharing.shares, _spans(moments))


def _spans(moments: Sequence[Moment]) -> Spans:
    pairs = list(zip(PARTS, moments, moments[1:], strict=False))
    return Spans(
        {name: end.wall - begin.wall for name, begin, end in pairs},
        {name: end.cpu - begin.cpu for name, begin, end in pairs},
    )


def moves(outcome: Outcome) -> bool:
    """Tell whether a plan asks for any write."""
    plan, service = outcome.plan, outcome.facts.service
    there = {(s.revision, s.pool, s.replicas, s.gated) for s in service.sets}
    wished = {(s.revision, s.pool, s.replicas, s.gated) for s in plan.sets}
    pods = (*plan.admissions, *plan.drains, *plan.restores, *plan.deletions)
    return bool(pods or plan.retired or wished - there)
