"""The lease is kept on a thread, an event loop and a connection of its own.

A decision that takes seconds, or a queue of writes, then never costs the lease. What hangs for
long does: the work has to say that it goes on.
"""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable

from conch.clients.clock import Clock
from conch.clients.cluster import Cluster, ClusterError
from conch.clients.lease import Elector

BEAT_S = 1.0
HANG_S = 30.0
"""Work that did not go on for so long is taken for dead: the longest step, deciding on thousands
of services, takes a few seconds."""
END_S = 5.0


class LeaseThread:
    """Holds or waits for one Lease; the fence of the event loop that works under it.

    ``connect`` and ``elect`` are called on the thread, for a connection belongs to one event loop.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Cluster]],
        elect: Callable[[Cluster], Elector],
        clock: Clock,
        *,
        hang_seconds: float = HANG_S,
    ) -> None:
        """Call it where the work runs: on the event loop that is to hear of the lease."""
        self._connect, self._elect, self._clock = connect, elect, clock
        self._hang_seconds = hang_seconds
        self._elector: Elector | None = None
        self._beat = 0.0
        self._work = asyncio.get_running_loop()
        self._held: asyncio.Future[None] = self._work.create_future()
        self._ended: asyncio.Future[None] = self._work.create_future()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self._cancel: Callable[[], object] | None = None

    def may_write(self) -> bool:
        """Return True only while the lease is surely held. Any thread may ask."""
        return self._elector is not None and self._elector.may_write()

    def seconds_left(self) -> float:
        """Return how long a write that begins now may take."""
        return 0.0 if self._elector is None else self._elector.seconds_left()

    async def acquire(self) -> None:
        """Return once the lease is held; it is renewed from then on."""
        self._thread.start()
        await asyncio.wait((self._held, self._ended), return_when="FIRST_COMPLETED")
        if self._ended.done():
            self._ended.result()

    async def keep(self) -> None:
        """Say for ever that the work goes on; raise LeaseLostError when the lease is lost."""
        while not self._ended.done():
            self._beat = self._clock.monotonic()
            await asyncio.wait((self._ended,), timeout=BEAT_S)
        self._ended.result()

    async def release(self) -> None:
        """Give the lease up where it is held, and end the thread; call it once all work has ended."""
        if self._cancel is not None:
            with contextlib.suppress(RuntimeError):  # the thread has just ended by itself
                self._cancel()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join, END_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._hold())
        except asyncio.CancelledError:
            self._tell(self._ended)
        except Exception as error:  # noqa: BLE001 -- raised where the work is
            self._tell(self._ended, error)

    async def _hold(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        cluster = await self._connect()
        elector = self._elector = self._elect(cluster)
        try:
            await elector.acquire()
            self._beat = self._clock.monotonic()
            self._tell(self._held)
            await elector.keep(self._goes_on)
        except asyncio.CancelledError:
            with contextlib.suppress(ClusterError, TimeoutError):
                await elector.release()
            raise
        finally:
            await cluster.close()

    def _goes_on(self) -> bool:
        return self._clock.monotonic() - self._beat < self._hang_seconds

    def _tell(self, future: "asyncio.Future[None]", error: Exception | None = None) -> None:
        def settle() -> None:
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        with contextlib.suppress(RuntimeError):  # nobody is left to be told
            self._work.call_soon_threadsafe(settle)
