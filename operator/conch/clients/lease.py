"""Leader election on a Lease, with a fence: no write unless the lease is surely held.

Like client-go's leaderelection in its durations and record; unlike it, every write asks
``may_write`` first, and a loss ends the process.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from conch.clients.clock import Clock, iso_micro
from conch.clients.cluster import Cluster, ClusterError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeaseTimes:
    """Seconds: how long a lease holds, until when its holder acts, and how often it renews.

    ``deadline`` + one request's time-out stays below ``duration``, so that the old leader has
    stopped before a new one starts.
    """

    duration: float = 12.0
    deadline: float = 6.0
    retry: float = 1.5


class LeaseLostError(Exception):
    """Another holds the lease, or it could not be renewed in time."""


class Elector:
    """Holds or waits for one Lease."""

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        *,
        name: str,
        namespace: str,
        identity: str,
        times: LeaseTimes | None = None,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._name = name
        self._namespace = namespace
        self._identity = identity
        self._times = times or LeaseTimes()
        self._renewed: float | None = None
        self._seen: tuple[str, str, float] | None = None
        """Holder and renewal as last seen, and when this process first saw them (monotonic)."""

    def may_write(self) -> bool:
        """Return True only while the last renewal is younger than the deadline."""
        renewed = self._renewed
        return renewed is not None and self._clock.monotonic() < renewed + self._times.deadline

    async def acquire(self) -> None:
        """Return once the lease is held."""
        while not await self._try():  # noqa: ASYNC110 - the event is in the API server
            await asyncio.sleep(self._times.retry)
        logger.info("leader: %s", self._identity)

    async def keep(self) -> None:
        """Renew for ever; raise LeaseLostError when it can't be renewed before the deadline."""
        while True:
            await asyncio.sleep(self._times.retry)
            held = await self._try()
            if not self.may_write():
                why = "could not be renewed in time" if held is None else "is held by another"
                raise LeaseLostError(f"the lease {self._namespace}/{self._name} {why}")

    async def release(self) -> None:
        """Give the lease up, so that another need not wait for it to run out."""
        if self._renewed is None:
            return
        self._renewed = None
        lease = await self._cluster.get("Lease", self._name, self._namespace)
        if lease and lease["spec"].get("holderIdentity") == self._identity:
            lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
            await self._cluster.replace(lease)

    async def _try(self) -> bool | None:
        """Acquire or renew once: True when held, False when another holds it, None on no answer."""
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._times.deadline):
                held = await self._write(started)
        except (ClusterError, TimeoutError) as error:
            logger.warning("lease not renewed: %s", error)
            return None
        # From before the request was sent: the server's record can only be younger. And where
        # another holds the lease, whatever was left of the last renewal is over.
        self._renewed = started if held else None
        return held

    async def _write(self, started: float) -> bool:
        lease = await self._cluster.get("Lease", self._name, self._namespace)
        if lease is None:
            await self._cluster.create(self._lease(transitions=0))
            return True
        spec = lease["spec"]
        if spec.get("holderIdentity") != self._identity and not self._expired(spec, started):
            return False
        changed = spec.get("holderIdentity") != self._identity
        fresh = self._lease(transitions=spec.get("leaseTransitions", 0) + changed)
        if not changed:
            fresh["spec"]["acquireTime"] = spec["acquireTime"]
        fresh["metadata"]["resourceVersion"] = lease["metadata"]["resourceVersion"]
        await self._cluster.replace(fresh)
        return True

    def _expired(self, spec: dict[str, Any], now: float) -> bool:
        """Tell whether the holder's record has stood still for its whole duration.

        Judged by this process's own clock, since clocks of two nodes may differ.
        """
        if not spec.get("holderIdentity"):
            return True
        record = (spec["holderIdentity"], spec.get("renewTime", ""))
        if self._seen is None or self._seen[:2] != record:
            self._seen = (*record, now)
        return now - self._seen[2] >= float(spec.get("leaseDurationSeconds", 0))

    def _lease(self, *, transitions: int) -> dict[str, Any]:
        now = iso_micro(self._clock.wall())
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": int(self._times.duration),
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        }
