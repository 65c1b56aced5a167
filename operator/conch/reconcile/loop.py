"""The loop: gather, decide, apply. Level-triggered; at rest it writes nothing."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conch.api.names import LABEL_MANAGED_BY, LABEL_SERVICE, MANAGED_BY
from conch.api.signals import Arrivals, Key, Signals
from conch.clients.clock import Clock, iso
from conch.clients.cluster import Cluster, ClusterError
from conch.clients.events import Recorder
from conch.clients.fence import NotLeaderError
from conch.clients.triton import TritonReplicas
from conch.decisions.fleet import ServiceKey
from conch.decisions.scaling.account import account
from conch.metrics.replicas import PodName, ReplicaSignals
from conch.provisioning.metadata import LABEL_NAMESPACE
from conch.reconcile import garbage
from conch.reconcile import status as statuses
from conch.reconcile.carrier import Carrier
from conch.reconcile.deciding import Decider
from conch.reconcile.execute import Executor
from conch.reconcile.exposition import Exposition
from conch.reconcile.fair import Sharing
from conch.reconcile.front_door import Reports
from conch.reconcile.gather import (
    FleetFacts,
    Gatherer,
    child_key,
)
from conch.reconcile.kept_room import KeptRoom
from conch.reconcile.moves import Moves, homeless
from conch.reconcile.node_cache import NodeCaches, is_cache_volume
from conch.reconcile.planner import Planner, misses
from conch.reconcile.profiles import Profiles
from conch.reconcile.recall import Recall
from conch.reconcile.replica_figures import ReplicaFigures
from conch.reconcile.resolve import Fault
from conch.reconcile.resting import Resting
from conch.reconcile.scaling import Measurement
from conch.reconcile.settings import Planning, Settings
from conch.reconcile.status import Outcome
from conch.reconcile.store import Store, leaving
from conch.reconcile.telling import Teller
from conch.reconcile.warming import Warmer
from conch.reconcile.writer import Writer

logger = logging.getLogger(__name__)
Object = dict[str, Any]

DEBOUNCE_S = 0.05
"""Events that come together make one tick."""
REST_PER_TICK = 4.0
"""Between two ticks at least so many times what the last one took: large fleets leave the
process time to write, watch and answer."""
LONG_REST_S = 2.0
"""At least so long where many services wait for a writer: another decision would speed up none."""


@dataclass
class Reconciler:
    """Owns the state between ticks: the store's contents, and what scaling remembers."""

    cluster: Cluster
    store: Store
    settings: Settings
    clock: Clock
    ticks: int = 0
    _took: float = 0.0
    """Seconds of the last tick."""

    def __post_init__(self) -> None:
        """Build the parts."""
        self.exposition = Exposition(self.cluster.requests)
        self._writer = Writer(self.cluster, self.store, self.exposition.count)
        self._caches = NodeCaches(
            self.cluster, self.store, self._writer, self.clock, self.settings.cache_path
        )
        recorder = Recorder(self.cluster, self.clock)
        self._teller = Teller(self._writer, recorder, self.settings.front_door)
        self._carrier = Carrier(
            Executor(self._writer, self.store, self._caches, self.settings.isolation),
            self._teller,
            self.clock,
            concurrency=self.settings.concurrency,
            wake=self.wake,
        )
        self.recall = Recall(self.clock)
        self._warmer = Warmer(TritonReplicas(), self.wake)
        self.reports = Reports(self.clock, self.wake) if self.settings.front_door else None
        self._gatherer = Gatherer(self.store, self.settings)
        self._profiles = Profiles(self.store)
        self._resting = Resting(self.settings.tick_seconds)
        self._garbage = garbage.Collector()
        self._sharing = Sharing(
            self.store, self.settings.lease_namespace, self.settings.usage_half_life
        )
        kept = KeptRoom()
        self._decider = Decider(
            clock=self.clock,
            carrier=self._carrier,
            profiles=self._profiles,
            recall=self.recall,
            resting=self._resting,
            sharing=self._sharing,
            moves=Moves(self._warmer),
            kept=kept,
            reports=self.reports,
        )
        self._single = ReplicaFigures()
        self._planner = Planner(
            self.settings.planning, self._writer, self._profiles, self._single, kept
        )
        self._wake = asyncio.Event()
        self._others: asyncio.Task[None] | None = None
        self._others_again = False
        self._pools_told = self._tenants_told = 0.0

    def wake(self) -> None:
        """Ask for a tick soon: something changed."""
        self._wake.set()

    def observe(self, kind: str, event: str | None, body: Object) -> None:
        """Take over a watch event: its type (None while listing) and the object."""
        take = self.store.drop if event == "DELETED" else self.store.put
        if take(kind, body):
            self.wake()

    def measured(
        self,
        signals: Mapping[Key, Signals],
        *,
        fault: str | None,
        arrivals: Mapping[tuple[str, str], Arrivals] | None = None,
    ) -> None:
        """Take over what metrics say now, the front door's too, and why they say nothing."""
        found = Measurement(signals, fault=fault, arrivals=arrivals or {})
        self._decider.measured(found, self.clock.monotonic())
        self.wake()

    @property
    def somebody_late(self) -> bool:
        """Whether figures of single replicas are of use: a planner looks, and an objective is missed."""
        plans = self.settings.planning is not Planning.OFF
        return plans and any(misses(d.load) for d in self._decider.decided.values())

    def replicas_measured(self, found: Mapping[PodName, ReplicaSignals]) -> None:
        """Take over what single replicas show now."""
        self._single.take(found, self.clock.wall())

    def account(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return what a service's number of replicas comes from; any thread may ask."""
        found = self._decider.decided.get(ServiceKey(namespace, name))
        return None if found is None else account(found, self.clock.monotonic() - found.at)

    def plan(self) -> Mapping[str, Any]:
        """Return what the planner proposed last; any thread may ask."""
        return self._planner.account

    async def run(self) -> None:
        """Tick for ever; raises NotLeaderError when the lease is lost."""
        delay = 0.0
        try:
            while True:
                try:
                    async with asyncio.timeout(delay):  # wait_for may lose a cancellation
                        await self._wake.wait()
                except TimeoutError:
                    pass
                else:
                    least = LONG_REST_S if self._carrier.backlog else DEBOUNCE_S
                    await asyncio.sleep(max(least, REST_PER_TICK * self._took))
                self._wake.clear()
                delay = self._safe_tick()
        finally:
            self._carrier.stop()
            if self._others is not None:
                self._others.cancel()

    def _safe_tick(self) -> float:
        """Tick; a defect that no service can be blamed for is logged, and the loop goes on."""
        self._check()
        self._garbage.look(self.clock.monotonic())
        try:
            return self.tick()
        except Exception:
            logger.exception("the tick failed")
            return self.settings.tick_seconds

    def _check(self) -> None:
        """Raise where a write found the lease lost."""
        self._carrier.check()
        if self._others is not None and self._others.done():
            self._others.result()

    def tick(self) -> float:
        """Decide for the whole fleet and begin to write what differs; return seconds to the next.

        What an earlier tick began goes on meanwhile; it is left alone, and its bookings count.
        """
        now, started = self.clock.wall(), self.clock.monotonic()
        with garbage.undisturbed(), self.exposition.ticks.time():
            fleet = self._gatherer.gather()
            self._profiles.observe(fleet.services)
            outcomes = self._decider.decide(fleet, now)
            for outcome in outcomes:
                busy = self._carrier.carry(outcome, now)
                self._resting.note(outcome, self._decider.measured_at, started, busy=busy)
            self._carrier.begin()
        self._tell_others_soon(fleet, outcomes, now)
        self._forget(fleet)
        self.exposition.show(
            self._carrier.figures(),
            fleet.pools,
            dict(self._decider.decided),
            self._sharing.figures(now),
            now,
        )
        self.ticks += 1
        self._took = self.clock.monotonic() - started
        waits = [o.plan.wake_after for o in outcomes if o.plan.wake_after is not None]
        retry = self._carrier.seconds_to_retry()
        waits += [] if retry is None else [retry]
        return max(0.05, min([self.settings.tick_seconds, *waits]))

    def _tell_others_soon(self, fleet: FleetFacts, outcomes: Sequence[Outcome], now: float) -> None:
        """Begin to tell of all but services; where that is under way, another tick follows it."""
        if self._others is None or self._others.done():
            self._others = asyncio.create_task(self._tell_others(fleet, outcomes, now))
            self._others_again = False
        elif not self._others_again:
            self._others_again = True
            self._others.add_done_callback(lambda _: self.wake())

    async def _tell_others(
        self, fleet: FleetFacts, outcomes: Sequence[Outcome], now: float
    ) -> None:
        """Write the statuses of pools, models and unreadable services, plan moves, and sweep volumes."""
        try:
            await self._tell_pools(fleet, now)
            await self._tell_tenants(fleet, now)
            for name, fault in fleet.pool_faults.items():
                await self._broken("GPUPool", self.store.get("GPUPool", name), fault, now)
            for service, fault in fleet.broken:
                await self._broken("ModelService", service, fault, now)
            for model, wish in self._profiles.statuses(
                fleet.services, self._decider.states, iso(now)
            ):
                await self._writer.status(model["kind"], model, wish)
            await self._tell_migrations(fleet, now)
            decider = self._decider
            for wanted in decider.reclaims:
                await self._writer.make_once(wanted.to_object())
            await self._planner.look(
                fleet, outcomes, decider.decided, decider.ledger, self.clock.wall()
            )
            await self._sweep_volumes()
            await self._caches.sweep(s for f in fleet.services for s in f.snapshots.values())
        except ClusterError as error:
            logger.warning("status not written: %s", error)
        except NotLeaderError:
            raise
        except Exception:
            logger.exception("statuses of pools and models not written")

    async def _tell_pools(self, fleet: FleetFacts, now: float) -> None:
        """Write the statuses of pools; while services change, no more often than each few seconds.

        The last change is followed by a tick that finds nothing under way.
        """
        if self._carrier.busy and now - self._pools_told < self.settings.tick_seconds:
            return
        self._pools_told = now
        overbooked = self._sharing.overbooked(fleet.pools)
        for pool in fleet.pools:
            body = self.store.get("GPUPool", pool.name)
            if body is not None:
                wish = statuses.pool_status(
                    body,
                    pool,
                    iso(now),
                    overlap=fleet.overlaps.get(pool.name),
                    overbooked=overbooked.get(pool.spec.accelerator),
                )
                await self._writer.status("GPUPool", body, wish)

    async def _tell_tenants(self, fleet: FleetFacts, now: float) -> None:
        """Write the statuses of tenants; while services change, no more often than pools'."""
        if self._carrier.busy and now - self._tenants_told < self.settings.tick_seconds:
            return
        self._tenants_told = now
        for tenant, fault in self._sharing.broken:
            await self._broken("Tenant", tenant, fault, now)
        told, others = self._sharing.statuses(fleet.pools, now)
        for tenant, status in told:
            await self._writer.status("Tenant", tenant, status)
        if others is not None:
            await self._writer.ensure(others)

    async def _tell_migrations(self, fleet: FleetFacts, now: float) -> None:
        """Write what there is to tell of migrations without a service, and delete those long over."""
        await self._teller.tell_of(homeless(fleet, now))
        for body, fault in fleet.migrations.broken:
            await self._broken("ModelMigration", body, fault, now)
        for body in fleet.migrations.spent(now):
            await self._writer.delete("ModelMigration", body)

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
            if (
                ours
                and not is_cache_volume(volume)
                and not leaving(volume)
                and (released or owner not in services)
            ):
                await self._writer.delete("PersistentVolume", volume)

    def _forget(self, fleet: FleetFacts) -> None:
        """Drop what is remembered of services that are gone."""
        keys = {f.key for f in fleet.services}
        self._decider.forget(keys)
        self._carrier.forget(keys)
        self._warmer.forget({p.uid for f in fleet.services for p in f.service.pods if p.comes})
        self._resting.forget(keys)
        self._planner.forget(keys)
