"""HAProxy's runtime API: commands to the newest worker, and to older ones through the master.

HAProxy 2.6, management.txt, 9.3 and 9.4. Tests use the real program instead of a fake.
"""

import asyncio
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

TIMEOUT_S = 5.0
LONGEST_LINE = 8000
"""Bytes of commands that are sent as one line; HAProxy's buffer takes 16 KiB."""
AGAIN_S = 0.02
_ANSWER = 1 << 20
_FINE = ("IP changed", "no need to change", "port changed", "New ", "Transaction ", "Success")
"""Beginnings of answers that are no complaint."""


class HAProxyError(Exception):
    """HAProxy does not answer, or refused a command."""


class HAProxy:
    """The runtime API of one HAProxy in master-worker mode. Every method raises HAProxyError."""

    def __init__(self, stats: Path, master: Path) -> None:
        """``stats``: the socket of the newest worker; ``master``: the master's."""
        self._stats, self._master = stats, master

    async def ask(self, command: str) -> str:
        """Return what the newest worker answers."""
        return await _ask(self._stats, command)

    async def ask_worker(self, pid: int, command: str) -> str:
        """Return what the worker of that process answers, be it old or new."""
        return await _ask(self._master, f"@!{pid} {command}")

    async def tell(self, commands: Iterable[str]) -> None:
        """Give commands to the newest worker; what it complains of is raised in the end."""
        complaints = []
        for line in lines_of(commands):
            complaints += complaints_in(await self.ask(line))
        if complaints:
            raise HAProxyError("; ".join(dict.fromkeys(complaints)))

    async def tell_worker(self, pid: int, commands: Iterable[str]) -> None:
        """Give commands to an older worker, which may lack what they are about."""
        for command in commands:
            await self.ask_worker(pid, command)

    async def certificate(self, file: Path, pem: str) -> None:
        """Have new connections use another certificate, without a reload."""
        for command in (f"set ssl cert {file} <<\n{pem.strip()}\n", f"commit ssl cert {file}"):
            answer = await self.ask(command)
            if "rror" in answer or "an't" in answer:
                raise HAProxyError(answer.strip())

    async def workers(self) -> tuple[int | None, list[int]]:
        """Return the newest worker's process, None where there is none, and those of older ones.

        Older ones were replaced, and still have something under way.
        """
        return workers_in(await _ask(self._master, "show proc"))

    async def mark(self) -> str | None:
        """Return the mark of the configuration that the newest worker runs; None where it has none."""
        return mark_in(await self.ask("show env CONCH_MARK"))

    async def reload(self) -> None:
        """Have the master begin a new worker with the configuration as it is in the file."""
        await _ask(self._master, "reload")


async def _ask(path: Path, command: str) -> str:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await _opened(path)
            try:
                writer.write(command.encode() + b"\n")
                await writer.drain()
                writer.write_eof()
                answer = await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise HAProxyError(f"{path.name} does not answer: {error!r}") from error
    return answer.decode(errors="replace")


async def _opened(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a connection; while HAProxy begins anew, nobody listens for a moment."""
    while True:
        try:
            return await asyncio.open_unix_connection(path, limit=_ANSWER)
        except (ConnectionRefusedError, FileNotFoundError):
            await asyncio.sleep(AGAIN_S)


def lines_of(commands: Iterable[str]) -> Iterator[str]:
    """Yield commands joined to lines that HAProxy takes at once."""
    line = ""
    for command in commands:
        if line and len(line) + len(command) >= LONGEST_LINE:
            yield line
            line = ""
        line = f"{line};{command}" if line else command
    if line:
        yield line


def complaints_in(answer: str) -> list[str]:
    """Return the lines of an answer to changes that say that something did not work."""
    lines = (line.strip() for line in answer.splitlines())
    return [line for line in lines if line and not line.startswith(_FINE)]


def workers_in(answer: str) -> tuple[int | None, list[int]]:
    """Return the newest worker that ``show proc`` lists, and the old ones."""
    current, _, old = answer.partition("# old workers")
    return next(iter(_workers(current)), None), list(_workers(old))


def _workers(lines: str) -> Iterator[int]:
    for line in lines.splitlines():
        words = line.split()
        if len(words) > 1 and words[0].isdigit() and words[1] == "worker":
            yield int(words[0])


def mark_in(answer: str) -> str | None:
    """Return the mark that ``show env`` tells."""
    name, equals, value = answer.strip().partition("=")
    return value if equals and name == "CONCH_MARK" else None


def used_in(answer: str) -> dict[str, int]:
    """Return, by server, the connections that ``show servers conn`` says carry a request now."""
    lines = [line.split() for line in answer.splitlines()]
    head: list[str] = next((w for w in lines if w[:1] == ["#"]), [])
    if "used_cur" not in head:
        return {}
    column = head.index("used_cur") - 1
    found = {}
    for words in lines:
        if words and "/" in words[0] and len(words) > column and words[column].isdigit():
            found[words[0].rpartition("/")[2]] = int(words[column])
    return found


def counts_in(answer: str, counter: str) -> dict[str, int]:
    """Return a counter of each entry that ``show table`` lists, by its key."""
    found = {}
    for line in answer.splitlines():
        words = line.split()
        key = next((w.removeprefix("key=") for w in words if w.startswith("key=")), None)
        value = next((w.partition("=")[2] for w in words if w.startswith(f"{counter}=")), "")
        if key is not None and value.isdigit():
            found[key] = int(value)
    return found
