"""Kubernetes Events: what happened to an object, as ``kubectl describe`` shows it."""

import logging
import uuid
from typing import Any

from conch.clients.clock import Clock, iso
from conch.clients.cluster import Cluster, ClusterError

logger = logging.getLogger(__name__)

_COMPONENT = "conch"
_MESSAGE_LIMIT = 1024


class Recorder:
    """Writes Events; one that can't be written is logged and forgotten."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock

    async def record(
        self, about: dict[str, Any], kind: str, *, reason: str, message: str, warning: bool = False
    ) -> None:
        """Record that something happened to ``about``, an object of ``kind``."""
        metadata = about["metadata"]
        now = iso(self._clock.wall())
        namespace = metadata.get("namespace", "default")
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": f"{metadata['name'][:200]}.{uuid.uuid4().hex[:16]}",
                "namespace": namespace,
            },
            "involvedObject": {
                "apiVersion": about.get("apiVersion"),
                "kind": kind,
                "name": metadata["name"],
                "namespace": metadata.get("namespace"),
                "uid": metadata["uid"],
                "resourceVersion": metadata.get("resourceVersion"),
            },
            "reason": reason,
            "message": message[:_MESSAGE_LIMIT],
            "type": "Warning" if warning else "Normal",
            "source": {"component": _COMPONENT},
            "reportingComponent": _COMPONENT,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            await self._cluster.create(event)
        except ClusterError as error:
            logger.warning("event on %s %s not recorded: %s", kind, metadata["name"], error)
