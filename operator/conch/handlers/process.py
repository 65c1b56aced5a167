"""The operator's process: watch, wait for the lease, lead; any loss ends it."""

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import kopf

from conch.api.crd import BY_KIND
from conch.clients.clock import SystemClock
from conch.clients.cluster import Cluster, ClusterError, connect
from conch.clients.front_door import Agents
from conch.clients.lease import Elector
from conch.clients.lease_thread import LeaseThread
from conch.clients.prometheus import Prometheus
from conch.clients.resources import CHILDREN, CLAIM_TEMPLATE, NETWORK_POLICY
from conch.handlers.serving import serve
from conch.handlers.watches import registry_of, watched
from conch.handlers.watching import keep_watching
from conch.reconcile.feed import (
    keep_listing,
    keep_measuring,
    keep_measuring_replicas,
    recall,
    relist,
)
from conch.reconcile.listening import Listener
from conch.reconcile.loop import Reconciler
from conch.reconcile.settings import Settings
from conch.reconcile.store import Store

logger = logging.getLogger(__name__)

CRD_RETRY_S = 1.0
EXIT_TIMEOUT_S = 2.0
SETTLED_S = 3.0
"""So long after watches were begun anew, a list tells what they missed; the next regular one tells
what took longer."""
LISTS_AT_ONCE = 3
"""Enough to keep the API server busy, and few enough to hold little of them in memory."""


FORBIDDEN = 403
"""The status of a request for which this account has no permission."""


def _kinds(settings: Settings) -> tuple[str, ...]:
    """Return the kinds that are listed again and again."""
    optional = {CLAIM_TEMPLATE: settings.dra, NETWORK_POLICY: settings.isolation is not None}
    chosen = (kind for kind, wanted in optional.items() if wanted)
    return tuple(dict.fromkeys((*watched(settings), *CHILDREN, *chosen)))


def _past(settings: Settings) -> tuple[str, ...]:
    """Return the kinds of which there may be objects that other settings made: they are to go."""
    return () if settings.isolation else (NETWORK_POLICY,)


@dataclass(frozen=True)
class Endpoints:
    """Where the process answers; None: nowhere."""

    health: str | None = None
    """Of the liveness probe, such as ``http://0.0.0.0:8080/healthz``."""
    metrics_port: int | None = None
    """Of the operator's own metrics, and of what explains its scaling."""


async def run(settings: Settings, *, kubeconfig: str | None, endpoints: Endpoints) -> None:
    """Run the operator until it is told to stop; raise when the lease is lost."""
    if kubeconfig:
        os.environ["KUBECONFIG"] = kubeconfig  # kopf reads it from there
    cluster = await connect(kubeconfig)
    try:
        await _await_crds(cluster)
        lease = _lease(settings, kubeconfig)
        await _serve(cluster, lease, settings, endpoints)
    finally:
        await cluster.close()


async def _await_crds(cluster: Cluster) -> None:
    """Return once the API server serves Conch's kinds."""
    while True:
        try:
            for kind in map(str, BY_KIND):
                await cluster.list(kind, fields="metadata.name=conch")  # the answer may be empty
        except ClusterError as error:
            hint = "apply crds/ of this version" if error.status == 404 else str(error)
            logger.warning("the API server does not serve conch.dev yet: %s", hint)
            await asyncio.sleep(CRD_RETRY_S)
        else:
            return


def _lease(settings: Settings, kubeconfig: str | None) -> LeaseThread:
    clock = SystemClock()

    def elect(cluster: Cluster) -> Elector:
        return Elector(
            cluster,
            clock,
            name=settings.lease_name,
            namespace=settings.lease_namespace,
            identity=settings.identity,
        )

    return LeaseThread(lambda: connect(kubeconfig), elect, clock)


