"""One tick's decisions: what each service needs, what it may have, and the next step towards it.

In this order for the whole fleet, since tenants compete: scaling wishes, sharing grants, planning
places. Nothing is written here.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from conch.api.migration import MoveReason
from conch.api.names import ANNOTATION_PAUSED
from conch.clients.clock import Clock
from conch.decisions import placement, replicas, rolling
from conch.decisions.fleet import Amounts, ServiceKey
from conch.decisions.migrating import surge
from conch.decisions.moving import sent_off
from conch.decisions.placement import Ledger
from conch.decisions.repair import Repair, hopeless, looked_at, marked, mending
from conch.decisions.rolling import Course
from conch.decisions.scaling import ScalingDecision, ScalingState, ServiceLoad, decide
from conch.decisions.scaling.account import Decided
from conch.decisions.scaling.fleet import rates
from conch.decisions.scaling.load_time import DEFAULT_S
from conch.decisions.shares import Grant, Shares
from conch.decisions.steps import Plan
from conch.reconcile.carrier import Carrier
from conch.reconcile.fair import Sharing
from conch.reconcile.front_door import Heard, Reports
from conch.reconcile.gather import FleetFacts, ServiceFacts, unknown_pools
from conch.reconcile.kept_room import Keeping, KeptRoom
from conch.reconcile.localities import Localities, workload
from conch.reconcile.migrations import Wanted
from conch.reconcile.moves import Moves, off_nodes
from conch.reconcile.profiles import Profiles
from conch.reconcile.recall import Recall
from conch.reconcile.reclaims import spared
from conch.reconcile.resting import Resting, same_grant
from conch.reconcile.rollouts import Rollouts
from conch.reconcile.scaling import Measurement, load_of
from conch.reconcile.sharing import Wished, bound
from conch.reconcile.status import Outcome

logger = logging.getLogger(__name__)
Object = dict[str, Any]

POPULAR_S = 5.0
"""Seconds for which what is popular is taken to stay so."""


@dataclass(frozen=True)
class _Proposal:
    """A service after scaling: what it wishes for, or an outcome that no grant changes."""

    facts: ServiceFacts
    load: ServiceLoad | None = None
    decision: ScalingDecision | None = None
    known: Outcome | None = None
    """What was decided before, where nothing changed since."""
    final: Outcome | None = None

    @property
    def wished(self) -> int:
        """Replicas that it wishes for."""
        if self.known is not None and self.known.scaling is not None:
            return self.known.scaling.wished
        return self.decision.wished if self.decision is not None else 0


@dataclass(frozen=True)
class _Tick:
    """What all services of one tick are decided from."""

    fleet: FleetFacts
    ledger: Ledger
    measurement: Measurement
    now: float
    """Seconds since the epoch."""
    moment: float
    """The same in monotonic seconds."""
    heard: Heard | None
    """What the front door tells, None where there is none."""
    keeping: Keeping
    """Room that is kept for some."""


class Decider:
    """Decides for the fleet; keeps what scaling remembers between ticks."""

    def __init__(
        self,
        *,
        clock: Clock,
        carrier: Carrier,
        profiles: Profiles,
        recall: Recall,
        resting: Resting,
        sharing: Sharing,
        moves: Moves,
        kept: KeptRoom,
        reports: Reports | None = None,
    ) -> None:
        """``kept``: room that moves make for those that wait.

        ``reports``: what the front door tells, None where there is none.
        """
        self._clock = clock
        self._carrier = carrier
        self._profiles = profiles
        self._recall = recall
        self._resting = resting
        self._sharing = sharing
        self._reports = reports
        self._moves, self._kept = moves, kept
        self._rollouts = Rollouts()
        self._measurement = Measurement({})
        self._localities = Localities()
        self._popular: Mapping[str, Mapping[Amounts, float]] = {}
        self._popular_at = -math.inf
        self.measured_at = 0.0
        """When metrics last came, in monotonic seconds."""
        self._repairs: dict[ServiceKey, Repair] = {}
        self.states: dict[ServiceKey, ScalingState] = {}
        self.decided: dict[ServiceKey, Decided] = {}
        """What was decided last, from what, and when; read by other threads, so only replaced."""
        self.reclaims: tuple[Wanted, ...] = ()
        """Moves that make room for those who are entitled to it."""
        self.ledger = Ledger()
        """What is free once all that was decided last is done."""

    def measured(self, measurement: Measurement, at: float) -> None:
        """Take over what metrics say; ``at`` is now, in monotonic seconds."""
        if measurement.fault != self._measurement.fault:
            logger.warning("metrics: %s", measurement.fault or "back again")
        self._measurement, self.measured_at = measurement, at

    def decide(self, fleet: FleetFacts, now: float) -> list[Outcome]:
        """Return an outcome for each service; ``now`` in seconds since the epoch."""
        ledger = self.ledger = Ledger(by_pool=self._workload(fleet))
        self._moves.begin()
        # Looked at once: between two looks one scrape would grow younger, and pass for another.
        moment = self._clock.monotonic()
        heard = None if self._reports is None else self._reports.heard(now, moment)
        told: Iterable[ServiceFacts] = fleet.services
        if heard is not None:
            told = [self._told(f, heard, now) for f in fleet.services]
        services = sorted((self._as_under_way(f) for f in told), key=_order)
        for facts in services:
            replicas.book_admitted(facts.service, facts.pools, facts.shapes, ledger)
        services = [self._moved(facts, ledger, now) for facts in services]
        first = (f.key for f in services if _moved_by_people(f))
        keeping = self._kept.begin(ledger, fleet.pools, now, first)
        seen = replace(self._measurement, age=moment - self.measured_at)
        tick = _Tick(fleet, ledger, seen, now, moment, heard, keeping)
        proposals = [self._proposal(facts, tick) for facts in services]
        wishes = [self._wish(p, tick) for p in proposals if p.facts.shapes]
        shares = self._shared(wishes, fleet, now)
        grants = self._spared(proposals, shares, tick)
        outcomes = [self._planned(p, tick, grants.get(p.facts.key)) for p in proposals]
        keeping.end()
        return outcomes

    def _spared(
        self,
        proposals: Iterable[_Proposal],
        shares: Shares,
        tick: _Tick,
    ) -> Mapping[ServiceKey, Grant]:
        """Return the grants without what is moved rather than drained; what to ask for is kept."""
        found, reclaims = dict(shares.grants), list[Wanted]()
        tried = {
            (f.body["metadata"]["namespace"], f.migration.name): f.migration.over
            for f in tick.fleet.migrations.filed
        }
        for proposal in proposals:
            facts, grant = proposal.facts, shares.grants.get(proposal.facts.key)
            if grant is not None and grant.given_up and proposal.final is None:
                found[facts.key], asked = spared(facts, grant, shares.free, tried)
                reclaims += [] if asked is None else [asked]
        self.reclaims = tuple(reclaims)
        return found

    def _shared(self, wishes: Sequence[Wished], fleet: FleetFacts, now: float) -> Shares:
        """Return what each service may have; where a defect keeps that from being told, what it has."""
        try:
            return self._sharing.decide(wishes, fleet.pools, now, self._popular)
        except Exception:
            logger.exception("sharing failed: nobody is given more or less than there is")
            return Shares({w.facts.key: _as_it_is(w.facts) for w in wishes}, {})

    def _workload(self, fleet: FleetFacts) -> Mapping[str, Mapping[Amounts, float]]:
        """Return what is popular, by the wishes of the last tick; looked at again after a while."""
        moment = self._clock.monotonic()
        if moment - self._popular_at >= POPULAR_S:
            asked = ((f, self.decided[f.key]) for f in fleet.services if f.key in self.decided)
            self._popular = workload((f, d.decision.wished) for f, d in asked)
            self._popular_at = moment
        return self._popular

    def forget(self, kept: set[ServiceKey]) -> None:
        """Drop what is remembered of all services but these."""
        self._rollouts.forget(kept)
        for memory in (self.states, self.decided, self._repairs):
            for key in memory.keys() - kept:
                del memory[key]

    def _told(self, facts: ServiceFacts, heard: Heard, now: float) -> ServiceFacts:
        """Return a service with what the front door tells of it; a defect leaves it as it is."""
        try:
            return self._looked_at(heard.of(facts), now)
        except Exception:
            logger.exception("%s: what the front door tells is not taken over", facts.key)
            return facts

    def _moved(self, facts: ServiceFacts, ledger: Ledger, now: float) -> ServiceFacts:
        """Return a service with what its migrations are about; a defect leaves it as it is."""
        if _paused(facts.body) or not facts.shapes:
            return facts
        try:
            return self._moves.look(facts, ledger, now)
        except Exception:
            logger.exception("%s: its migrations are not looked at", facts.key)
            return facts

    def _looked_at(self, facts: ServiceFacts, now: float) -> ServiceFacts:
        """Return a service with the replica that is to be replaced as it answers nothing, if any."""
        known = self._repairs.get(facts.key, Repair())
        well = known == Repair() and not any(p.broken for p in facts.service.pods)
        if well or _paused(facts.body):
            return facts
        seconds = max(self._profiles.load_seconds(facts).values(), default=DEFAULT_S)
        known = looked_at(facts.service, known, now, load_seconds=seconds)
        self._repairs[facts.key] = known
        if known.uid is None and not hopeless(facts.service, known):
            return facts
        versions = (*facts.versions, known.uid)
        return replace(facts, service=marked(facts.service, known), versions=versions)

    def _as_under_way(self, facts: ServiceFacts) -> ServiceFacts:
        """Return a service as it will be once the admissions that are under way are written."""
        outcome = self._carrier.under_way(facts.key)
        if outcome is None or not outcome.plan.admissions:
            return facts
        nodes = {a.pod.uid: a.node for a in outcome.plan.admissions}
        pods = tuple(
            replace(p, gated=False, pinned=nodes[p.uid]) if p.gated and p.uid in nodes else p
            for p in facts.service.pods
        )
        return replace(facts, service=replace(facts.service, pods=pods))

    def _proposal(self, facts: ServiceFacts, tick: _Tick) -> _Proposal:
        """Let scaling wish; a defect stops this service's changes only, and says so on it."""
        try:
            known = self._resting.outcome(facts, self.measured_at, tick.moment)
            if known is not None:
                return _Proposal(facts, known=known)
            if _paused(facts.body) or not facts.shapes:
                return _Proposal(facts, final=self._still(facts, tick.fleet))
            with tick.keeping.open_to(facts.key):
                return self._scaled(facts, tick)
        except Exception as error:
            logger.exception("%s: not decided on", facts.key)
            return _Proposal(facts, final=_defect(facts, error))

    def _still(self, facts: ServiceFacts, fleet: FleetFacts) -> Outcome:
        """Return the outcome of a service for which nothing can or may be done."""
        missing = unknown_pools(facts, fleet) if not facts.pools else None
        plan = Plan(serving_revision=facts.service.serving_revision)
        trouble = self._carrier.trouble(facts)
        return Outcome(facts, plan, None, missing, error=trouble, paused=_paused(facts.body))

    def _scaled(self, facts: ServiceFacts, tick: _Tick) -> _Proposal:
        load = load_of(
            facts,
            tick.measurement,
            tick.ledger,
            now=tick.now,
            load_seconds=self._profiles.load_seconds(facts),
            heard=tick.heard,
        )
        load = bound(load, self._sharing.last(facts.key))
        state = self.states.get(facts.key) or self._profiles.initial(facts)
        decision = decide(load, self._recall.state(facts, load, state), tick.moment)
        self.states[facts.key] = decision.state
        self.decided[facts.key] = Decided(load, decision, tick.moment)
        return _Proposal(facts, load, decision)

    def _wish(self, proposal: _Proposal, tick: _Tick) -> Wished:
        with tick.keeping.open_to(proposal.facts.key):
            return self._wished(proposal, tick.ledger)

    def _wished(self, proposal: _Proposal, ledger: Ledger) -> Wished:
        facts, key = proposal.facts, proposal.facts.key
        decided = self.decided.get(key)
        load = decided.load if decided is not None else None
        lacks = load is not None and proposal.wished > load.held
        replaced = any(p.replaced for p in facts.service.pods)
        wished = proposal.wished
        tried = _on_trial(facts, wished, ledger)
        return Wished(
            facts=facts,
            # Who is replaced keeps its place until another answers, but nobody gives one up for it.
            replicas=off_nodes(facts, wished, ledger).replicas
            + tried
            + surge(facts.service)
            + (replaced and (not lacks or _free(facts, ledger))),
            load_seconds=load.load_seconds if load is not None else ServiceLoad(()).load_seconds,
            rates=rates(load, self.states[key]) if load is not None and lacks else {},
            orders=self._moves.orders(key),
            untouchable=proposal.final is not None,
        )

    def _planned(self, proposal: _Proposal, tick: _Tick, grant: Grant | None) -> Outcome:
        """Plan a service within its grant; a defect stops this service's changes only."""
        if proposal.final is not None:
            return proposal.final
        known, facts = proposal.known, proposal.facts
        if known is not None and same_grant(known.grant, grant):
            return known
        try:
            with tick.keeping.open_to(facts.key):
                if known is not None:
                    # Only what it may have changed: scaling has its say again.
                    proposal = self._scaled(facts, tick)
                return self._plan(proposal, tick, grant)
        except Exception as error:
            logger.exception("%s: not decided on", facts.key)
            return _defect(facts, error)

    def _plan(self, proposal: _Proposal, tick: _Tick, grant: Grant | None) -> Outcome:
        facts, load, decision = proposal.facts, proposal.load, proposal.decision
        if load is None or decision is None or grant is None:
            raise ValueError("a service without a wish or a grant can't be planned")
        wanted = _wanted(facts, load, decision, grant, tick.ledger)
        room = bool(_room(facts, tick.ledger, grant, 1))
        rollout = self._rollouts.look(facts, tick.heard, tick.now, room=room)
        # What stands beside is acted on once the status tells of it: shares were asked for that.
        acted_on = rollout if facts.service.trial is None else facts.rollout
        course = rolling.course(acted_on, facts.service, facts.spec.rollout, wanted)
        known = self._resting.plan(facts, wanted, grant)
        plan = known or self._next(facts, load, wanted, tick, grant=grant, course=course)
        return Outcome(
            facts,
            plan,
            decision,
            unknown_pools(facts, tick.fleet),
            self._carrier.trouble(facts),
            wanted=wanted,
            grant=grant,
            migrations=self._moves.news(facts.key),
            rollout=rollout,
        )

    def _next(
        self,
        facts: ServiceFacts,
        load: ServiceLoad,
        wanted: int,
        tick: _Tick,
        *,
        grant: Grant,
        course: Course,
    ) -> Plan:
        """Return the next step towards so many replicas that answer."""
        service, most = facts.service, grant.total
        if course.trial:
            # What is on trial counts among what there may be, and leaves nodes as others do.
            tried = off_nodes(_tried(facts), course.trial, tick.ledger, most=most - wanted)
            course = replace(course, trial=tried.replicas)
            service = sent_off(service, tried.going)
            most -= min(tried.replicas, max(0, most - wanted))
        whole = mending(
            service,
            wanted,
            held=load.held,
            most=most,
            free=any(p.replaced for p in service.pods) and _free(facts, tick.ledger),
        )
        moves = off_nodes(facts, wanted, tick.ledger, most=most)
        stuck = _explained(facts, tick.ledger) if moves.stuck else ()
        count = max(whole.replicas, moves.replicas)
        beside = min(surge(service), max(0, most - count))
        plan = replicas.plan(
            sent_off(service, moves.going),
            count + beside,
            pools=facts.pools,
            shapes=facts.shapes,
            ledger=tick.ledger,
            now=tick.now,
            grant=grant,
            wish=self._localities.wish(facts, load.load_seconds),
            orders=self._moves.orders(facts.key),
            course=course,
            trial_shapes=facts.trial_shapes,
        )
        plan = replace(plan, stuck=stuck)
        old = whole.delete
        if old is None or old in (*plan.deletions, *plan.drains):
            return plan
        return replace(plan, deletions=(*plan.deletions, old))


