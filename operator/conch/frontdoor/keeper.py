"""Keeps the agent running: ``python3 -m conch.frontdoor.keeper PORT COMMAND…``.

A container that ends takes its pod out of the Service, and with it HAProxy, which would go on as before.
So this is the container's first process: when the agent ends or hangs, it begins it anew, and stays.
"""

import http.client
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event

logger = logging.getLogger("conch.frontdoor.keeper")
_ANSWER_S = 5.0


@dataclass(frozen=True)
class Pace:
    """Times in seconds."""

    first_pause: float = 0.5
    """Between an agent's end and the next one's beginning; twice as long each time."""
    longest_pause: float = 30.0
    settled: float = 120.0
    """After which an agent's end is the first again."""
    look: float = 5.0
    """Between two looks whether it answers."""
    hangs: float = 60.0
    """For which it may not answer."""


@dataclass
class Keeper:
    """One agent, begun again and again."""

    command: Sequence[str]
    answers: Callable[[], bool]
    pace: Pace = field(default_factory=Pace)
    _stopping: Event = field(default_factory=Event)
    _child: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Run until stopped; return the exit status of the last agent."""
        pause = self.pace.first_pause
        while True:
            begun = time.monotonic()
            status = self._once()
            if self._stopping.is_set():
                return status
            if time.monotonic() - begun > self.pace.settled:
                pause = self.pace.first_pause
            logger.error("the agent ended with %d; the next begins in %.1f s", status, pause)
            if self._stopping.wait(pause):
                return status
            pause = min(self.pace.longest_pause, 2 * pause)

    def stop(self) -> None:
        """Have the agent end, and no other begin."""
        self._stopping.set()
        if self._child is not None:
            self._child.terminate()

    def _once(self) -> int:
        """Run one agent to its end; return its exit status."""
        child = self._child = subprocess.Popen(self.command)
        if self._stopping.is_set():
            child.terminate()
        answered = time.monotonic()
        while (status := _ended(child, self.pace.look)) is None:
            now = time.monotonic()
            if self.answers():
                answered = now
            elif now - answered > self.pace.hangs:
                logger.error("the agent has not answered for %.0f s", now - answered)
                child.kill()
        return status


def _ended(child: subprocess.Popen[bytes], within: float) -> int | None:
    """Return the exit status of a process that ends within so many seconds."""
    try:
        return child.wait(timeout=within)
    except subprocess.TimeoutExpired:
        return None


def answering(port: int) -> bool:
    """Tell whether the agent answers on its port."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_S)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main(arguments: Sequence[str]) -> int:
    """Keep the command in ``arguments``, behind its port, until SIGTERM."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    port, *command = arguments
    keeper = Keeper(command, lambda: answering(int(port)))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: keeper.stop())
    return keeper.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
