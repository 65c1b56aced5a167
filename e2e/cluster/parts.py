"""The parts that a cluster consists of: what runs, how to see that it works, how to mend it."""

import http.client
import socket
import ssl
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from e2e.cluster.processes import Command, Supervisor, wait_until
from e2e.cluster.settings import ClusterError

_PROBE_TIMEOUT_S = 2.0
_HICCUP_S = 10.0  # for this long a part that worked before may not answer


class Probe(Protocol):
    """A question whose answer tells whether a part works."""

    def failure(self) -> str | None:
        """None if it works; otherwise what is wrong."""
        ...


@dataclass(frozen=True)
class HttpProbe:
    """Works if GET `url` answers 200."""

    url: str

    def __str__(self) -> str:
        return self.url

    def failure(self) -> str | None:
        try:
            status = self._status()
        except (OSError, http.client.HTTPException) as error:
            return f"{self.url} does not answer: {error}"
        return None if status == http.client.OK else f"{self.url} answers {status}"

    def _status(self) -> int:
        parts = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=_PROBE_TIMEOUT_S
        )
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=_PROBE_TIMEOUT_S, context=_trusting()
            )
        try:
            connection.request("GET", parts.path)
            return connection.getresponse().status
        finally:
            connection.close()


@dataclass(frozen=True)
class SocketProbe:
    """Works if something accepts connections on a Unix socket."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def failure(self) -> str | None:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(_PROBE_TIMEOUT_S)
                client.connect(str(self.path))
        except OSError as error:
            return f"{self.path} does not answer: {error}"
        return None


@dataclass(frozen=True)
class Part:
    """A process and what shows that it works. Times in seconds."""

    command: Command
    probe: Probe
    ready_within: float = 60.0
    stop_within: float = 5.0

    @property
    def name(self) -> str:
        return self.command.name


class Runner:
    """Brings parts up under one supervisor, and keeps those that run and work."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor

    def start(self, part: Part) -> bool:
        """Starts the part unless it runs as it should; returns at once, whether it started it.

        Raises ClusterError if something else serves already where the part would.
        """
        if self.supervisor.runs(part.command):
            return False
        self.supervisor.clear(part.command, grace=part.stop_within)
        if part.probe.failure() is None:
            raise ClusterError(f"{part.name} cannot start: another program serves at {part.probe}")
        self.supervisor.start(part.command)
        return True

    def ensure(self, part: Part) -> None:
        """Returns once the part works; starts it, or starts it again, if it does not.

        Raises ClusterError, with the log's end, if it dies or does not get to work in time.
        """
        self.start(part)
        if self._await(part):
            return
        # It died, or runs but does not work, which is as good as dead: one fresh start.
        self.supervisor.stop(part.name, grace=part.stop_within)
        self.start(part)
        if not self._await(part):
            raise ClusterError(self._explain(part))

    def failure(self, part: Part) -> str | None:
        """None if the part runs and works, otherwise what is wrong."""
        if not self.supervisor.running(part.name):
            return "not running"
        return part.probe.failure()

    def _await(self, part: Part) -> bool:
        """Whether it works in time: a process that is still starting gets more of it."""
        record = self.supervisor.running(part.name)
        if record is None:
            return False
        wait_until(
            lambda: part.probe.failure() is None or not record.alive(),
            timeout=max(_HICCUP_S, part.ready_within - record.age()),
        )
        # Asked in this order: another process at the same address must not pass for ours.
        return part.probe.failure() is None and record.alive()

    def _explain(self, part: Part) -> str:
        state = self.failure(part) or "slow"
        log = self.supervisor.log(part.name)
        return f"{part.name}: {state}; its log {log} ends:\n{self.supervisor.tail(part.name)}"


def _trusting() -> ssl.SSLContext:
    # Health endpoints of the control plane carry certificates that each part makes up itself.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
