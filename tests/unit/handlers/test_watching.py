"""kopf's thread: what it begins anew, what it gives up, and what it leaves alone."""

import asyncio
import contextlib
import threading
from unittest.mock import Mock

import pytest

from conch.clients.clock import SystemClock
from conch.handlers import watching
from conch.handlers.watching import SHORT_S, TRIES, Restarts, aside, keep_watching


def test_pauses_grow_while_runs_are_short_and_then_it_is_given_up() -> None:
    restarts = Restarts()
    assert [restarts.pause(1.0) for _ in range(TRIES)] == [1.0, 2.0, 4.0, 8.0, None]


def test_after_a_long_run_all_tries_are_there_again() -> None:
    restarts = Restarts()
    for _ in range(3 * TRIES):
        assert [restarts.pause(s) for s in (SHORT_S, 1.0, 1.0)] == [1.0, 2.0, 4.0]


class Watches:
    """Ends by an error so many times, and then waits for ever."""

    def __init__(self, errors: int) -> None:
        self.errors = errors
        self.threads: list[int] = []
        self.waits, self.cancelled = threading.Event(), threading.Event()

    async def work(self) -> None:
        """Run on whatever thread it is called on."""
        self.threads.append(threading.get_ident())
        if len(self.threads) <= self.errors:
            raise ValueError(f"end {len(self.threads)}")
        self.waits.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


async def test_it_begins_anew_on_a_thread_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(watching, "logger", log := Mock())
    watches, again = Watches(errors=2), Mock()
    task = asyncio.create_task(keep_watching(watches.work, SystemClock(), again=again))
    assert await asyncio.to_thread(watches.waits.wait, 5)
    assert again.call_count == 2
    assert threading.get_ident() not in watches.threads
    assert [call.args[1:] for call in log.warning.mock_calls] == [
        (0.001, "end 1"),
        (0.002, "end 2"),
    ]
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert watches.cancelled.is_set()


async def test_what_fails_time_and_again_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "FIRST_PAUSE_S", 0.001)
    watches = Watches(errors=100)
    with pytest.raises(ValueError, match=f"end {TRIES}"):
        await keep_watching(watches.work, SystemClock(), again=list)


async def test_what_does_not_end_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "END_S", 0.05)
    over, going = threading.Event(), threading.Event()

    async def stubborn() -> None:
        going.set()
        while not over.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)

    task = asyncio.create_task(aside(stubborn))
    assert await asyncio.to_thread(going.wait, 5)
    task.cancel()
    await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 5)
    assert task.cancelled()
    over.set()


async def test_cancelling_ends_it_even_before_it_has_begun() -> None:
    for begun in (False, True):
        watches = Watches(errors=0)
        task = asyncio.create_task(aside(watches.work))
        await asyncio.sleep(0.05 if begun else 0)
        task.cancel()
        await asyncio.wait_for(asyncio.gather(task, return_exceptions=True), 5)
        assert task.cancelled()
