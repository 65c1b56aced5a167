"""Services are carried out side by side, each by one task at a time."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from conch.clients.clock import SystemClock
from conch.clients.cluster import ClusterError
from conch.clients.fence import NotLeaderError
from conch.decisions.fleet import ServiceKey
from conch.reconcile.carrier import Carrier
from conch.reconcile.status import Outcome
from tests.unit.reconcile import bodies
from tests.unit.reconcile.test_status import facts, outcome

CONCURRENCY = 2


def named(name: str, **fields: Any) -> Outcome:
    """Return the outcome of a service of this name."""
    found = outcome(facts(bodies.pod("p1")), **fields)
    service = replace(found.facts.service, key=ServiceKey("vision", name))
    return replace(found, facts=replace(found.facts, service=service))


class Hands:
    """Stands for executor and teller: services in ``slow`` take until they are let go."""

    def __init__(self) -> None:
        self.slow: dict[str, asyncio.Event] = {}
        self.refused: dict[str, Exception] = {}
        self.begun: list[str] = []
        self.told_of: list[str] = []
        self.at_rest: set[str] = set()
        self.plans: dict[str, Any] = {}

    def settled(self, found: Any, _plan: Any) -> bool:
        return found.key.name in self.at_rest

    async def execute(self, found: Any, plan: Any, _now: float) -> bool:
        name = found.key.name
        self.begun.append(name)
        self.plans[name] = plan
        if name in self.slow:
            await self.slow[name].wait()
        if name in self.refused:
            raise self.refused[name]
        return True

    def told(self, of: Outcome, _now: float) -> Any:
        return "figures" if of.facts.key.name in self.at_rest else None

    async def tell(self, of: Outcome, _now: float, *, more_coming: bool = False) -> Any:
        self.told_of.append(of.facts.key.name)
        return f"figures of {of.facts.key.name}"

    def forget(self, kept: Any) -> None:
        """Remember nothing anyway."""


def carrier() -> tuple[Carrier, Hands, list[None]]:
    hands: Any = Hands()
    woken: list[None] = []
    made = Carrier(
        hands, hands, SystemClock(), concurrency=CONCURRENCY, wake=lambda: woken.append(None)
    )
    return made, hands, woken


def take(made: Carrier, outcome_: Outcome, now: float) -> bool:
    """Give it an outcome as a tick does that decides on one service."""
    busy = made.carry(outcome_, now)
    made.begin()
    return busy


async def settle() -> None:
    """Let tasks go as far as they can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_slow_service_holds_up_no_other() -> None:
    made, hands, woken = carrier()
    hands.slow["slow"] = asyncio.Event()
    for name in ("slow", "a", "b", "c"):
        take(made, named(name), 0.0)
    await settle()
    assert hands.told_of == ["a", "b", "c"]
    assert made.under_way(ServiceKey("vision", "slow")) is not None
    assert made.under_way(ServiceKey("vision", "a")) is None
    assert len(woken) == 3
    hands.slow["slow"].set()
    await made.idle()
    assert hands.told_of[-1] == "slow"


async def test_a_service_is_carried_out_by_one_task_at_a_time() -> None:
    made, hands, _ = carrier()
    hands.slow["slow"] = asyncio.Event()
    for _ in range(3):
        take(made, named("slow"), 0.0)
        await settle()
    assert hands.begun == ["slow"]
    hands.slow["slow"].set()
    await made.idle()


async def test_as_many_services_are_carried_out_at_once_as_there_are_writers() -> None:
    made, hands, _ = carrier()
    names = [f"s{i:03d}" for i in range(50)]
    hands.slow = {name: asyncio.Event() for name in names}
    for name in names:
        take(made, named(name), 0.0)
    await settle()
    assert hands.begun == names[:CONCURRENCY]
    assert [n for n in names if made.under_way(ServiceKey("vision", n))] == names[:CONCURRENCY]
    # A free writer takes the next at once, without another decision.
    for name in names:
        hands.slow[name].set()
    await made.idle()
    assert hands.begun == names


