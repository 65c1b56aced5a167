"""When a node's agent looks at what: new directories at once, all the rest now and then."""

import logging
import threading
from dataclasses import dataclass

from conch.clients.clock import Clock
from conch.clients.node_cache_agent import Agent

logger = logging.getLogger(__name__)

OPEN_EVERY_S = 0.2
"""How soon a directory that the kubelet has just made is opened: a pod waits for it."""
SHARE = 50
"""A look takes at most a fiftieth of the time: large caches are looked at less often."""


@dataclass
class Rounds:
    """The agent's life. Times in seconds."""

    agent: Agent
    clock: Clock
    sweep_every: float
    tidy_every: float
    _sweep_at: float = 0.0
    _tidy_at: float = 0.0

    def run(self, ended: threading.Event) -> None:
        """Go round until it is ended."""
        while True:
            self.once()
            if ended.wait(OPEN_EVERY_S):
                return

    def once(self) -> None:
        """Do what is due. What fails on one node's disk is told, and tried again."""
        try:
            self.agent.open_new()
            now = self.clock.monotonic()
            if now >= self._tidy_at:
                self.agent.tidy()
                self._tidy_at = now + self.tidy_every
            if now >= self._sweep_at:
                self.agent.sweep()
                took = self.clock.monotonic() - now
                self._sweep_at = now + max(self.sweep_every, SHARE * took)
        except OSError as error:
            logger.warning("%s", error)
