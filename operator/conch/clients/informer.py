"""What there is of a kind, kept current: a list, then a watch from there, and a list again.

As client-go's reflector does it (tools/cache/reflector.go). kopf, which feeds the operator, can't
watch by label; who needs few of a cluster's pods asks for these alone.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from conch.clients.cluster import GONE, Cluster, ClusterError

logger = logging.getLogger(__name__)
Object = dict[str, Any]
Key = tuple[str, str]
"""Namespace (empty where there is none) and name."""

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
STALE_S = 600.0
"""After so long everything is listed again, for what a watch may have missed."""


@dataclass(frozen=True)
class Scope:
    """Which objects are kept."""

    kind: str
    selector: str | None = None
    namespace: str | None = None
    fields: str | None = None


class Informer:
    """Keeps the objects of one scope, and tells of each change."""

    def __init__(
        self,
        cluster: Cluster,
        scope: Scope,
        changed: Callable[[str, Object | None, Object | None], None],
        *,
        kept: Callable[[Object], Object] = lambda body: body,
    ) -> None:
        """``changed`` gets the kind, and what an object was and is; of each, ``kept`` is kept."""
        self.scope = scope
        self.objects: dict[Key, Object] = {}
        self.listed = asyncio.Event()
        """Set once everything was listed."""
        self._cluster, self._changed, self._kept = cluster, changed, kept

    async def run(self) -> None:
        """List and watch for ever; a cut connection is begun anew, ever more slowly."""
        pause = FIRST_PAUSE_S
        while True:
            try:
                await self._round()
                pause = FIRST_PAUSE_S
            except ClusterError as error:
                logger.warning("%s: not heard of for now: %s", self.scope.kind, error)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
                pause = min(LONGEST_PAUSE_S, 2 * pause)

    async def _round(self) -> None:
        """List, then watch until it is time to list again. Raises ClusterError."""
        since = await self._list()
        loop = asyncio.get_running_loop()
        until = loop.time() + STALE_S
        try:
            while loop.time() < until:
                since = await self._watch(since)
        except ClusterError as error:
            if error.status != GONE:
                raise

    async def _list(self) -> str:
        scope = self.scope
        items, since = await self._cluster.list_at(
            scope.kind,
            selector=scope.selector,
            fields=scope.fields,
            namespace=scope.namespace,
            kept=self._kept,
        )
        found = {key_of(body): body for body in items}
        for key in self.objects.keys() - found.keys():
            self._drop(key)
        for key, body in found.items():
            self._put(key, body)
        self.listed.set()
        return since

    async def _watch(self, since: str) -> str:
        """Take over what happens; return the version up to which everything is known."""
        scope = self.scope
        async for event, body in self._cluster.watch(
            scope.kind,
            since=since,
            selector=scope.selector,
            fields=scope.fields,
            namespace=scope.namespace,
        ):
            since = str(body["metadata"].get("resourceVersion", since))
            if event == "DELETED":
                self._drop(key_of(body))
            elif event in ("ADDED", "MODIFIED"):
                self._put(key_of(body), self._kept(body))
        return since

    def _put(self, key: Key, body: Object) -> None:
        old = self.objects.get(key)
        self.objects[key] = body
        if old != body:
            self._changed(self.scope.kind, old, body)

    def _drop(self, key: Key) -> None:
        old = self.objects.pop(key, None)
        if old is not None:
            self._changed(self.scope.kind, old, None)


def key_of(body: Object) -> Key:
    """Return the namespace and name of an object."""
    meta = body["metadata"]
    return str(meta.get("namespace") or ""), str(meta["name"])
