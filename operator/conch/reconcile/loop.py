"""The loop: gather, decide, apply. Level-triggered; at rest it writes nothing."""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from conch.api.conditions import Condition, Reason
from conch.api.names import ANNOTATION_PAUSED, LABEL_MANAGED_BY, LABEL_SERVICE, MANAGED_BY
from conch.api.signals import Key, Signals
from conch.clients.clock import Clock, iso
from conch.clients.cluster import Cluster, ClusterError, NotLeaderError
from conch.clients.events import Recorder
from conch.decisions import replicas
from conch.decisions.fleet import ServiceKey
from conch.decisions.placement import Ledger
from conch.decisions.scaling import ScalingDecision, ScalingState, decide
from conch.provisioning.metadata import LABEL_NAMESPACE
from conch.reconcile import status as statuses
from conch.reconcile.execute import Executor
from conch.reconcile.exposition import Exposition, ServiceFigures, figures
from conch.reconcile.gather import (
    FleetFacts,
    Gatherer,
    ServiceFacts,
    child_key,
    unknown_pools,
)
from conch.reconcile.node_cache import NodeCaches, is_cache_volume
from conch.reconcile.profiles import Profiles
from conch.reconcile.resolve import Fault
from conch.reconcile.scaling import Measurement, load_of
from conch.reconcile.settings import Settings
from conch.reconcile.status import Outcome
from conch.reconcile.store import Store, leaving
from conch.reconcile.writer import Writer

logger = logging.getLogger(__name__)
Object = dict[str, Any]

DEBOUNCE_S = 0.05
"""Events that come together make one tick."""
FIRST_RETRY_S, LONGEST_RETRY_S = 0.25, 60.0
CONFLICT = 409
_TOLD = ("Ready", "Admitted", "Loaded", "ScalingActive")
_QUIET = (Reason.SCALING, Reason.FIXED_REPLICAS, Reason.PAUSED)
TELLING_TRIES = 3
"""A conflict of versions means that a newer state is on its way; only one that stays is told."""


@dataclass
class _Retry:
    """How long to leave a service alone whose writes were refused."""

    message: str
    delay: float
    due: float
    tries: int
    status: int

    @property
    def told(self) -> str | None:
        """The message, where a user should read it."""
        if self.status == CONFLICT and self.tries < TELLING_TRIES:
            return None
        return self.message


