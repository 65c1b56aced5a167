"""What Prometheus knows of the last minutes, for an operator that begins anew."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from conch.api.signals import Key, Signals
from conch.clients.clock import Clock
from conch.clients.prometheus import MetricsSource, MetricsUnavailable, Span
from conch.decisions.fleet import ServiceKey
from conch.decisions.scaling import PoolLoad, ScalingState, ServiceLoad
from conch.decisions.scaling.recover import recovered
from conch.metrics.queries import queries
from conch.metrics.signals import Entries, parse
from conch.reconcile.gather import ServiceFacts
from conch.reconcile.scaling import signals_key

logger = logging.getLogger(__name__)

BACK_S = 600.0
"""Twice the default of scaleDownWindow."""
STEP_S = 15.0
"""Less than what counts as blind, by default."""
LASTS_S = 60.0
"""So long is what was asked good for: every service is decided on within."""


@dataclass
class Recall:
    """The signals of the last minutes, until each service has got its own."""

    clock: Clock
    _moments: tuple[tuple[float, Mapping[Key, Signals]], ...] = ()
    """On the clock that decisions use, oldest first."""
    _asked: float = 0.0
    _had: set[ServiceKey] = field(default_factory=set)

    async def ask(self, source: MetricsSource, entries: Entries) -> None:
        """Ask once; where there is no answer, everything begins without a past."""
        wall, moment = self.clock.wall(), self.clock.monotonic()
        try:
            past = await source.past(queries(), Span(wall - BACK_S, wall, STEP_S))
            found = tuple((moment - (wall - at), parse(told, entries)) for at, told in past.items())
        except MetricsUnavailable as error:
            logger.warning("the last minutes are not known: %s", error)
        except Exception:
            logger.exception("the last minutes can't be read")
        else:
            self._moments, self._asked = found, self.clock.monotonic()

    def state(self, facts: ServiceFacts, load: ServiceLoad, state: ScalingState) -> ScalingState:
        """Return the state of a service with its past, the first time after that is known."""
        if not self._moments:
            return state
        if self.clock.monotonic() - self._asked > LASTS_S:
            self._moments, self._had = (), set()
            return state
        if facts.key in self._had:
            return state
        self._had.add(facts.key)
        return recovered(self._past(facts, load), state)

    def _past(self, facts: ServiceFacts, load: ServiceLoad) -> Iterator[tuple[float, ServiceLoad]]:
        for time, signals in self._moments:
            pools = tuple([_then(p, signals.get(signals_key(facts, p.pool))) for p in load.pools])
            yield time, replace(load, pools=pools)


def _then(pool: PoolLoad, signals: Signals | None) -> PoolLoad:
    """Return a pool as its signals of the past have it: those that reported were ready."""
    ready = signals.pods_scraped if signals else 0
    room = max(0, pool.held + pool.room - ready)
    return replace(pool, ready=ready, starting=0, room=room, signals=signals)
