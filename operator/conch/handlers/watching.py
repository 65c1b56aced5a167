"""kopf beside the work, begun anew where it ends.

kopf ends as a whole where one of its watches gets an answer that it can't bear, such as HTTP 410,
and takes every task of its event loop along. So it has a thread and a loop of its own.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

from conch.clients.clock import Clock

logger = logging.getLogger(__name__)

SHORT_S = 60.0
"""A run that ends sooner is a failure to begin."""
TRIES = 5
"""After so many short runs in a row Kubernetes had better start the process anew."""
FIRST_PAUSE_S = 1.0
END_S = 2.0
"""So long may work take to end that is cancelled."""

Work = Callable[[], Coroutine[Any, Any, None]]


class Restarts:
    """Says after each run whether, and when, to begin another."""

    def __init__(self) -> None:
        self._short = 0

    def pause(self, lasted: float) -> float | None:
        """Return how many seconds to wait after a run of ``lasted`` seconds; None: no other run."""
        self._short = self._short + 1 if lasted < SHORT_S else 1
        return None if self._short == TRIES else FIRST_PAUSE_S * 2 ** (self._short - 1)


async def keep_watching(work: Work, clock: Clock, *, again: Callable[[], object]) -> None:
    """Run ``work`` aside, anew where it raises; call ``again`` each time it begins anew.

    Raises what it raised when it does so time and again.
    """
    restarts = Restarts()
    while True:
        began = clock.monotonic()
        try:
            return await aside(work)
        except Exception as error:
            pause = restarts.pause(clock.monotonic() - began)
            if pause is None:
                raise
            why = next(iter(error.args), repr(error))
            logger.warning("watches ended and begin anew in %g s: %s", pause, why)
        await asyncio.sleep(pause)
        again()


async def aside(work: Work) -> None:
    """Await ``work`` on a thread and an event loop of its own; it is cancelled with this."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(work())
    ended: Future[None] = Future()

    async def joined() -> None:
        await task

    def run() -> None:
        try:
            with (
                contextlib.suppress(asyncio.CancelledError),
                asyncio.Runner(loop_factory=lambda: loop) as runner,
            ):
                runner.run(joined())
            ended.set_result(None)
        except BaseException as error:  # noqa: BLE001 -- raised where it is awaited
            ended.set_exception(error)

    ended.set_running_or_notify_cancel()  # from here on only the thread settles it
    threading.Thread(target=run, name="watches", daemon=True).start()
    outcome = asyncio.wrap_future(ended)
    try:
        await asyncio.shield(outcome)
    except asyncio.CancelledError:
        with contextlib.suppress(RuntimeError):  # it has just ended by itself
            loop.call_soon_threadsafe(task.cancel)
        # Its thread is no reason for the process to stay.
        await asyncio.wait((outcome,), timeout=END_S)
        raise