def _moved_by_people(facts: ServiceFacts) -> bool:
    """Tell whether replicas of a service are to go elsewhere by a person's wish."""
    reasons = (f.migration.spec.reason for f in facts.migrations)
    return MoveReason.REQUESTED in reasons or any(p.leaves for p in facts.service.pods)


def _free(facts: ServiceFacts, ledger: Ledger) -> bool:
    """Tell whether there is a place for one more replica, that no autoscaler has to buy."""
    pools = [p for p in facts.pools if not p.spec.elastic]
    return any(placement.room(p, facts.shapes[p.name], ledger, most=1) for p in pools)


def _on_trial(facts: ServiceFacts, wished: int, ledger: Ledger) -> int:
    """Return how many replicas of a revision on trial are to be, once the status tells of it."""
    if facts.service.trial is None:
        return 0
    course = rolling.course(facts.rollout, facts.service, facts.spec.rollout, wished)
    return off_nodes(_tried(facts), course.trial, ledger).replicas if course.trial else 0


def _tried(facts: ServiceFacts) -> ServiceFacts:
    """Return a service as if the revision on trial were the one that is wanted."""
    service = replace(facts.service, revision=facts.service.trial)
    return replace(facts, service=service, shapes=facts.trial_shapes)


def _explained(facts: ServiceFacts, ledger: Ledger) -> tuple[str, ...]:
    return tuple(placement.explain(p, facts.shapes[p.name], ledger) for p in facts.pools)


