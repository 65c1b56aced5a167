"""What keeps the store and the signals current besides watches: regular lists and queries."""

import asyncio
import contextlib
import functools
import logging
import math
from collections.abc import Iterable, Mapping, Sequence

from conch.api.names import LABEL_MANAGED_BY, MANAGED_BY
from conch.clients.clock import Clock
from conch.clients.cluster import Cluster, ClusterError
from conch.clients.prometheus import MetricsSource, MetricsUnavailable
from conch.clients.resources import CLAIM_TEMPLATE, NETWORK_POLICY, OF_DRA
from conch.metrics.arrivals import arrival_queries, arrivals
from conch.metrics.queries import queries
from conch.metrics.replicas import replica_queries, replicas
from conch.metrics.series import Series
from conch.metrics.signals import parse
from conch.reconcile.gather import child_key
from conch.reconcile.loop import Reconciler
from conch.reconcile.replica_figures import PACE_S
from conch.reconcile.store import Store

logger = logging.getLogger(__name__)

OWN_ONLY = (
    "ServiceAccount",
    "ControllerRevision",
    "ConfigMap",
    "PersistentVolumeClaim",
    "PersistentVolume",
    CLAIM_TEMPLATE,
    NETWORK_POLICY,
)
"""Kinds of which only Conch's own objects are listed. Of the others all are watched anyway, and
what is somebody else's is known before Conch would apply something of the same name."""
ABSENT = 404
"""The status of a list of a kind that the API server does not know."""
LOOK_S = 1.0
"""Between two looks whether there was a scrape, at least."""
REST_PER_ROUND = 10.0
"""And so many times what the last round of queries took: in a large fleet, where somebody is
scraped at any moment, neither Prometheus nor this process is to do nothing else."""
_NEWEST = "scraped"
_SELECTOR = f"{LABEL_MANAGED_BY}={MANAGED_BY}"


async def relist(cluster: Cluster, store: Store, kinds: Iterable[str]) -> bool:
    """List kinds afresh and take over the result; tell whether the store changed.

    Raises ClusterError; kinds listed before the failure are taken over.
    """
    changed = False
    for kind in kinds:
        before = store.before_list(kind)
        selector = _SELECTOR if kind in OWN_ONLY else None
        kept = functools.partial(store.kept, kind)
        try:
            items = await cluster.list(kind, selector=selector, kept=kept)
        except ClusterError as error:
            if error.status != ABSENT or kind not in OF_DRA:
                raise
            logger.warning("the API server serves no %s: pools of mode DRA are of no use", kind)
            items = []
        changed |= store.after_list(kind, before, items)
    return changed


async def keep_listing(
    cluster: Cluster,
    reconciler: Reconciler,
    kinds: tuple[str, ...],
    *,
    every: float,
    sooner: asyncio.Event,
    while_known: tuple[str, ...] = (),
) -> None:
    """List all kinds every so many seconds, and when ``sooner`` is set, for ever.

    Those of ``while_known`` only as long as there are any.
    """
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(every):  # wait_for may lose a cancellation
                await sooner.wait()
        sooner.clear()
        known = (kind for kind in while_known if any(reconciler.store.all(kind)))
        try:
            if await relist(cluster, reconciler.store, (*kinds, *known)):
                reconciler.wake()
        except ClusterError as error:
            logger.warning("not listed: %s", error)


async def recall(source: MetricsSource, reconciler: Reconciler) -> None:
    """Ask once for what an operator that begins anew does not remember."""
    await reconciler.recall.ask(source, _entries(reconciler.store))
    reconciler.wake()


async def keep_measuring(
    source: MetricsSource, reconciler: Reconciler, clock: Clock, *, every: float, door: bool = False
) -> None:
    """Ask Prometheus every so many seconds, and soon after a scrape, for ever.

    Without an answer there are no signals. ``door``: whether there is a front door to ask of.
    """
    asked = {**queries(), **(arrival_queries() if door else {})}
    while True:
        began, newest = clock.monotonic(), math.inf
        try:
            answers = await source.query(asked, clock.wall())
            newest = _newest(answers)
            signals = parse(answers, _entries(reconciler.store))
            reconciler.measured(signals, fault=None, arrivals=arrivals(answers))
        except MetricsUnavailable as error:
            reconciler.measured({}, fault=str(error))
        except Exception as error:
            logger.exception("metrics can't be read")
            reconciler.measured({}, fault=f"what Prometheus answers can't be read: {error!r}")
        pause = max(LOOK_S, REST_PER_ROUND * (clock.monotonic() - began))
        await _until_scraped(source, clock, newest, pause=pause, most=every)


async def keep_measuring_replicas(
    source: MetricsSource, reconciler: Reconciler, clock: Clock, *, every: float = PACE_S
) -> None:
    """Ask Prometheus every so many seconds what single replicas do, while somebody is late, for ever."""
    while True:
        await asyncio.sleep(every)
        if not reconciler.somebody_late:
            continue
        try:
            answers = await source.query(replica_queries(), clock.wall())
            reconciler.replicas_measured(replicas(answers, _entries(reconciler.store)))
        except MetricsUnavailable as error:
            logger.warning("nothing is known of single replicas: %s", error)
        except Exception:
            logger.exception("metrics of single replicas can't be read")


async def _until_scraped(
    source: MetricsSource, clock: Clock, newest: float, *, pause: float, most: float
) -> None:
    """Return once a sample is newer than ``newest``, or after ``most`` seconds.

    One of the queries is asked each ``pause`` seconds: a flood is to be seen within a second or
    two of its scrape, however long it is to the next regular round.
    """
    left = most
    while left > pause:
        await asyncio.sleep(pause)
        left -= pause
        with contextlib.suppress(Exception):  # the regular round says what is wrong
            if _newest(await source.query({_NEWEST: queries()[_NEWEST]}, clock.wall())) > newest:
                return
    await asyncio.sleep(left)


def _newest(answers: Mapping[str, Sequence[Series]]) -> float:
    """Return when the newest sample of the fleet was scraped (epoch, s)."""
    return max((series.value for series in answers[_NEWEST]), default=0.0)


def _entries(store: Store) -> Mapping[tuple[str, str], str]:
    """Return the model that callers of each service ask."""
    return {
        child_key(s): s["spec"]["model"]["name"]
        for s in store.all("ModelService")
        if s.get("spec", {}).get("model", {}).get("name")
    }
