"""Keeps one poll at each replica of the front door: one that hangs or lies stops no other."""

import asyncio
import contextlib
import logging

from conch.clients.front_door import NEVER, ReportSource, ReportUnavailable
from conch.reconcile.front_door import Door, Reports, doors_of
from conch.reconcile.store import Store

logger = logging.getLogger(__name__)

WAIT_S = 5.0
"""That a poll waits for news: a report is so old at most, and a little more."""
LOOK_S = 1.0
"""Between two looks at which replicas there are."""
APART_S = 0.1
"""Between two polls of one replica, at least."""
RETRY_S = 1.0
"""After a poll that brought no report."""


class Listener:
    """Polls every live replica of the front door, each on its own."""

    def __init__(
        self, source: ReportSource, reports: Reports, store: Store, namespace: str
    ) -> None:
        """``namespace`` is where the front door's pods are."""
        self._source = source
        self._reports = reports
        self._store = store
        self._namespace = namespace
        self._polls: dict[str, tuple[str, asyncio.Task[None]]] = {}
        """By UID, with the address that is polled."""
        self._faults: dict[str, str] = {}

    async def run(self) -> None:
        """Listen for ever."""
        try:
            while True:
                self.look()
                await asyncio.sleep(LOOK_S)
        finally:
            for _, task in self._polls.values():
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*(t for _, t in self._polls.values()), return_exceptions=True)
            await self._source.close()

    def look(self) -> None:
        """Begin to poll replicas that came, and end it for those that are gone or moved."""
        doors = doors_of(self._store.doors(), self._namespace)
        self._reports.live(doors)
        for uid, (address, task) in list(self._polls.items()):
            if uid not in doors or doors[uid].address != address or task.done():
                task.cancel()
                del self._polls[uid]
                self._faults.pop(uid, None)
        for uid, door in doors.items():
            if uid not in self._polls:
                self._polls[uid] = (door.address, asyncio.create_task(self._poll(door)))

    async def _poll(self, door: Door) -> None:
        after = NEVER
        while True:
            try:
                report = await self._source.report(door.address, after=after, wait=WAIT_S)
                after = report.version
                self._reports.take(door.uid, report)
                self._note(door, None)
            except ReportUnavailable as error:
                after = NEVER
                self._note(door, str(error))
                await asyncio.sleep(RETRY_S)
            except Exception as error:
                logger.exception("%s: not heard", door.name)
                self._note(door, repr(error))
                await asyncio.sleep(RETRY_S)
            await asyncio.sleep(APART_S)

    def _note(self, door: Door, fault: str | None) -> None:
        """Log what changed: a replica that is silent, and that it is back."""
        before = self._faults.pop(door.uid, None)
        if fault is not None:
            self._faults[door.uid] = fault
        if (before is None) != (fault is None):
            logger.warning("front door %s: %s", door.name, fault or "reports again")
