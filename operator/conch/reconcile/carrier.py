"""Carries out what was decided: many services side by side, one task at a time for each.

The loop goes on deciding meanwhile, so that no service waits for another's writes.
"""

import asyncio
import functools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from conch.clients.clock import Clock
from conch.clients.cluster import CONFLICT, ClusterError
from conch.clients.fence import NotLeaderError
from conch.decisions.fleet import ServiceKey
from conch.reconcile.execute import Executor
from conch.reconcile.exposition import ServiceFigures
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.status import Outcome
from conch.reconcile.telling import Teller

logger = logging.getLogger(__name__)

FIRST_RETRY_S, LONGEST_RETRY_S = 0.25, 60.0
LONG_LINE = 4
"""Services that wait for each writer: more than it begins soon."""
TELLING_TRIES = 3
"""A conflict of versions means that a newer state is on its way; only one that stays is told."""


@dataclass
class _Retry:
    """How long to leave a service alone whose writes were refused."""

    message: str
    delay: float
    due: float
    tries: int
    status: int
    wish: tuple[object, ...]
    """What was wished for: another wish is tried at once."""

    @property
    def told(self) -> str | None:
        """The message, where a user should read it."""
        if self.status == CONFLICT and self.tries < TELLING_TRIES:
            return None
        return self.message


@dataclass(frozen=True)
class _Job:
    """An outcome to carry out: decided at ``now``, in seconds since the epoch."""

    outcome: Outcome
    now: float
    acts: bool
    """Whether its plan is to be written, or only its status."""


class Carrier:
    """Runs the writes of services as tasks, ``concurrency`` of them at once.

    The others wait in line, each service with what was last decided on it.
    """

    def __init__(
        self,
        executor: Executor,
        teller: Teller,
        clock: Clock,
        *,
        concurrency: int,
        wake: Callable[[], None],
    ) -> None:
        """``wake`` is called whenever something was carried out or failed."""
        self._executor = executor
        self._teller = teller
        self._clock = clock
        self._wake = wake
        self._concurrency = concurrency
        self._running: dict[ServiceKey, tuple[Outcome, asyncio.Task[None]]] = {}
        self._waiting: dict[ServiceKey, _Job] = {}
        self._retries: dict[ServiceKey, _Retry] = {}
        self._figures: dict[ServiceKey, ServiceFigures] = {}
        self._ended: BaseException | None = None

    @property
    def busy(self) -> bool:
        """Whether anything is under way or waits."""
        return bool(self._running or self._waiting)

    def under_way(self, key: ServiceKey) -> Outcome | None:
        """Return the outcome of a service that is being carried out now."""
        found = self._running.get(key)
        return found[0] if found else None

    def trouble(self, facts: ServiceFacts) -> str | None:
        """Return what the API server last refused of what is wished for, where users should know."""
        retry = self._retry(facts)
        return retry.told if retry else None

    def figures(self) -> Iterable[ServiceFigures]:
        """Return the figures of all services as far as they were carried out."""
        return self._figures.values()

    def seconds_to_retry(self) -> float | None:
        """Return when the next refused write is tried again, in seconds from now."""
        now = self._clock.monotonic()
        return min((max(0.1, r.due - now) for r in self._retries.values()), default=None)

    def check(self) -> None:
        """Raise what ended a task for good, such as the loss of the lease."""
        if self._ended is not None:
            raise self._ended

    def carry(self, outcome: Outcome, now: float) -> bool:
        """Take on an outcome; tell whether anything is to be done for its service.

        It replaces what waits for the same service, and waits behind what was taken on before it
        in this tick. Where an earlier one is under way it is left out: its end asks for another
        tick. ``now`` is in seconds since the epoch.
        """
        key = outcome.facts.key
        self._waiting.pop(key, None)
        if key in self._running:
            return True
        if outcome.paused:
            self._retries.pop(key, None)  # it is not tried again, so nothing is due
        acts = not outcome.paused and self._due(outcome.facts)
        settled = acts and self._executor.settled(outcome.facts, outcome.plan)
        if settled and key in self._retries:
            # Nothing is left to write of what was refused: from the next tick it is no trouble.
            del self._retries[key]
            self._wake()
            return True
        if not acts or settled:
            told = self._teller.told(outcome, now)
            if told is not None:
                self._figures[key] = told
                return False
        self._waiting[key] = _Job(outcome, now, acts)
        return True

    @property
    def backlog(self) -> bool:
        """Whether more waits than writers can begin soon."""
        return len(self._waiting) > LONG_LINE * self._concurrency

    def begin(self) -> None:
        """Begin what comes first in line, as far as writers are free."""
        while self._waiting and len(self._running) < self._concurrency:
            key = next(iter(self._waiting))
            job = self._waiting.pop(key)
            task = asyncio.create_task(self._run(job))
            self._running[key] = (job.outcome, task)
            task.add_done_callback(functools.partial(self._finished, key))

    async def idle(self) -> None:
        """Return once nothing is under way."""
        while self._running:
            await asyncio.wait([task for _, task in self._running.values()])

    def stop(self) -> None:
        """Cancel what is under way, and forget what waits."""
        self._waiting.clear()
        for _, task in self._running.values():
            task.cancel()

    def _finished(self, key: ServiceKey, task: asyncio.Task[None]) -> None:
        del self._running[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._ended = error
            self._waiting.clear()
        self.begin()
        self._wake()

    async def _run(self, job: _Job) -> None:
        """Write one service's plan and status; a refusal is kept to this service."""
        facts = job.outcome.facts
        try:
            wrote = False
            if job.acts:
                wrote = await self._executor.execute(facts, job.outcome.plan, job.now)
                self._retries.pop(facts.key, None)
            told = await self._teller.tell(job.outcome, job.now, more_coming=wrote)
            self._figures[facts.key] = told
        except ClusterError as error:
            self._refused(facts, str(error), error.status)
        except NotLeaderError:
            raise
        except Exception as error:
            logger.exception("%s: not carried out", facts.key)
            self._refused(facts, f"a defect of Conch: {error!r}", 0)

    def _retry(self, facts: ServiceFacts) -> _Retry | None:
        """Return what is known of refusals of this wish."""
        retry = self._retries.get(facts.key)
        return retry if retry and retry.wish == _wish(facts) else None

    def _due(self, facts: ServiceFacts) -> bool:
        retry = self._retry(facts)
        return retry is None or retry.due <= self._clock.monotonic()

    def _refused(self, facts: ServiceFacts, message: str, status: int) -> None:
        """Try again later, ever more slowly."""
        before, key = self._retry(facts), facts.key
        delay = min(LONGEST_RETRY_S, before.delay * 2 if before else FIRST_RETRY_S)
        tries = before.tries + 1 if before else 1
        due = self._clock.monotonic() + delay
        self._retries[key] = retry = _Retry(message, delay, due, tries, status, _wish(facts))
        level = logging.WARNING if retry.told else logging.DEBUG
        logger.log(level, "%s: %s (next try in %.1f s)", key, message, delay)

    def forget(self, kept: Iterable[ServiceKey]) -> None:
        """Drop what is remembered of all services but these."""
        memories: tuple[dict[ServiceKey, Any], ...] = (self._retries, self._figures, self._waiting)
        for memory in memories:
            for key in memory.keys() - set(kept):
                del memory[key]
        self._teller.forget(kept)


def _wish(facts: ServiceFacts) -> tuple[object, ...]:
    """Return what tells one wish from another: the spec's generation, and what the model makes of it."""
    return facts.body["metadata"].get("generation"), facts.service.newer
