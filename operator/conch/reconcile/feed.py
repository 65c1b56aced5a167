"""What keeps the store and the signals current besides watches: regular lists and queries."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import Iterable, Mapping

from conch.api.names import LABEL_MANAGED_BY, MANAGED_BY
from conch.clients.clock import Clock
from conch.clients.cluster import Cluster, ClusterError
from conch.clients.prometheus import MetricsSource, MetricsUnavailable
from conch.metrics.queries import queries
from conch.metrics.signals import parse
from conch.reconcile.gather import child_key
from conch.reconcile.loop import Reconciler
from conch.reconcile.store import Store

logger = logging.getLogger(__name__)

OWN_ONLY = (
    "ServiceAccount",
    "ControllerRevision",
    "ConfigMap",
    "PersistentVolumeClaim",
    "PersistentVolume",
)
"""Kinds of which only Conch's own objects are listed. Of the others all are watched anyway, and
what is somebody else's is known before Conch would apply something of the same name."""
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
        items = await cluster.list(kind, selector=selector, kept=kept)
        changed |= store.after_list(kind, before, items)
    return changed


async def keep_listing(
    cluster: Cluster,
    reconciler: Reconciler,
    kinds: tuple[str, ...],
    *,
    every: float,
    sooner: asyncio.Event,
) -> None:
    """List all kinds every so many seconds, and when ``sooner`` is set, for ever."""
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(every):  # wait_for may lose a cancellation
                await sooner.wait()
        sooner.clear()
        try:
            if await relist(cluster, reconciler.store, kinds):
                reconciler.wake()
        except ClusterError as error:
            logger.warning("not listed: %s", error)


async def keep_measuring(
    source: MetricsSource, reconciler: Reconciler, clock: Clock, *, every: float
) -> None:
    """Ask Prometheus every so many seconds, for ever. Without an answer there are no signals."""
    asked = queries()
    while True:
        try:
            answers = await source.query(asked, clock.wall())
            reconciler.measured(parse(answers, _entries(reconciler.store)), fault=None)
        except MetricsUnavailable as error:
            reconciler.measured({}, fault=str(error))
        except Exception as error:
            logger.exception("metrics can't be read")
            reconciler.measured({}, fault=f"what Prometheus answers can't be read: {error!r}")
        await asyncio.sleep(every)


def _entries(store: Store) -> Mapping[tuple[str, str], str]:
    """Return the model that callers of each service ask."""
    return {
        child_key(s): s["spec"]["model"]["name"]
        for s in store.all("ModelService")
        if s.get("spec", {}).get("model", {}).get("name")
    }
