"""The fence around writes: none leaves the process unless the lease is surely held.

Between a look at the lease and the moment when a request's bytes leave, the whole process may stand
still, as in a suspended VM. Hence the lease is looked at a second time where the bytes are handed
to the socket.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Protocol

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection


class NotLeaderError(Exception):
    """A write was tried without the lease; it was not sent."""


class Fence(Protocol):
    """Says whether this process may write now."""

    def may_write(self) -> bool:
        """Return True only while the lease is surely held."""

    def seconds_left(self) -> float:
        """Return how long a write that begins now may take."""


_around: ContextVar[Fence | None] = ContextVar("fence", default=None)


@contextlib.contextmanager
def behind(fence: Fence | None) -> Iterator[None]:
    """Let requests with a body that begin in the ``with`` block leave only while the fence allows.

    Their session must make its requests as FencedRequest; None lets all through.
    """
    token = _around.set(fence)
    try:
        yield
    finally:
        _around.reset(token)


class FencedRequest(aiohttp.ClientRequest):
    """A request that asks the fence right before its bytes leave; for a session's request_class.

    aiohttp hands headers and body to the socket together, in ``write_bytes``. A request that may
    not leave ends with a ClientConnectionError for its caller.
    """

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        """Send what is to be sent, or close the connection with nothing sent."""
        fence = _around.get()
        if fence is None or fence.may_write():
            await super().write_bytes(writer, conn, content_length)
        elif conn.protocol is not None:
            refused = aiohttp.ClientConnectionError("the lease is not held any more: not sent")
            conn.protocol.set_exception(refused)
