"""The claims and volumes of nodes' caches: where a namespace's services download their models.

Removed where none does. A service whose namespace can't have one does without.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from conch.clients.clock import Clock
from conch.clients.cluster import Cluster, ClusterError
from conch.provisioning.metadata import LABEL_NAMESPACE
from conch.provisioning.node_cache import (
    CACHE_CLAIM,
    LABEL_CACHE,
    cache_claim,
    cache_volume,
    cache_volume_name,
    is_cached,
)
from conch.provisioning.snapshot import Snapshot
from conch.reconcile.store import Store, leaving

if TYPE_CHECKING:
    from conch.reconcile.writer import Writer

logger = logging.getLogger(__name__)
Object = dict[str, Any]

PAUSE_S = 60.0
"""After a refusal, such as a quota's, a namespace is left without a cache for so long."""


def claim_state(store: Store, namespace: str) -> tuple[str, bool] | None:
    """Return what pods depend on of a namespace's claim: its UID, and whether it can be used."""
    claim = store.get("PersistentVolumeClaim", CACHE_CLAIM, namespace)
    if claim is None:
        return None
    lost = claim.get("status", {}).get("phase") == "Lost"
    return claim["metadata"]["uid"], not (leaving(claim) or lost or not _is_cache(claim))


class NodeCaches:
    """Claims and volumes of all namespaces. ``path`` is the cache's on each node, None for none."""

    def __init__(
        self, cluster: Cluster, store: Store, writer: "Writer", clock: Clock, path: str | None
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._writer = writer
        self._clock = clock
        self._path = path
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._refused: dict[str, float] = {}

    def applied(self, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot with the cache, where its namespace has one that can be used now."""
        if self._path is None or not is_cached(snapshot) or not self._may_try(snapshot.namespace):
            return snapshot
        state = claim_state(self._store, snapshot.namespace)
        usable = state is not None and state[1]
        return replace(snapshot, cache=True) if usable else snapshot

    async def ensure(self, namespace: str, snapshots: Iterable[Snapshot]) -> bool:
        """Make a namespace's claim and its volume where one of the snapshots can use them.

        Tells whether anything was written. A refusal is logged: the cache stops no service.
        """
        if self._path is None or not any(map(is_cached, snapshots)):
            return False
        if not self._may_try(namespace):
            return False
        async with self._locks[namespace]:
            try:
                return await self._make(namespace, self._path)
            except ClusterError as error:
                self._refused[namespace] = self._clock.monotonic() + PAUSE_S
                logger.warning("%s: no cache on nodes: %s", namespace, error)
                return False

    async def _make(self, namespace: str, path: str) -> bool:
        state = claim_state(self._store, namespace)
        if state is not None and (not state[1] or self._has_volume(namespace, state[0])):
            return False
        body = await self._cluster.get("Namespace", namespace)
        if body is None or leaving(body):
            return False
        await self._writer.ensure(cache_claim(namespace))
        claim = self._store.get("PersistentVolumeClaim", CACHE_CLAIM, namespace)
        if claim is None or leaving(claim):
            return False
        volume = cache_volume(
            path,
            namespace,
            namespace_uid=body["metadata"]["uid"],
            claim_uid=claim["metadata"]["uid"],
        )
        try:
            await self._writer.ensure(volume)
        except ClusterError:
            # A claim without a volume would hold up every pod.
            await self._writer.delete("PersistentVolumeClaim", claim)
            raise
        return True

    def _has_volume(self, namespace: str, claim_uid: str) -> bool:
        name = cache_volume_name(namespace, claim_uid)
        return self._store.get("PersistentVolume", name) is not None

    def _may_try(self, namespace: str) -> bool:
        return self._refused.get(namespace, 0.0) <= self._clock.monotonic()

    async def sweep(self, snapshots: Iterable[Snapshot]) -> None:
        """Remove claims that no service can use, once no ReplicaSet names them, and spent volumes."""
        claims = [c for c in self._store.all("PersistentVolumeClaim") if _is_cache(c)]
        if claims:
            needed = {s.namespace for s in snapshots if is_cached(s)} if self._path else set()
            needed |= {
                s["metadata"]["namespace"] for s in self._store.all("ReplicaSet") if _mounts(s)
            }
            for claim in claims:
                if not leaving(claim) and claim["metadata"]["namespace"] not in needed:
                    await self._writer.delete("PersistentVolumeClaim", claim)
        for volume in [v for v in self._store.all("PersistentVolume") if _is_cache(v)]:
            phase = volume.get("status", {}).get("phase")
            if phase in ("Released", "Failed") and not leaving(volume):
                await self._writer.delete("PersistentVolume", volume)


def is_cache_volume(volume: Object) -> bool:
    """Tell whether a volume is a cache's, which belongs to a namespace and not to a service."""
    return _is_cache(volume) and LABEL_NAMESPACE in volume["metadata"]["labels"]


def _is_cache(body: Object) -> bool:
    return LABEL_CACHE in (body["metadata"].get("labels") or {})


def _mounts(replica_set: Object) -> bool:
    """Tell whether pods of a ReplicaSet need the claim; also of one that was detached."""
    volumes = replica_set["spec"].get("template", {}).get("spec", {}).get("volumes") or ()
    claims = (v.get("persistentVolumeClaim") or {} for v in volumes)
    return any(c.get("claimName") == CACHE_CLAIM for c in claims)
