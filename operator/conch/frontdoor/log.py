"""The log of HAProxy's workers, line by line.

Each worker sends its own over a stream, from a buffer in its memory: what it can't send while the agent
is busy or away waits there. Datagrams would not: of those a socket takes ten where nobody has raised
net.unix.max_dgram_qlen. The last line of a worker that ends with it may be lost.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

BUFFER_BYTES = 1 << 20
"""Of each worker: about eight thousand lines."""
MOST_BYTES = 4096
"""Of a line."""
PAUSE_S = 0.02
"""Between two looks: so many lines cost one wake, however many they are."""
_READ_BYTES = 1 << 16
"""Taken at a time, before others have their turn."""


def lines_of(data: bytes) -> tuple[list[str], bytes]:
    """Return the whole lines of a stream, and what is left, the beginning of the next.

    A line is its length in bytes, a space and its text (RFC 6587, 3.4.1). Raises ValueError where
    that is not so.
    """
    found, begin = [], 0
    while (space := data.find(b" ", begin)) >= 0:
        length = int(data[begin:space])
        end = space + 1 + length
        if length < 0 or length > 2 * MOST_BYTES:
            raise ValueError(f"a line of {length} bytes")
        if end > len(data):
            break
        found.append(data[space + 1 : end].decode(errors="replace").rstrip("\n"))
        begin = end
    return found, data[begin:]


class Log:
    """Listens at a socket and tells of each line. On one event loop."""

    def __init__(self, path: Path, hear: Callable[[str], None]) -> None:
        self._path, self._hear = path, hear

    async def run(self) -> None:
        """Listen for ever."""
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as listening:
            self._path.unlink(missing_ok=True)
            listening.setblocking(False)
            listening.bind(str(self._path))
            self._path.chmod(0o660)
            listening.listen()
            async with asyncio.TaskGroup() as group:
                while True:
                    worker, _ = await loop.sock_accept(listening)
                    group.create_task(self._read(worker))

    async def _read(self, worker: socket.socket) -> None:
        """Read what one worker sends; while nobody reads, the kernel gathers it."""
        loop, rest = asyncio.get_running_loop(), b""
        with worker, contextlib.suppress(ConnectionError):
            while data := await loop.sock_recv(worker, _READ_BYTES):
                try:
                    lines, rest = lines_of(rest + data)
                except ValueError as error:
                    logger.warning("HAProxy's log can't be read, a part of it is lost: %s", error)
                    return
                for line in lines:
                    self._hear(line)
                await asyncio.sleep(PAUSE_S)
