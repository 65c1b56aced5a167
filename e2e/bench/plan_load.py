"""The load of a made-up fleet: what metrics would say of its replicas."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from conch.api.signals import Key, Signals
from conch.decisions.fleet import ServiceKey
from conch.reconcile.gather import ServiceFacts
from e2e.bench.plan_fleet import FIXED_MS, KINDS, MOST_ITEMS, PER_ITEM_MS, Served

PER_REPLICA = 340.0
"""Items a second for which a service wishes for one replica more, at speed 1."""
PART = 0.2
"""Of the services, that metrics bring new scrapes of at each look."""
NOISE = 0.03
"""Relative standard deviation of what two scrapes say of the same load."""
_SPEEDS = {k.pool: k.speed for k in KINDS}


@dataclass
class Load:
    """Items a second by service, and what was last scraped of each."""

    chance: random.Random
    rates: dict[ServiceKey, float] = field(default_factory=dict)
    _scraped: dict[ServiceKey, tuple[float, Mapping[Key, Signals]]] = field(default_factory=dict)

    def add(self, services: Iterable[Served], fleet: Iterable[ServiceFacts]) -> None:
        """Give each service that scales by load as much as its replicas answer, where they are."""
        held = {facts.key: [p.pool for p in facts.service.pods] for facts in fleet}
        for one in services:
            if one.by_load:
                speeds = [_SPEEDS[pool] for pool in held[one.key]] or [min(_SPEEDS.values())]
                self.rates[one.key] = one.replicas * PER_REPLICA * sum(speeds) / len(speeds)

    def change(self, count: int) -> None:
        """Let the load of a few services grow or fall by up to a half."""
        for key in self.chance.sample(sorted(self.rates), min(count, len(self.rates))):
            self.rates[key] *= self.chance.uniform(0.6, 1.6)

    def scrape(self, services: Iterable[ServiceFacts], now: float) -> dict[Key, Signals]:
        """Return what metrics say at ``now`` (seconds): new of some services, old of the others."""
        found: dict[Key, Signals] = {}
        for facts in services:
            known = self._scraped.get(facts.key)
            if known is None or self.chance.random() < PART:
                known = self._scraped[facts.key] = (now, self._signals(facts))
            age = now - known[0]
            found |= {k: replace(s, age=age, age_oldest=age) for k, s in known[1].items()}
        return found

    def _signals(self, facts: ServiceFacts) -> dict[Key, Signals]:
        ready = Counter(p.pool for p in facts.service.pods if p.ready and p.serving)
        speed = sum(_SPEEDS[pool] * count for pool, count in ready.items())
        load = self.rates.get(facts.key, 0.0) * max(0.0, self.chance.gauss(1.0, NOISE))
        return {
            facts.signal_keys[pool]: signals(load * _SPEEDS[pool] / speed, _SPEEDS[pool], count)
            for pool, count in ready.items()
        }


def signals(load: float, speed: float, pods: int) -> Signals:
    """Return what ``pods`` replicas of a pool say that get ``load`` items a second each."""
    fixed, item = FIXED_MS / 1e3 / speed, PER_ITEM_MS / 1e3 / speed
    # As many items wait for a run as come during one; alone where the next one is free.
    alone, rest = load * (fixed + item) <= 1, max(1e-3, 1 - load * item)
    batch = 1.0 if alone else min(float(MOST_ITEMS), max(1.0, load * fixed / rest))
    took = fixed + item * batch
    runs = min(load / batch, 1 / took)
    return Signals(
        inferences=load * pods,
        requests=load * pods,
        executions=runs * pods,
        mean_batch=batch if load else 0.0,
        mean_execution=took if load else 0.0,
        queue_seconds=took / 2,
        pods_scraped=pods,
    )