@dataclass
class Reconciler:
    """Owns the state between ticks: the store's contents, and what scaling remembers."""

    cluster: Cluster
    store: Store
    settings: Settings
    clock: Clock
    ticks: int = 0

    def __post_init__(self) -> None:
        """Build the parts."""
        self.exposition = Exposition()
        self._writer = Writer(self.cluster, self.store, self.exposition.count)
        self._caches = NodeCaches(
            self.cluster, self.store, self._writer, self.clock, self.settings.cache_path
        )
        self._executor = Executor(self._writer, self.store, self._caches)
        self._gatherer = Gatherer(self.store, self.settings)
        self._recorder = Recorder(self.cluster, self.clock)
        self._profiles = Profiles(self.store)
        self._scaling: dict[ServiceKey, ScalingState] = {}
        self._retries: dict[ServiceKey, _Retry] = {}
        self._wanted: dict[ServiceKey, int] = {}
        self._told: dict[ServiceKey, tuple[object, ServiceFigures]] = {}
        """What a status was made from when it last needed no write."""
        self._measurement = Measurement({})
        self._measured_at = 0.0
        self._wake = asyncio.Event()
        self._limit = asyncio.Semaphore(self.settings.concurrency)

    def wake(self) -> None:
        """Ask for a tick soon: something changed."""
        self._wake.set()

    def observe(self, kind: str, event: str | None, body: Object) -> None:
        """Take over a watch event: its type (None while listing) and the object."""
        take = self.store.drop if event == "DELETED" else self.store.put
        if take(kind, body):
            self.wake()

    def measured(self, signals: Mapping[Key, Signals], *, fault: str | None) -> None:
        """Take over what metrics say now, and why they say nothing."""
        if fault != self._measurement.fault:
            logger.warning("metrics: %s", fault or "back again")
        self._measurement = Measurement(signals, fault=fault)
        self._measured_at = self.clock.monotonic()
        self.wake()

    async def run(self) -> None:
        """Tick for ever; raises NotLeaderError when the lease is lost."""
        delay = 0.0
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), delay)
            except TimeoutError:
                pass
            else:
                await asyncio.sleep(DEBOUNCE_S)
            self._wake.clear()
            delay = await self._safe_tick()

    async def _safe_tick(self) -> float:
        """Tick; a defect that no service can be blamed for is logged, and the loop goes on."""
        try:
            return await self.tick()
        except NotLeaderError:
            raise
        except Exception:
            logger.exception("the tick failed")
            return self.settings.tick_seconds

    async def tick(self) -> float:
        """Decide for the whole fleet and write what differs; return seconds to the next tick."""
        now = self.clock.wall()
        with self.exposition.ticks.time():
            fleet = self._gatherer.gather()
            outcomes = self._decide(fleet, now)
            told = await asyncio.gather(*(self._carry_out(o, now) for o in outcomes))
            await self._others(fleet, now)
            self._forget(fleet)
        self.exposition.show((t for t in told if t is not None), fleet.pools)
        self.ticks += 1
        waits = [o.plan.wake_after for o in outcomes if o.plan.wake_after is not None]
        monotonic = self.clock.monotonic()
        waits += [max(0.1, r.due - monotonic) for r in self._retries.values()]
        return max(0.05, min([self.settings.tick_seconds, *waits]))

    def _decide(self, fleet: FleetFacts, now: float) -> list[Outcome]:
        """Plan each service, the most urgent first: earlier ones book what later ones can't have."""
        ledger = Ledger()
        for facts in fleet.services:
            replicas.book_admitted(facts.service, facts.pools, facts.shapes, ledger)
        urgent_first = sorted(fleet.services, key=lambda f: (-f.spec.priority, f.key))
        return [self._guarded(facts, fleet, ledger, now) for facts in urgent_first]

    def _guarded(
        self, facts: ServiceFacts, fleet: FleetFacts, ledger: Ledger, now: float
    ) -> Outcome:
        """Decide on one service; a defect stops this service's changes only, and says so on it."""
        try:
            return self._outcome(facts, fleet, ledger, now)
        except Exception as error:
            logger.exception("%s: not decided on", facts.key)
            still = replicas.Plan(serving_revision=facts.service.serving_revision)
            return Outcome(facts, still, None, None, error=f"a defect of Conch: {error!r}")

    def _outcome(
        self, facts: ServiceFacts, fleet: FleetFacts, ledger: Ledger, now: float
    ) -> Outcome:
        retry = self._retries.get(facts.key)
        error = retry.told if retry else None
        if _paused(facts.body) or not facts.shapes:
            missing = unknown_pools(facts, fleet) if not facts.pools else None
            still = replicas.Plan(serving_revision=facts.service.serving_revision)
            paused = _paused(facts.body)
            return Outcome(facts, still, None, missing, error=error, paused=paused)
        age = self.clock.monotonic() - self._measured_at
        load = load_of(facts, replace(self._measurement, age=age), ledger)
        state = self._scaling.get(facts.key) or self._profiles.initial(facts)
        decision = decide(load, state, self.clock.monotonic())
        self._scaling[facts.key] = decision.state
        wanted = _wanted(facts, decision)
        plan = replicas.plan(
            facts.service,
            wanted,
            pools=facts.pools,
            shapes=facts.shapes,
            ledger=ledger,
            now=now,
        )
        missing = unknown_pools(facts, fleet)
        return Outcome(facts, plan, decision, missing, error, wanted=wanted)

    async def _carry_out(self, outcome: Outcome, now: float) -> ServiceFigures | None:
        """Write one service's plan and status; a refusal is kept to this service."""
        key = outcome.facts.key
        async with self._limit:
            try:
                if not outcome.paused and self._due(key):
                    await self._executor.execute(outcome.facts, outcome.plan, now)
                    self._retries.pop(key, None)
                return await self._tell(outcome, now)
            except ClusterError as error:
                self._refused(key, str(error), error.status)
            except NotLeaderError:
                raise
            except Exception as error:
                logger.exception("%s: not carried out", key)
                self._refused(key, f"a defect of Conch: {error!r}", 0)
        return None

    def _due(self, key: ServiceKey) -> bool:
        retry = self._retries.get(key)
        return retry is None or retry.due <= self.clock.monotonic()

    def _refused(self, key: ServiceKey, message: str, status: int) -> None:
        """Try again later, ever more slowly."""
        before = self._retries.get(key)
        delay = min(LONGEST_RETRY_S, before.delay * 2 if before else FIRST_RETRY_S)
        tries = before.tries + 1 if before else 1
        due = self.clock.monotonic() + delay
        self._retries[key] = retry = _Retry(message, delay, due, tries, status)
        level = logging.WARNING if retry.told else logging.DEBUG
        logger.log(level, "%s: %s (next try in %.1f s)", key, message, delay)

    async def _tell(self, outcome: Outcome, now: float) -> ServiceFigures:
        """Write the status of a service, and Events for what changed in it."""
        key, body = outcome.facts.key, outcome.facts.body
        signature = statuses.signature(outcome)
        told = self._told.get(key)
        if told is not None and told[0] == signature:
            return told[1]
        status = statuses.service_status(outcome, iso(now))
        await self._events(outcome, body, status)
        shown = figures(outcome, status)
        if not await self._writer.status("ModelService", body, status):
            self._told[key] = (signature, shown)
        return shown

    async def _events(self, outcome: Outcome, body: Object, status: Object) -> None:
        key = outcome.facts.key
        if outcome.scaling is not None and outcome.wanted is not None:
            before = self._wanted.get(key)
            self._wanted[key] = outcome.wanted
            if before is not None and before != outcome.wanted:
                text = f"from {before} to {outcome.wanted} replicas"
                message = f"{text}: {outcome.scaling.message}"
                await self._recorder.record(
                    body, "ModelService", reason="Rescaled", message=message
                )
        for change in _transitions(body, status):
            await self._recorder.record(
                body,
                "ModelService",
                reason=change.reason,
                message=change.message,
                warning=change.status == "False",
            )

    async def _others(self, fleet: FleetFacts, now: float) -> None:
        """Write the statuses of pools, models and unreadable services, and sweep volumes."""
        try:
            for pool in fleet.pools:
                body = self.store.get("GPUPool", pool.name)
                if body is not None:
                    wish = statuses.pool_status(body, pool, iso(now))
                    await self._writer.status("GPUPool", body, wish)
            for name, fault in fleet.pool_faults.items():
                await self._broken("GPUPool", self.store.get("GPUPool", name), fault, now)
            for service, fault in fleet.broken:
                await self._broken("ModelService", service, fault, now)
            for model, wish in self._profiles.statuses(fleet.services, self._scaling, iso(now)):
                await self._writer.status(model["kind"], model, wish)
            await self._sweep_volumes()
            await self._caches.sweep(s for f in fleet.services for s in f.snapshots.values())
        except ClusterError as error:
            logger.warning("status not written: %s", error)

    async def _broken(self, kind: str, body: Object | None, fault: Fault, now: float) -> None:
        if body is not None:
            await self._writer.status(kind, body, statuses.broken_status(body, fault, iso(now)))

    async def _sweep_volumes(self) -> None:
        """Delete PersistentVolumes whose service is gone: nothing namespaced can own them.

        So are those of an earlier service of the same name: once released, none is bound again.
        """
        volumes = list(self.store.all("PersistentVolume"))
        services = {child_key(s) for s in self.store.all("ModelService")} if volumes else set()
        for volume in volumes:
            labels = volume["metadata"].get("labels") or {}
            owner = (labels.get(LABEL_NAMESPACE, ""), labels.get(LABEL_SERVICE, ""))
            released = (volume.get("status") or {}).get("phase") == "Released"
            ours = LABEL_NAMESPACE in labels and labels.get(LABEL_MANAGED_BY) == MANAGED_BY
            if ours and not is_cache_volume(volume) and not leaving(volume) and (released or owner not in services):
                await self._writer.delete("PersistentVolume", volume)

    def _forget(self, fleet: FleetFacts) -> None:
        """Drop what is remembered of services that are gone."""
        keys = {f.key for f in fleet.services}
        for memory in (self._scaling, self._retries, self._wanted, self._told):
            for key in memory.keys() - keys:
                del memory[key]


