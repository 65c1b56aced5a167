"""What the replicas of the front door report together, and how they are listened to."""

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from conch.clients.front_door import Report
from conch.clients.front_door_fake import FakeAgents
from conch.decisions.canary import Tally
from conch.decisions.fleet import ServiceKey
from conch.reconcile import listening
from conch.reconcile.front_door import FRESH_S, REMEMBERED_S, Door, Heard, Reports, doors_of
from conch.reconcile.listening import Listener
from conch.reconcile.store import Store
from tests.unit.reconcile import bodies

DIGITS, FACES = ServiceKey("vision", "digits"), ServiceKey("vision", "faces")
EPOCH = 1_800_000_000.0


def door_pod(name: str = "door-1", *, ready: bool = True, **fields: Any) -> Any:
    """Return a pod of the front door as the API has it."""
    status = {
        "podIP": f"ip-{name}",
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        **fields.pop("status", {}),
    }
    made = bodies.pod(name, status=status)
    labels = {"conch.dev/front-door": "on", **fields.pop("labels", {})}
    made["metadata"] |= {"namespace": "conch-system", "labels": labels, **fields}
    return made


@dataclass
class World:
    """Reports at a clock that a test moves."""

    now: float = 1000.0
    woken: int = 0
    reports: Reports = field(init=False)

    def __post_init__(self) -> None:
        self.reports = Reports(self, self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return EPOCH + self.now

    def doors(self, *doors: Door) -> "World":
        self.reports.live({d.uid: d for d in doors})
        return self

    def take(self, uid: str = "a", **said: Any) -> "World":
        self.reports.take(uid, Report(1, **said))
        return self

    @property
    def heard(self) -> Heard:
        return self.reports.heard(self.wall(), self.now)


def door(uid: str = "a", *, ready: bool = True, leaving: bool = False) -> Door:
    return Door(uid, f"door-{uid}", f"ip-{uid}", ready, leaving)


def two() -> World:
    return World().doors(door("a"), door("b"))


def test_live_replicas_are_those_of_the_namespace_that_have_an_address() -> None:
    pods = [
        door_pod("one"),
        door_pod("two", ready=False),
        door_pod("leaves", deletionTimestamp=bodies.EPOCH),
        door_pod("elsewhere", namespace="vision"),
        door_pod("other", labels={"conch.dev/front-door": "off"}),
        door_pod("unborn", status={"podIP": None}),
        door_pod("over", status={"phase": "Failed"}),
    ]
    kept = Store()
    for pod in pods:
        kept.put("Pod", pod)
    found = doors_of(kept.doors(), "conch-system")
    assert {d.name: (d.address, d.ready, d.leaving) for d in found.values()} == {
        "one": ("ip-one", True, False),
        "two": ("ip-two", False, False),
        "leaves": ("ip-leaves", True, True),
    }
    kept.drop("Pod", pods[0])
    assert "one" not in {d.name for d in doors_of(kept.doors(), "conch-system").values()}


def test_asked_is_the_freshest_and_waiting_the_sum() -> None:
    world = two().take("a", asked={DIGITS: 9.0}, waiting={DIGITS: 2})
    world.take("b", asked={DIGITS: 3.0, FACES: 0.0}, waiting={DIGITS: 5})
    world.now += 1.0
    assert world.heard.asked(DIGITS) == pytest.approx(4.0)
    assert world.heard.asked(FACES) == pytest.approx(1.0)
    assert world.heard.asked(ServiceKey("vision", "other")) is None
    assert world.heard.waiting(DIGITS) == 7


def test_who_asked_is_known_though_the_replica_that_heard_it_is_gone() -> None:
    world = two().take("a", asked={DIGITS: 0.0}).doors(door("b"))
    world.now += 60.0
    assert world.heard.asked(DIGITS) == pytest.approx(60.0)
    world.now += REMEMBERED_S
    assert world.heard.asked(DIGITS) is None


def test_requests_in_flight_are_known_once_every_replica_has_told() -> None:
    world = two()
    since = world.wall()
    world.now += 1.0
    world.take("a", in_flight={"pod": 2})
    assert world.heard.in_flight("pod", since) is None
    world.take("b", in_flight={"pod": 1, "other": 4})
    assert world.heard.in_flight("pod", since) == 3
    assert world.heard.in_flight("other", since) is None
    assert world.heard.in_flight("pod", world.wall() + 0.1) is None, "told before it was to leave"
    world.now += 600.0
    assert world.heard.in_flight("pod", since) == 3, "silence makes no request end or begin"


def test_with_no_replica_there_is_nobody_who_could_tell() -> None:
    assert World().heard.in_flight("pod", 0.0) is None


def test_a_replica_that_just_starts_has_no_requests() -> None:
    world = World().doors(door("a"), door("b", ready=False)).take("a", in_flight={"pod": 0})
    assert world.heard.in_flight("pod", 0.0) == 0
    world.doors(door("a"), door("b", ready=False, leaving=True))
    assert world.heard.in_flight("pod", 0.0) is None
    world.doors(door("a"), door("b", ready=True))
    assert world.heard.in_flight("pod", 0.0) is None
    world.take("b").doors(door("a"), door("b", ready=False))
    assert world.heard.in_flight("pod", 0.0) is None, "it had callers before"


def test_it_is_deaf_while_a_replica_that_callers_reach_is_silent() -> None:
    world = two()
    world.now += 2.0
    assert world.heard.deaf == pytest.approx(2.0)
    world.take("a")
    assert world.heard.deaf == pytest.approx(2.0)
    world.take("b")
    assert world.heard.deaf is None
    world.now += FRESH_S + 1.0
    world.take("a")
    assert world.heard.deaf == pytest.approx(FRESH_S + 1.0)
    world.doors(door("a"), door("b", ready=False))
    assert world.heard.deaf is None, "nobody reaches b"
    world.doors(door("a", ready=False))
    assert world.heard.deaf == 0.0, "nobody reaches any"
    assert World().heard.deaf == 0.0


def test_what_waits_and_what_is_broken_is_told_by_fresh_reports_alone() -> None:
    world = two().take("a", waiting={DIGITS: 2}, broken={"pod": "silent"})
    assert world.heard.broken == {"pod": "silent"}
    world.now += 10.0
    assert world.heard.broken == {"pod": "silent"}
    world.now += 0.1
    assert world.heard.broken == {}
    assert world.heard.waiting(DIGITS) == 2
    world.now += FRESH_S
    assert world.heard.waiting(DIGITS) == 0


def test_only_news_wake_the_loop() -> None:
    world = two().take("a").take("b")
    before = world.woken
    world.take("a").doors(door("a"), door("b"))
    assert world.woken == before
    news: list[dict[str, Any]] = [
        {"asked": {DIGITS: 0.0}},
        {"waiting": {DIGITS: 3}},
        {"waiting": {DIGITS: 6}},
        {"waiting": {}},
        {"in_flight": {"pod": 1}},
        {"in_flight": {}},
        {"broken": {"pod": "silent"}},
    ]
    for said in news:
        world.take("a", **said)
        assert world.woken == before + 1, said
        before = world.woken
    none: list[dict[str, Any]] = [
        {"broken": {"pod": "silent for 9 s"}},
        {"broken": {"pod": "silent"}, "asked": {DIGITS: 0.5}},
    ]
    for said in none:
        world.take("a", **said)
        assert world.woken == before, said
    world.now += FRESH_S + 1.0
    world.take("a", broken={"pod": "silent"})
    assert world.woken == before + 1, "it is back"
    world.doors(door("a"))
    assert world.woken == before + 2, "b is gone"
    world.take("b", waiting={DIGITS: 5})
    assert world.woken == before + 2
    assert world.heard.waiting(DIGITS) == 0


async def _until(true: Any) -> None:
    async with asyncio.timeout(5.0):
        while not true():  # noqa: ASYNC110 -- whatever it waits for
            await asyncio.sleep(0.005)


async def test_one_that_hangs_or_lies_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {
        "LOOK_S": 0.01,
        "APART_S": 0.001,
        "RETRY_S": 0.01,
        "WAIT_S": 0.05,
    }.items():
        monkeypatch.setattr(listening, name, seconds)
    kept, world = Store(), World()
    for name in ("hangs", "lies", "fine"):
        kept.put("Pod", door_pod(name))
    fake = FakeAgents({"ip-fine": Report(1, asked={DIGITS: 0.0})}, hanging={"ip-hangs"})
    task = asyncio.create_task(Listener(fake, world.reports, kept, "conch-system").run())
    await _until(lambda: world.heard.asked(DIGITS) is not None)
    fake.reports["ip-fine"] = Report(2, waiting={DIGITS: 3})
    await _until(lambda: world.heard.waiting(DIGITS) == 3)
    await _until(lambda: fake.asked.count("ip-lies") > 2)
    assert fake.asked.count("ip-hangs") == 1
    fake.reports["ip-lies"] = Report(1, waiting={DIGITS: 1})
    await _until(lambda: world.heard.waiting(DIGITS) == 4)
    kept.drop("Pod", door_pod("fine"))
    await _until(lambda: world.heard.waiting(DIGITS) == 1)
    asked = fake.asked.count("ip-fine")
    await asyncio.sleep(0.1)
    assert fake.asked.count("ip-fine") == asked
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def tally(requests: int, failed: int = 0) -> dict[str, Tally]:
    return {"r2": replace(Tally(), requests=requests, failed=failed)}


def counted(world: World) -> tuple[int, int] | None:
    found = world.heard.canary(DIGITS)
    return None if found is None else (found["r2"].requests, found["r2"].failed)


def test_counts_of_canaries_are_those_of_all_replicas() -> None:
    world = two()
    assert counted(world) is None
    world.take("a", canaries={DIGITS: tally(10, 1)})
    assert counted(world) == (10, 1)
    world.take("b", canaries={DIGITS: {**tally(5), "r1": Tally(90)}, FACES: tally(3)})
    world.take("a", canaries={DIGITS: tally(12, 1)})
    assert counted(world) == (17, 1)
    assert (world.heard.canary(DIGITS) or {})["r1"].requests == 90
    assert (world.heard.canary(FACES) or {})["r2"].requests == 3


def test_an_agent_that_begins_anew_takes_nothing_away() -> None:
    world = two().take("a", canaries={DIGITS: tally(10, 1)})
    world.take("a", canaries={DIGITS: tally(0)})
    assert counted(world) == (10, 1)
    world.take("a", canaries={DIGITS: tally(4, 1)})
    assert counted(world) == (14, 2)
    world.take("b", canaries={DIGITS: tally(1)}).doors(door("b"))
    assert counted(world) == (15, 2), "what one that is gone has counted, it has"


def test_what_nobody_tells_of_a_canary_now_is_unknown() -> None:
    world = two().take("a", canaries={DIGITS: tally(10)}).take("b", canaries={DIGITS: tally(10)})
    world.now += FRESH_S + 1
    assert counted(world) is None
    world.take("b", canaries={DIGITS: tally(11)})
    assert counted(world) == (21, 0), "what the silent one has told is so"
    world.take("a").take("b")
    assert counted(world) is None
    world.take("a", canaries={DIGITS: tally(1)})
    assert counted(world) == (1, 0), "another canary"


def test_a_canarys_first_error_is_news_and_its_requests_are_none() -> None:
    world = two().take("a", canaries={DIGITS: tally(10)})
    woken = world.woken
    world.take("a", canaries={DIGITS: tally(1000)})
    assert world.woken == woken
    for failed, news in ((1, 1), (2, 2), (3, 2), (4, 3), (7, 3)):
        world.take("a", canaries={DIGITS: tally(1000, failed)})
        assert world.woken == woken + news


async def test_a_replica_that_moved_is_asked_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "RETRY_S", 0.01)
    kept, world = Store(), World()
    kept.put("Pod", door_pod("one"))
    fake = FakeAgents({"ip-new": Report(1, waiting={DIGITS: 1})})
    listener = Listener(fake, world.reports, kept, "conch-system")
    listener.look()
    await _until(lambda: "ip-one" in fake.asked)
    kept.put("Pod", door_pod("one", status={"podIP": "ip-new"}, resourceVersion="2"))
    listener.look()
    await _until(lambda: world.heard.waiting(DIGITS) == 1)
    assert len(listener._polls) == 1
    for _, poll in listener._polls.values():
        poll.cancel()