def _defect(facts: ServiceFacts, error: Exception) -> Outcome:
    still = Plan(serving_revision=facts.service.serving_revision)
    return Outcome(facts, still, None, None, error=f"a defect of Conch: {error!r}")


def _order(facts: ServiceFacts) -> tuple[int, str, bool, ServiceKey]:
    """Return what the services of one tick are ordered by, the first to choose its nodes first.

    Who may have how many is not decided by it. Among equals the older one comes first, and one
    that has ReplicaSets already.
    """
    created: str = facts.body["metadata"]["creationTimestamp"]
    return -facts.spec.priority, created, not facts.service.sets, facts.key


def _wanted(
    facts: ServiceFacts,
    load: ServiceLoad,
    decision: ScalingDecision,
    grant: Grant,
    ledger: Ledger,
) -> int:
    """Return the replicas to plan for: what may and can be had, and what the user insists on.

    Only what the user insists on may be short of GPUs; a scaler's wish beyond them is no demand.
    """
    insisted = load.minimum if load.fixed is None else load.fixed
    if load.kept is not None:
        insisted = load.kept
    most = min(decision.wished, grant.total)
    if most > load.held:
        most = min(most, load.held + _room(facts, ledger, grant, most - load.held))
    return max(most, min(decision.wished, insisted))


def _room(facts: ServiceFacts, ledger: Ledger, grant: Grant, most: int) -> int:
    """Return how many more replicas fit now, where the service may have them; at most ``most``."""
    found = 0
    for pool in facts.pools:
        if grant.replicas.get(pool.name, 0) and found < most:
            found += placement.room(pool, facts.shapes[pool.name], ledger, most=most - found)
    return found


def _as_it_is(facts: ServiceFacts) -> Grant:
    """Return a grant of what a service has."""
    there = (p.pool for p in facts.service.pods if not p.deleting and not p.gated)
    return Grant(replicas=dict(Counter(there)))


def _paused(body: Mapping[str, Any]) -> bool:
    annotations = body["metadata"].get("annotations") or {}
    return bool(annotations.get(ANNOTATION_PAUSED) == "true")
