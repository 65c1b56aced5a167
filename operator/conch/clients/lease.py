"""Leader election on a Lease, with a fence: no write unless the lease is surely held.

Like client-go's leaderelection in its durations and record; unlike it, every write asks
``may_write`` first, and a loss ends the process.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from conch.clients.clock import Clock, iso_micro
from conch.clients.cluster import Cluster, ClusterError

logger = logging.getLogger(__name__)
Object = dict[str, Any]
NOT_FOUND, CONFLICT = 404, 409


@dataclass(frozen=True)
class LeaseTimes:
    """Seconds. Who waits sees a dead holder within ``retry`` and leads ``duration`` later.

    A write is begun before ``deadline`` and given up ``margin`` before the lease runs out, so that
    the old leader has stopped before a new one starts.
    """

    duration: float = 7.0
    """How long the lease holds after a renewal."""
    deadline: float = 4.0
    """Until when after its last renewal a holder begins writes; without a renewal it ends then."""
    retry: float = 1.0
    """Between two renewals, and between two looks of one who waits."""
    request: float = 1.5
    """What a renewal may take: shorter than other requests, so that a lost one is tried again."""
    margin: float = 0.5


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
        self._held: Object | None = None
        """The Lease as this process wrote it last: renewed without being read again."""
        self._seen: tuple[str, str, float, float] | None = None
        """Holder and renewal as last seen, when this process first saw them (monotonic), and for
        how long they count."""

    def may_write(self) -> bool:
        """Return True only while the last renewal is younger than the deadline."""
        renewed = self._renewed
        return renewed is not None and self._clock.monotonic() < renewed + self._times.deadline

    def seconds_left(self) -> float:
        """Return how long a write that begins now may take, so that no later leader sees it."""
        renewed = self._renewed
        if renewed is None:
            return 0.0
        until = renewed + self._times.duration - self._times.margin
        return max(0.0, until - self._clock.monotonic())

    async def acquire(self) -> None:
        """Return once the lease is held."""
        while not await self._try():  # noqa: ASYNC110 - the event is in the API server
            await asyncio.sleep(self._pause())
        logger.info("leader: %s", self._identity)

    async def keep(self, works: Callable[[], bool] = lambda: True) -> None:
        """Renew for ever; raise LeaseLostError once the lease is not surely held any more.

        One that was late, as after a pause of the process, is over even if nobody took it: what
        the process knows is as old. So it is when the holder's work does not go on (``works``).
        """
        while True:
            await asyncio.sleep(self._times.retry)
            if not works():
                raise self._lost("is given up, since its holder hangs")
            held = await self._try() if self.may_write() else None
            if not self.may_write():
                raise self._lost(
                    "could not be renewed in time" if held is None else "is held by another"
                )

    def _lost(self, why: str) -> "LeaseLostError":
        self._renewed = None
        return LeaseLostError(f"the lease {self._namespace}/{self._name} {why}")

    async def release(self) -> None:
        """Give the lease up, so that another need not wait for it to run out."""
        if self._renewed is None:
            return
        self._renewed = None
        async with asyncio.timeout(self._times.request):
            await self._give_up()

    async def _give_up(self) -> None:
        lease = await self._cluster.get("Lease", self._name, self._namespace)
        if lease and lease["spec"].get("holderIdentity") == self._identity:
            lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
            await self._cluster.replace(lease)

    async def _try(self) -> bool | None:
        """Acquire or renew once: True when held, False when another holds it, None on no answer."""
        started = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._times.request):
                held = await self._renew() or await self._write(started)
        except (ClusterError, TimeoutError) as error:
            logger.warning("lease not renewed: %s", str(error) or "no answer in time")
            return None
        # From before the request was sent: the server's record can only be younger. And where
        # another holds the lease, whatever was left of the last renewal is over.
        self._renewed = started if held else None
        return held

    async def _renew(self) -> bool:
        """Renew what this process wrote last, unless somebody has changed it since."""
        held, self._held = self._held, None
        if held is None:
            return False
        held["spec"]["renewTime"] = iso_micro(self._clock.wall())
        try:
            self._held = await self._cluster.replace(held)
        except ClusterError as error:
            if error.status not in (CONFLICT, NOT_FOUND):
                raise
            return False
        return True

    async def _write(self, started: float) -> bool:
        lease = await self._cluster.get("Lease", self._name, self._namespace)
        if lease is None:
            self._held = await self._cluster.create(self._lease(transitions=0))
            return True
        spec = lease["spec"]
        if spec.get("holderIdentity") != self._identity and not self._expired(spec, started):
            return False
        changed = spec.get("holderIdentity") != self._identity
        fresh = self._lease(transitions=spec.get("leaseTransitions", 0) + changed)["spec"]
        if not changed:
            fresh["acquireTime"] = spec["acquireTime"]
        self._held = await self._cluster.replace({**lease, "spec": fresh})
        return True

    def _pause(self) -> float:
        """Return the seconds until the next look: sooner where the lease runs out sooner."""
        if self._seen is None:
            return self._times.retry
        *_, seen, duration = self._seen
        left = seen + duration - self._clock.monotonic()
        return min(self._times.retry, left) if left > 0 else self._times.retry

    def _expired(self, spec: dict[str, Any], now: float) -> bool:
        """Tell whether the holder's record has stood still for its whole duration.

        Judged by this process's own clock, since clocks of two nodes may differ.
        """
        if not spec.get("holderIdentity"):
            return True
        record = (spec["holderIdentity"], spec.get("renewTime", ""))
        if self._seen is None or self._seen[:2] != record:
            self._seen = (*record, now, float(spec.get("leaseDurationSeconds", 0)))
        *_, seen, duration = self._seen
        return now - seen >= duration

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