async def test_of_what_waits_the_newest_decision_is_carried_out_in_the_newest_order() -> None:
    made, hands, _ = carrier()
    for name in ("a", "b"):
        hands.slow[name] = asyncio.Event()
    older, newer = named("c", wanted=1), named("c", wanted=2)
    for tick in ([named("a"), named("b"), named("d"), older], [newer, named("d")]):
        for outcome_ in tick:
            assert made.carry(outcome_, 0.0)
        made.begin()
    hands.slow["a"].set()
    hands.slow["b"].set()
    await made.idle()
    assert hands.begun == ["a", "b", "c", "d"]
    assert hands.plans["c"] is newer.plan


async def test_what_waits_is_dropped_once_its_service_is_gone_or_needs_nothing() -> None:
    made, hands, _ = carrier()
    for name in ("a", "b"):
        hands.slow[name] = asyncio.Event()
    for name in ("a", "b", "gone", "quiet", "c"):
        take(made, named(name), 0.0)
    hands.at_rest.add("quiet")
    assert not take(made, named("quiet"), 1.0)
    made.forget([ServiceKey("vision", n) for n in ("a", "b", "c", "quiet")])
    hands.slow["a"].set()
    hands.slow["b"].set()
    await made.idle()
    assert hands.begun == ["a", "b", "c"]


async def test_a_refusal_of_what_is_no_longer_to_be_written_is_no_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("conch.reconcile.carrier.FIRST_RETRY_S", 0.0)
    made, hands, woken = carrier()
    hands.refused["s"] = ClusterError("it changed meanwhile", 409)
    for _ in range(3):
        take(made, named("s"), 0.0)
        await settle()
    assert made.trouble(named("s").facts) == "it changed meanwhile"
    hands.at_rest.add("s")
    ticks = len(woken)
    assert take(made, named("s", error="it changed meanwhile"), 0.0), "another tick is to say so"
    assert len(woken) == ticks + 1
    assert made.trouble(named("s").facts) is None
    assert made.seconds_to_retry() is None
    assert not take(made, named("s"), 0.0)


async def test_what_is_at_rest_costs_no_task() -> None:
    made, hands, _ = carrier()
    hands.at_rest.add("quiet")
    take(made, named("quiet"), 0.0)
    assert made.under_way(ServiceKey("vision", "quiet")) is None
    assert [str(f) for f in made.figures()] == ["figures"]


async def test_a_refusal_is_kept_to_its_service_and_tried_again_later() -> None:
    made, hands, _ = carrier()
    hands.refused["bad"] = ClusterError("no such thing", 422)
    for name in ("bad", "good"):
        take(made, named(name), 0.0)
    await made.idle()
    assert made.trouble(named("bad").facts) == "no such thing"
    assert made.trouble(named("good").facts) is None
    assert made.seconds_to_retry() is not None
    take(made, named("bad"), 0.0)
    await made.idle()
    assert hands.begun.count("bad") == 1
    assert hands.told_of == ["good", "bad"]


async def test_another_wish_is_tried_at_once() -> None:
    made, hands, _ = carrier()
    hands.refused["bad"] = ClusterError("no such thing", 422)
    for _ in range(3):
        take(made, named("bad"), 0.0)
        await made.idle()
    assert hands.begun == ["bad"]
    mended = named("bad")
    body = mended.facts.body
    body = {**body, "metadata": {**body["metadata"], "generation": 7}}
    mended = replace(mended, facts=replace(mended.facts, body=body))
    assert made.trouble(mended.facts) is None
    del hands.refused["bad"]
    take(made, mended, 0.0)
    await made.idle()
    assert hands.begun == ["bad", "bad"]
    assert made.seconds_to_retry() is None


async def test_nothing_of_a_paused_service_is_due() -> None:
    made, hands, _ = carrier()
    hands.refused["bad"] = ClusterError("no such thing", 422)
    take(made, named("bad"), 0.0)
    await made.idle()
    assert made.seconds_to_retry() is not None
    take(made, named("bad", paused=True), 0.0)
    await made.idle()
    assert made.seconds_to_retry() is None


async def test_a_paused_service_is_told_of_and_not_touched() -> None:
    made, hands, _ = carrier()
    take(made, named("still", paused=True), 0.0)
    await made.idle()
    assert hands.begun == []
    assert hands.told_of == ["still"]


async def test_the_loss_of_the_lease_ends_the_loop() -> None:
    made, hands, woken = carrier()
    hands.refused["any"] = NotLeaderError("the lease is not held")
    take(made, named("any"), 0.0)
    await settle()
    assert woken
    with pytest.raises(NotLeaderError):
        made.check()
