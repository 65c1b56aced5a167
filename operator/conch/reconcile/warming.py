"""Warm-ups: whether a replica that is to take over answers as fast as the one that leaves."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

from conch.clients.triton import ReplicaRefuses, Replicas, ReplicaUnreachable
from conch.decisions.fleet import Pod
from conch.decisions.migrating import Warmth
from conch.reconcile.gather import ServiceFacts

logger = logging.getLogger(__name__)

ROUND = 5
"""Requests of a round; the median of one counts."""
ROUNDS = 20
"""Rounds after which a replica that is still too slow is given up."""
SLOWER = 1.5
"""Times what the other one takes: more is not yet warm."""
SLACK_S = 0.005
"""More than that, whatever the other one takes: networks differ by so much."""
PAUSE_S = 0.5
"""Between two rounds."""


class Warming(Protocol):
    """Who warms replicas up."""

    def look(self, facts: ServiceFacts, target: Pod | None, source: Pod | None) -> Warmth | None:
        """Return what the warm-up of ``target`` showed; None while that is not known yet."""
        ...


@dataclass(frozen=True)
class _Question:
    model: str
    values: Mapping[str, str]
    target: str
    source: str | None


class Warmer:
    """Warms each replica up once, on a task of its own."""

    def __init__(self, replicas: Replicas, wake: Callable[[], None]) -> None:
        """``wake`` is called whenever something is known."""
        self._replicas, self._wake = replicas, wake
        self._tasks: dict[str, asyncio.Task[Warmth]] = {}
        """By UID of the replica."""

    def look(self, facts: ServiceFacts, target: Pod | None, source: Pod | None) -> Warmth | None:
        """Return what the warm-up showed, and begin it where it was not; see Warming."""
        if target is None or not target.ready:
            return None
        task = self._tasks.get(target.uid)
        if task is None:
            question = _question(facts, target, source)
            if question is None:
                return None
            task = self._tasks[target.uid] = asyncio.create_task(self._warm(question))
            task.add_done_callback(lambda _: self._wake())
        return task.result() if task.done() and not task.cancelled() else None

    def forget(self, kept: set[str]) -> None:
        """Drop what is known of all replicas but these, by UID."""
        for uid in self._tasks.keys() - kept:
            self._tasks.pop(uid).cancel()

    async def _warm(self, question: _Question) -> Warmth:
        try:
            return await self._compared(question)
        except Exception as error:
            logger.exception("a warm-up failed")
            return Warmth(passed=False, text=f"a defect of Conch: {error!r}")

    async def _compared(self, question: _Question) -> Warmth:
        usual, why = await self._usual(question)
        last = 0.0
        for number in range(ROUNDS):
            try:
                last = median(await self._ask(question, question.target))
            except (ReplicaUnreachable, ReplicaRefuses) as error:
                if why is not None:
                    # As it is with the one that leaves: it says nothing of the new one.
                    return Warmth(passed=True, text=f"not measured, as neither replica says: {why}")
                if number + 1 == ROUNDS:
                    return Warmth(passed=False, text=f"it answers no warm-up: {error}")
            else:
                if usual is None or last <= SLOWER * usual + SLACK_S:
                    return Warmth(passed=True, text=_words(last, usual))
            await asyncio.sleep(PAUSE_S)
        return Warmth(passed=False, text=f"still too slow: {_words(last, usual)}")

    async def _usual(self, question: _Question) -> tuple[float | None, str | None]:
        """Return what a request takes at the one that leaves, or why that can't be told."""
        if question.source is None:
            return None, None
        try:
            return median(await self._ask(question, question.source)), None
        except (ReplicaUnreachable, ReplicaRefuses) as error:
            return None, str(error)

    async def _ask(self, question: _Question, address: str) -> Sequence[float]:
        return await self._replicas.timed(address, question.model, question.values, count=ROUND)


def _question(facts: ServiceFacts, target: Pod, source: Pod | None) -> _Question | None:
    snapshot, address = facts.snapshots.get(target.revision), _address(target)
    if snapshot is None or address is None:
        return None
    values = facts.resolved.warmup if facts.resolved is not None else {}
    return _Question(snapshot.model, values, address, _address(source) if source else None)


def _address(pod: Pod) -> str | None:
    status: Mapping[str, Any] = pod.body.get("status") or {}
    found = status.get("podIP")
    return str(found) if found else None


def _words(seconds: float, usual: float | None) -> str:
    text = f"it answers in {1e3 * seconds:.1f} ms"
    return text if usual is None else f"{text}, the one that leaves in {1e3 * usual:.1f} ms"
