"""The lease beside an event loop that is busy, hangs, ends, or loses it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from conch.clients.clock import SystemClock
from conch.clients.cluster import Cluster
from conch.clients.lease import Elector, LeaseLostError, LeaseTimes
from conch.clients.lease_thread import LeaseThread
from tests.unit.clients.test_lease import FakeCluster

TIMES = LeaseTimes(duration=3.0, deadline=1.5, retry=0.05, request=1.0, margin=0.1)


class Server(FakeCluster):
    """The Lease in memory, with a connection that is closed in the end."""

    closed = False

    async def close(self) -> None:
        self.closed = True


def lease(server: Server, *, hang_seconds: float = 60.0) -> LeaseThread:
    clock = SystemClock()

    async def connect() -> Cluster:
        return cast("Cluster", server)

    def elect(cluster: Cluster) -> Elector:
        return Elector(cluster, clock, name="c", namespace="n", identity="one", times=TIMES)

    return LeaseThread(connect, elect, clock, hang_seconds=hang_seconds)


@asynccontextmanager
async def kept(thread: LeaseThread) -> AsyncIterator[asyncio.Task[None]]:
    await thread.acquire()
    task = asyncio.create_task(thread.keep())
    await asyncio.sleep(0)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await thread.release()


async def test_a_loop_that_is_busy_for_long_keeps_the_lease() -> None:
    server = Server()
    thread = lease(server)
    async with kept(thread):
        before = server.version
        until = time.monotonic() + 1.5 * TIMES.deadline
        while time.monotonic() < until:
            sum(range(1000))  # as deciding does: no await, and the interpreter is never idle
            assert thread.may_write()
        assert server.version > before + 2


async def test_a_loop_that_hangs_loses_the_lease() -> None:
    thread = lease(Server(), hang_seconds=1.6)
    async with kept(thread) as task:
        time.sleep(2.0)  # noqa: ASYNC251 -- it hangs
        assert not thread.may_write()
        with pytest.raises(LeaseLostError, match="hangs"):
            await asyncio.wait_for(task, 5)


async def test_the_work_hears_that_the_lease_was_taken() -> None:
    server = Server()
    thread = lease(server)
    async with kept(thread) as task:
        assert server.lease is not None
        server.lease["spec"]["holderIdentity"] = "two"
        server.lease["metadata"]["resourceVersion"] = "77"
        with pytest.raises(LeaseLostError, match="held by another"):
            await asyncio.wait_for(task, 5)
        assert not thread.may_write()
    assert server.lease["spec"]["holderIdentity"] == "two"
    assert server.closed


async def test_what_is_given_up_is_free_at_once() -> None:
    server = Server()
    thread = lease(server)
    async with kept(thread):
        assert thread.may_write()
        assert thread.seconds_left() > TIMES.deadline
    assert server.lease is not None
    assert server.lease["spec"]["holderIdentity"] == ""
    assert not thread.may_write()
    assert server.closed


async def test_one_that_waits_can_be_told_to_end() -> None:
    server = Server()
    first, other = lease(server), lease(server)
    async with kept(first):
        assert server.lease is not None
        server.lease["spec"]["holderIdentity"] = "somebody"
        server.lease["metadata"]["resourceVersion"] = "77"
        waiting = asyncio.create_task(other.acquire())
        await asyncio.sleep(0.1)
        assert not waiting.done()
        waiting.cancel()
        await other.release()
    assert server.lease["spec"]["holderIdentity"] == "somebody"


async def test_before_it_is_held_nothing_may_be_written() -> None:
    thread = lease(Server())
    assert not thread.may_write()
    assert thread.seconds_left() == 0.0
    await thread.release()