def _wanted(facts: ServiceFacts, decision: ScalingDecision) -> int:
    """Return the replicas to plan for: what can be had, and at least what the user insists on.

    Only what the user insists on may be short of GPUs; a scaler's wish beyond them is no demand.
    """
    insisted = facts.spec.scaling.min_replicas
    if facts.spec.replicas is not None:
        insisted = facts.spec.replicas
    return max(decision.replicas, min(decision.wished, insisted))


def _paused(body: Object) -> bool:
    annotations = body["metadata"].get("annotations") or {}
    return bool(annotations.get(ANNOTATION_PAUSED) == "true")


def _transitions(body: Object, status: Object) -> Iterable[Condition]:
    """Return the conditions whose news deserve an Event, each cause once.

    Scaling that works as it should is told by its steps, and comes and goes with the operator.
    """
    old = {
        c["type"]: (c["status"], c["reason"])
        for c in (body.get("status") or {}).get("conditions") or ()
    }
    seen = set()
    for item in status["conditions"]:
        condition = Condition.model_validate(item)
        told = condition.type in _TOLD and condition.reason not in _QUIET
        changed = old.get(condition.type) != (condition.status, condition.reason)
        if told and changed and condition.status != "Unknown" and condition.reason not in seen:
            seen.add(condition.reason)
            yield condition
