"""A made-up fleet under way: what changes between two decisions, and what these cost."""

import gc
import random
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conch.api.names import DEFAULT_GPU_RESOURCE
from conch.reconcile import garbage
from conch.reconcile.gather import FleetFacts
from e2e.bench.plan_fleet import Fleet, Served, Size, wish
from e2e.bench.plan_kube import Kube, PlayedClock
from e2e.bench.plan_load import Load
from e2e.bench.plan_tick import PARTS, Operator, Spans, Tick

Figures = dict[str, Any]

LOOK_S = 5.0
"""Seconds between two looks at metrics: the operator's default."""
WAKE_S = 0.1
"""Seconds after which an event wakes the operator that changes nothing."""
CHANGED = 0.01
"""Part of the services whose load changes between two ticks; a tenth as many are edited."""
WARM_UP, RESTS = 12, 5
"""Ticks before those that count: until all is right that the made-up start left to do."""
_RSS = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)


@dataclass
class Run:
    """The operator's decisions on one fleet."""

    size: Size
    seed: int = 1
    services: list[Served] = field(init=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._clock = PlayedClock()
        fleet = Fleet(self.size, self.seed)
        self._kube = Kube(fleet, self._clock)
        self.services = self._kube.furnish()
        self._asleep = sorted(fleet.asleep())
        self._load = Load(self._random)
        self._operator = Operator(self._kube.store, self._clock)
        there = self._operator.gather()
        self._load.add(self.services, there.services)
        self._look(there)

    def tick(self) -> Tick:
        """Decide, play what was decided, and let the fleet go on for a while."""
        found = self._operator.tick()
        self._kube.carry_out(found.outcomes)
        self._change()
        self._clock.now += LOOK_S
        self._kube.start()
        self._look(found.fleet)
        return found

    def rest(self) -> Tick:
        """Decide once more where nothing changed at all; what it decides is not played."""
        self._clock.now += WAKE_S
        return self._operator.tick()

    def _look(self, fleet: FleetFacts) -> None:
        """Take over what metrics say of replicas as they were."""
        self._operator.measured(self._load.scrape(fleet.services, self._clock.now))

    def _change(self) -> None:
        """Change loads and specs of a few services; one tenant wakes and another goes to sleep."""
        count = max(1, round(CHANGED * self.size.services))
        self._load.change(count)
        fixed = [s for s in self.services if not s.by_load and s.tenant not in self._asleep]
        for one in self._random.sample(fixed, min(len(fixed), max(1, count // 10))):
            replicas = max(1, one.replicas + self._random.choice((-1, 1)))
            self._kube.edit(one.key, {"replicas": replicas})
        wakes = self._asleep.pop(0)
        awake = sorted({s.tenant for s in self.services} - {*self._asleep, wakes})
        sleeps = self._random.choice(awake)
        self._asleep.append(sleeps)
        for one in self.services:
            if one.tenant in (wakes, sleeps):
                self._turn(one, asleep=one.tenant == sleeps)

    def _turn(self, one: Served, *, asleep: bool) -> None:
        """Let a service wish for nothing, or for replicas again."""
        scaled = one.by_load and not asleep
        number = wish(one.replicas, by_load=scaled, asleep=asleep)
        self._kube.edit(one.key, {"replicas": None, **number})


@dataclass(frozen=True)
class Step:
    """How far a measurement is."""

    what: str
    done: int
    of: int


def measured(size: Size, ticks: int) -> Iterator[Step | Figures]:
    """Measure a fleet; yield each step, then the figures."""
    yield Step("building", 0, 1)
    garbage.settle()
    run = Run(size)
    yield Step("first tick", 0, 1)
    first = run.tick().spans
    for n in range(WARM_UP):
        yield Step("warming up", n, WARM_UP)
        run.tick()
    taken, most = list[Spans](), 0.0
    for n in range(ticks):
        yield Step("ticks", n, ticks)
        taken.append(run.tick().spans)
        most = max(most, rss_mb())
    yield Step("at rest", 0, 1)
    collected = _collected()
    run.rest()
    rested = [run.rest() for _ in range(RESTS)]
    yield {
        "services": size.services,
        "nodes": size.nodes,
        "tenants": size.tenants,
        **contention(rested[-1]),
        **figures(taken),
        "first_tick_s": round(first.seconds, 3),
        "rest_tick_s": round(quantile([t.spans.seconds for t in rested], 0.5), 4),
        "rest_tick_cpu_s": round(quantile([t.spans.cpu_seconds for t in rested], 0.5), 4),
        "collect_s": round(collected, 3),
        "rss_mb": round(most, 1),
    }


def _collected() -> float:
    """Return the seconds that a look for garbage at everything takes: one between ticks, seldom."""
    began = time.perf_counter()
    gc.collect()
    return time.perf_counter() - began


def figures(taken: Sequence[Spans]) -> Figures:
    """Return quantiles of whole ticks, and the median of each part."""
    wall, cpu = [t.seconds for t in taken], [t.cpu_seconds for t in taken]
    return {
        "ticks": len(taken),
        "tick_p99_s": round(quantile(wall, 0.99), 4),
        "tick_p50_s": round(quantile(wall, 0.5), 4),
        "tick_cpu_p99_s": round(quantile(cpu, 0.99), 4),
        "tick_cpu_p50_s": round(quantile(cpu, 0.5), 4),
        "parts_s": {p: round(quantile([t.wall[p] for t in taken], 0.5), 4) for p in PARTS},
    }


def contention(tick: Tick) -> Figures:
    """Return how much is there, wished for and waited for."""
    gpus = sum(n.allocatable[DEFAULT_GPU_RESOURCE] for p in tick.fleet.pools for n in p.nodes)
    used = sum(n.requested.get(DEFAULT_GPU_RESOURCE, 0) for p in tick.fleet.pools for n in p.nodes)
    wished = sum(o.facts.gpus * o.scaling.wished for o in tick.outcomes if o.scaling)
    waiting = sum(s.waiting for s in tick.shares.standings.values())
    return {
        "gpus": round(gpus),
        "gpus_used": round(used / gpus, 3),
        "gpus_wished": round(wished / gpus, 3),
        "replicas": sum(len(o.facts.service.pods) for o in tick.outcomes),
        "replicas_waiting": waiting,
    }


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def rss_mb() -> float:
    """Return the resident memory of this process, in MB."""
    found = _RSS.search(Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0
