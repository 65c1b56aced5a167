"""A client of HTTP/1.1 that asks once: no request is ever sent again, whatever happens.

Small on purpose: it shares two cores with what it measures. One request at a time on a connection;
connections are opened beforehand, and again where they end. A request waits for one that is open: so
one that was sent nowhere is late, and one that was sent and not answered has failed.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

from e2e.bench.front_door.flow import REFUSED, RIGHT, Flow
from e2e.bench.front_door.questions import Question

Done = Callable[[str, str], None]
"""Told the outcome of a request, and in words what went wrong."""
_LOOK_S = 0.25
_AGAIN_S = 0.05
_OPEN_WITHIN_S = 5.0


class Asking:
    """A request that was handed in: from then on its time runs."""

    __slots__ = ("done", "question", "until")

    def __init__(self, question: Question, done: Done, until: float) -> None:
        self.question, self.done, self.until = question, done, until


class Connection(asyncio.Protocol):
    """One connection of a pool, with at most one request under way."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._read = b""
        self.asking: Asking | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._pool.free(self)

    def ask(self, asking: Asking) -> None:
        """Send a request."""
        assert self._transport is not None
        self.asking = asking
        self._transport.write(asking.question.asks)

    def data_received(self, data: bytes) -> None:
        asking = self.asking
        if asking is None:
            self.abort()  # nobody asked
            return
        read = self._read + data if self._read else data
        head = read.find(b"\r\n\r\n")
        length = _length(read, head) if head >= 0 else None
        if length is None and head >= 0:
            self._fail(asking, "no length", read[:200].decode(errors="replace"))
        elif length is None or len(read) < head + 4 + length:
            self._read = read
        elif len(read) > head + 4 + length:
            self._fail(asking, "more than an answer", read[-200:].decode(errors="replace"))
        else:
            self._read = b""
            self._answered(asking, read, head)

    def _answered(self, asking: Asking, read: bytes, head: int) -> None:
        self.asking = None
        if b"\r\nconnection: close" in read[:head].lower():
            self.abort()
        else:
            self._pool.free(self)
        status, body = read[9:12], read[head + 4 :]
        if status != b"200":
            asking.done(
                REFUSED + status.decode(errors="replace"), body[:200].decode(errors="replace")
            )
        elif asking.question.is_right(body):
            asking.done(RIGHT, "")
        else:
            asking.done("wrong answer", body[:200].decode(errors="replace"))

    def _fail(self, asking: Asking, what: str, words: str) -> None:
        self.asking = None
        self.abort()
        asking.done(what, words)

    def expire(self, now: float) -> None:
        """Give up a request that has waited too long."""
        if self.asking is not None and now > self.asking.until:
            self._fail(self.asking, "no answer in time", "")

    def abort(self) -> None:
        """Drop the connection; the pool opens another."""
        self._pool.forget(self)
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        asking, self.asking = self.asking, None
        self._pool.lost(self, idle=asking is None)
        if asking is not None:
            what = "reset" if isinstance(error, ConnectionError) else "closed"
            asking.done(what, self._read[:200].decode(errors="replace"))


def _length(read: bytes, head: int) -> int | None:
    found = read.lower().find(b"\r\ncontent-length:", 0, head)
    if found < 0:
        return None
    end = read.find(b"\r", found + 2)
    return int(read[found + 17 : end])


class Pool:
    """Connections to one address, and the requests that wait for one."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._idle: deque[Connection] = deque()
        self._all: set[Connection] = set()
        self._waiting: deque[Asking] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self.reopened = 0
        self.unopened = 0

    async def open(self) -> None:
        """Open the connections. Raises OSError where the address takes none."""
        await asyncio.gather(*(self._connect() for _ in range(self._flow.connections)))
        self._start(self._expire())

    def ask(self, question: Question, done: Done) -> None:
        """Send a request on the connection that was idle longest, or on the first to be so."""
        asking = Asking(question, done, monotonic() + self._flow.timeout)
        if self._idle:
            self._idle.popleft().ask(asking)
        else:
            self._waiting.append(asking)

    async def close(self) -> None:
        """Close the connections."""
        self._closing = True
        for connection in list(self._all):
            connection.abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.sleep(0)

    def free(self, connection: Connection) -> None:
        """Take back a connection that has no request under way."""
        self._all.add(connection)
        if self._waiting:
            connection.ask(self._waiting.popleft())
        else:
            self._idle.append(connection)

    def forget(self, connection: Connection) -> None:
        """Ask nothing more on a connection."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def lost(self, connection: Connection, *, idle: bool) -> None:
        """Take note of the end of a connection, and open another."""
        self.forget(connection)
        if not self._closing:
            self.reopened += idle
            self._start(self._again())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        host, _, port = self._flow.address.rpartition(":")
        async with asyncio.timeout(_OPEN_WITHIN_S):
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: Connection(self), host, int(port))

    async def _again(self) -> None:
        while not self._closing:
            try:
                await self._connect()
                break
            except OSError:  # a TimeoutError too
                self.unopened += 1
                await asyncio.sleep(_AGAIN_S)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            now = monotonic()
            for connection in list(self._all):
                connection.expire(now)
            while self._waiting and now > self._waiting[0].until:
                self._waiting.popleft().done("no connection in time", "")