async def _serve(
    cluster: Cluster, lease: LeaseThread, settings: Settings, endpoints: Endpoints
) -> None:
    reconciler = Reconciler(cluster.fenced(lease), Store(), settings, SystemClock())
    if endpoints.metrics_port is not None:
        registry = reconciler.exposition.registry
        serve(endpoints.metrics_port, registry, reconciler.account, reconciler.plan)
    stop, missed = asyncio.Event(), asyncio.Event()
    _hear(stop)
    watching: asyncio.Future[Any] = asyncio.ensure_future(_watch(reconciler, endpoints, missed))
    leading: asyncio.Future[Any] = asyncio.ensure_future(_lead(cluster, lease, reconciler, missed))
    stopping: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
    done, _ = await asyncio.wait((watching, leading, stopping), return_when="FIRST_COMPLETED")
    for task in (leading, stopping):
        task.cancel()
    await asyncio.gather(leading, stopping, return_exceptions=True)
    await lease.release()
    watching.cancel()
    await asyncio.wait((watching,), timeout=EXIT_TIMEOUT_S)
    for task in done:
        task.result()


def _hear(stop: asyncio.Event) -> None:
    """Take the signals; kopf leaves them alone on a thread of its own."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)


async def _watch(reconciler: Reconciler, endpoints: Endpoints, missed: asyncio.Event) -> None:
    """Feed the reconciler by watches; ``missed`` is set when something may not have been heard."""
    registry = registry_of(reconciler)
    loop = asyncio.get_running_loop()

    def operate() -> Coroutine[Any, Any, None]:
        return kopf.operator(
            registry=registry,
            standalone=True,
            clusterwide=True,
            liveness_endpoint=endpoints.health,
        )

    def again() -> None:
        loop.call_later(SETTLED_S, missed.set)

    await keep_watching(operate, SystemClock(), again=again)


async def _lead(
    cluster: Cluster, lease: LeaseThread, reconciler: Reconciler, missed: asyncio.Event
) -> None:
    """Wait for the lease, see the whole cluster afresh, then decide until it is lost.

    Who waits watches already: what the list brings is then mostly known.
    """
    await lease.acquire()
    settings = reconciler.settings
    kinds, past = _kinds(settings), _past(settings)
    source = Prometheus(settings.prometheus_url) if settings.prometheus_url else None
    async with asyncio.TaskGroup() as group:
        group.create_task(lease.keep())
        await _first_list(cluster, reconciler, kinds, past)
        every = settings.relist_seconds
        listing = keep_listing(
            cluster, reconciler, kinds, every=every, sooner=missed, while_known=past
        )
        group.create_task(listing)
        if source is not None:
            clock = SystemClock()
            tick = settings.tick_seconds
            door = settings.front_door is not None
            group.create_task(keep_measuring(source, reconciler, clock, every=tick, door=door))
            group.create_task(recall(source, reconciler))
            group.create_task(keep_measuring_replicas(source, reconciler, clock))
        else:
            reconciler.measured({}, fault="no Prometheus is set: give the operator its URL")
        if reconciler.reports is not None:
            namespace = settings.lease_namespace
            listener = Listener(Agents(), reconciler.reports, reconciler.store, namespace)
            group.create_task(listener.run())
        group.create_task(reconciler.run())


async def _first_list(
    cluster: Cluster, reconciler: Reconciler, kinds: tuple[str, ...], past: tuple[str, ...]
) -> None:
    """List every kind once; nothing is decided on a part of the cluster.

    Who may not list what is of the past has not made any.
    """
    few = asyncio.Semaphore(LISTS_AT_ONCE)

    async def take(kind: str) -> None:
        async with few:
            try:
                await relist(cluster, reconciler.store, (kind,))
            except ClusterError as error:
                if kind not in past or error.status != FORBIDDEN:
                    raise

    listed = False
    while not listed:
        try:
            async with asyncio.TaskGroup() as group:
                for kind in (*kinds, *past):
                    group.create_task(take(kind))
        except* ClusterError as errors:
            logger.warning("not listed: %s", errors.exceptions[0])
            await asyncio.sleep(1.0)
        else:
            listed = True
