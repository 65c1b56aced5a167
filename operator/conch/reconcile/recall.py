"""What Prometheus knows of the last minutes, for an operator that begins anew.

And what the operator before it had learned, by the metrics that it showed.
"""

import asyncio
import logging
import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from conch.api.signals import Key, Signals
from conch.clients.clock import Clock
from conch.clients.prometheus import MetricsSource, MetricsUnavailable, Past, Span
from conch.decisions.fleet import ServiceKey
from conch.decisions.scaling import PoolLoad, ScalingState, ServiceLoad
from conch.decisions.scaling.recover import margin_of, recovered
from conch.decisions.scaling.season import BUCKET, DAY, DAYS, remembered
from conch.metrics.learned import learned, learned_queries, peak_queries, peaks
from conch.metrics.queries import queries
from conch.metrics.signals import Entries, parse
from conch.reconcile.gather import ServiceFacts

logger = logging.getLogger(__name__)

BACK_S = 600.0
"""Twice the default of scaleDownWindow."""
STEP_S = 15.0
"""Less than what counts as blind, by default."""
LEARNED_BACK_S = 3600.0
"""What was learned longer ago is forgotten."""
LEARNED_STEP_S = 60.0
LASTS_S = 60.0
"""So long is what was asked good for: every service is decided on within."""


@dataclass
class Recall:
    """The signals of the last minutes and what was learned, until each service has got its own."""

    clock: Clock
    _moments: tuple[tuple[float, Mapping[Key, Signals]], ...] = ()
    """On the clock that decisions use, oldest first."""
    _learned: Mapping[tuple[str, str], Mapping[str, float]] = field(default_factory=dict)
    _days: "Mapping[tuple[str, str], array[float]]" = field(default_factory=dict)
    """The highest load in each bucket of the last days, oldest first."""
    _bucket: int = 0
    """The one that goes on after them."""
    _asked: float = 0.0
    _had: set[ServiceKey] = field(default_factory=set)

    async def ask(self, source: MetricsSource, entries: Entries) -> None:
        """Ask once; where there is no answer, everything begins without a past."""
        wall, moment = self.clock.wall(), self.clock.monotonic()
        minutes, hour = await asyncio.gather(
            _past(source, queries(), Span(wall - BACK_S, wall, STEP_S)),
            _past(
                source,
                learned_queries(LEARNED_STEP_S),
                Span(wall - LEARNED_BACK_S, wall, LEARNED_STEP_S),
            ),
        )
        try:
            bucket, days = await self._ask_days(source, wall, moment)
            found = [(moment - (wall - at), parse(told, entries)) for at, told in minutes.items()]
            self._learned, self._moments = learned(hour), tuple(found)
            self._bucket, self._days = bucket, days
        except Exception:
            logger.exception("the past can't be read")
        self._asked = self.clock.monotonic()

    async def _ask_days(
        self, source: MetricsSource, wall: float, moment: float
    ) -> "tuple[int, Mapping[tuple[str, str], array[float]]]":
        """Return the bucket that goes on, and the peaks of those of the last days by service.

        One day is asked for after the other, so that no more than one is in memory in full.
        """
        bucket, length = int(moment // BUCKET), DAYS * DAY
        end = wall - (moment - bucket * BUCKET)
        found: dict[tuple[str, str], array[float]] = {}
        for first in range(length - 1, -1, -DAY):
            span = Span(end - first * BUCKET, end - (first - DAY + 1) * BUCKET, BUCKET)
            told = await _past(source, peak_queries(BUCKET), span)
            for key, steps, load in peaks(told, last=end, step=BUCKET):
                if 0 <= steps < length:
                    known = found.setdefault(key, array("d", [math.nan] * length))
                    known[length - 1 - steps] = load
        return bucket, found

    def state(self, facts: ServiceFacts, load: ServiceLoad, state: ScalingState) -> ScalingState:
        """Return the state of a service with its past, the first time after that is known."""
        if not (self._moments or self._learned or self._days):
            return state
        if self.clock.monotonic() - self._asked > LASTS_S:
            self._moments, self._learned, self._days, self._had = (), {}, {}, set()
            return state
        if facts.key in self._had:
            return state
        self._had.add(facts.key)
        key = (facts.key.namespace, facts.key.name)
        known, days = margin_of(self._learned.get(key, {})), self._days.get(key)
        season = None if days is None else remembered(days, self._bucket)
        return recovered(self._past(facts, load), state, known, season)

    def _past(self, facts: ServiceFacts, load: ServiceLoad) -> Iterator[tuple[float, ServiceLoad]]:
        for time, signals in self._moments:
            pools = tuple([_then(p, signals.get(facts.signal_keys[p.pool])) for p in load.pools])
            # Who waits at the front door does so now; who did then is not known.
            then = replace(
                load, held_back=0.0, asked_ago=None, deaf=0.0, slept=False, arrivals=None
            )
            yield time, replace(then, pools=pools)


async def _past(source: MetricsSource, asked: Mapping[str, str], span: Span) -> Past:
    """Return the answers about a span, none where there is no telling."""
    try:
        return await source.past(asked, span)
    except MetricsUnavailable as error:
        logger.warning("the past is not known: %s", error)
    except Exception:
        logger.exception("the past can't be read")
    return {}


def _then(pool: PoolLoad, signals: Signals | None) -> PoolLoad:
    """Return a pool as its signals of the past have it: those that reported were ready."""
    ready = signals.pods_scraped if signals else 0
    room = max(0, pool.held + pool.room - ready)
    return replace(pool, ready=ready, starting=0, room=room, signals=signals)
