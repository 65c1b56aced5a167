"""A replica that is to take over is warm once it answers as fast as the one that leaves."""

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from conch.clients.triton import ReplicaRefuses, ReplicaUnreachable
from conch.clients.triton_fake import FakeReplicas
from conch.decisions.fleet import Pod
from conch.decisions.migrating import Warmth
from conch.reconcile import warming
from conch.reconcile.warming import Warmer
from tests.unit.decisions.stories import pod

if TYPE_CHECKING:
    from conch.reconcile.gather import ServiceFacts

NEW, OLD = "10.0.0.2", "10.0.0.1"


def at(name: str, address: str, **fields: Any) -> Pod:
    return pod(name, body={"status": {"podIP": address}}, **fields)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warming, "PAUSE_S", 0.001)


FACTS = cast(
    "ServiceFacts",
    SimpleNamespace(snapshots={"r1": SimpleNamespace(model="digits")}, resolved=None),
)


async def warmth(replicas: FakeReplicas, source: Pod | None = None) -> Warmth:
    woken = asyncio.Event()
    warmer = Warmer(replicas, woken.set)
    target = at("new", NEW)
    assert warmer.look(FACTS, target, source) is None
    await asyncio.wait_for(woken.wait(), 5)
    found = warmer.look(FACTS, target, source)
    assert found is not None
    return found


async def test_one_that_is_as_fast_is_warm() -> None:
    found = await warmth(FakeReplicas({NEW: 0.022, OLD: 0.015}), at("old", OLD))
    assert found == Warmth(
        passed=True, text="it answers in 22.0 ms, the one that leaves in 15.0 ms"
    )


async def test_one_that_stays_slower_is_not() -> None:
    replicas = FakeReplicas({NEW: 0.1, OLD: 0.01})
    found = await warmth(replicas, at("old", OLD))
    assert not found.passed
    assert "still too slow" in found.text
    assert replicas.asked.count(NEW) == warming.ROUNDS


async def test_one_that_answers_nothing_is_not() -> None:
    found = await warmth(FakeReplicas({NEW: ReplicaRefuses("no"), OLD: 0.01}), at("old", OLD))
    assert found == Warmth(passed=False, text="it answers no warm-up: no")


async def test_where_nobody_can_be_asked_it_says_so_and_goes_on() -> None:
    away = {a: ReplicaUnreachable(f"{a} does not answer") for a in (NEW, OLD)}
    found = await warmth(FakeReplicas(dict(away)), at("old", OLD))
    assert found.passed
    assert "not measured" in found.text


async def test_without_another_to_compare_it_is_to_answer() -> None:
    assert (await warmth(FakeReplicas({NEW: 0.5}))).passed
    assert not (await warmth(FakeReplicas())).passed


async def test_one_that_is_not_ready_is_not_asked() -> None:
    replicas = FakeReplicas({NEW: 0.1})
    assert Warmer(replicas, lambda: None).look(FACTS, at("new", NEW, ready=False), None) is None
    assert Warmer(replicas, lambda: None).look(FACTS, pod("new"), None) is None
    assert replicas.asked == []


async def test_who_is_gone_is_forgotten() -> None:
    replicas = FakeReplicas({NEW: 0.1})
    warmer = Warmer(replicas, lambda: None)
    warmer.look(FACTS, at("new", NEW), None)
    warmer.forget(set())
    await asyncio.sleep(0.01)
    assert warmer.look(FACTS, at("new", NEW), None) is None, "it is asked anew"
    warmer.forget(set())
