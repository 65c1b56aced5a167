"""When Prometheus is asked: soon after a scrape, and not more often than it can bear."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from conch.api.signals import Arrivals
from conch.clients.prometheus import MetricsUnavailable, Past, Span
from conch.metrics.queries import queries
from conch.metrics.series import Series
from conch.reconcile import feed
from conch.reconcile.feed import keep_measuring, keep_measuring_replicas


@dataclass
class Time:
    """A clock that moves where somebody sleeps, and ends the test in the end."""

    now: float = 0.0
    end: float = 60.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.now > self.end:
            raise asyncio.CancelledError


@dataclass
class Scraped:
    """A Prometheus that scrapes every so many seconds and needs some for each round of queries."""

    time: Time
    interval: float
    takes: float = 0.0
    down: bool = False
    rounds: list[float] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)

    async def query(self, asked: Mapping[str, str], at: float) -> Mapping[str, list[Series]]:
        whole = len(asked) >= len(queries())
        (self.rounds if whole else self.looks).append(at)
        self.time.now += self.takes * len(asked) / len(queries())
        if self.down:
            raise MetricsUnavailable("gone")
        last = at - at % self.interval
        door = {"arrivals": 20.0, "arrivals_scraped": last, "arrivals_doors": 2.0}
        told = {"scraped": last, **(door if "arrivals" in asked else {})}
        labels = {"service_namespace": "vision", "service": "digits"}
        return {name: [Series(labels, told[name], at)] if name in told else [] for name in asked}

    async def past(self, asked: Mapping[str, str], span: Span) -> Past:
        raise MetricsUnavailable("it remembers nothing")


@dataclass
class Listener:
    """Stands for the reconciler; ``faults`` has what it was told."""

    store: Mapping[str, Sequence[object]] = field(default_factory=dict)
    faults: list[str | None] = field(default_factory=list)
    arrivals: list[object] = field(default_factory=list)

    def measured(
        self, signals: object, *, fault: str | None, arrivals: object | None = None
    ) -> None:
        self.faults.append(fault)
        self.arrivals.append(arrivals)


@dataclass
class Late:
    """Stands for a reconciler where somebody is late between two moments."""

    time: Time
    begin: float
    end: float
    store: Mapping[str, Sequence[object]] = field(default_factory=dict)
    told: list[Mapping[object, object]] = field(default_factory=list)

    @property
    def somebody_late(self) -> bool:
        return self.begin <= self.time.now <= self.end

    def replicas_measured(self, found: Mapping[object, object]) -> None:
        self.told.append(found)


@pytest.mark.parametrize("down", [False, True])
async def test_single_replicas_are_asked_for_seldom_and_only_while_somebody_is_late(
    monkeypatch: pytest.MonkeyPatch, *, down: bool
) -> None:
    source = Scraped(Time(end=600.0), interval=5.0, down=down)
    late: Any = Late(source.time, 100.0, 250.0)
    monkeypatch.setattr(asyncio, "sleep", source.time.sleep)
    monkeypatch.setattr(feed, "_entries", lambda _: {})
    with pytest.raises(asyncio.CancelledError):
        await keep_measuring_replicas(source, late, source.time)
    assert not source.rounds, "a few queries, not all of a tick's"
    assert source.looks == [120, 150, 180, 210, 240]
    assert late.told == ([] if down else [{}] * 5)


async def measured(
    monkeypatch: pytest.MonkeyPatch, source: Scraped, *, every: float = 5.0, door: bool = False
) -> Listener:
    heard = Listener()
    listener: Any = heard
    monkeypatch.setattr(asyncio, "sleep", source.time.sleep)
    monkeypatch.setattr(feed, "_entries", lambda _: {})
    with pytest.raises(asyncio.CancelledError):
        await keep_measuring(source, listener, source.time, every=every, door=door)
    return heard


async def test_a_scrape_is_read_within_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Scraped(Time(now=2.3), interval=5.0)
    await measured(monkeypatch, source)
    after = [at % 5.0 for at in source.rounds[1:]]
    assert max(after) < 1.0
    assert len(source.rounds) == 12


@pytest.mark.parametrize("door", [True, False])
async def test_the_front_door_is_asked_for_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, door: bool
) -> None:
    source = Scraped(Time(), interval=5.0)
    listener = await measured(monkeypatch, source, door=door)
    assert set(listener.faults) == {None}
    found = {("vision", "digits"): Arrivals(20.0, 0.0, doors=2, age=0.0)} if door else {}
    assert listener.arrivals[0] == found


async def test_between_scrapes_only_one_query_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Scraped(Time(), interval=30.0)
    await measured(monkeypatch, source)
    assert source.rounds == [0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60]
    assert len(source.looks) == pytest.approx(48, abs=1)


async def test_rounds_that_take_long_leave_prometheus_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Scraped(Time(), interval=0.1, takes=0.3)
    await measured(monkeypatch, source)
    gaps = [b - a for a, b in zip(source.rounds, source.rounds[1:], strict=False)]
    assert min(gaps) >= 3.0
    assert max(gaps) <= 5.4


async def test_a_short_pace_is_kept_without_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Scraped(Time(end=10.0), interval=5.0)
    await measured(monkeypatch, source, every=0.5)
    assert len(source.rounds) == 21
    assert not source.looks


async def test_without_an_answer_the_pace_is_the_regular_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = Scraped(Time(), interval=5.0, down=True)
    listener = await measured(monkeypatch, source)
    assert set(listener.faults) == {"gone"}
    assert len(source.rounds) == 13
