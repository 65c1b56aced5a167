"""Canaries at the front door: a share of the requests, and nobody who suffers by it where that can be."""

import http.client
import json
import math
import queue
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Self

import grpc
import pytest

from conch.clients.front_door import report_of
from conch.decisions.canary import Kind, Tally, judge
from conch.decisions.fleet import ServiceKey
from conch.frontdoor.judge import FAILURES
from tests.control_plane.test_front_door import answers, key_of
from tests.control_plane.test_front_door_grpc import Caller, question
from tests.kit.control_plane import Cluster
from tests.kit.front_door import FrontDoor, Pod, fetch, front_door
from tests.kit.proxy import wait_for

NAME = "digits"
SIGMAS = 4.5
"""By how much a binomial count may be off: by chance it is in seven of a million tests."""


@pytest.fixture(scope="module")
def door(cluster: Cluster) -> Iterator[FrontDoor]:
    """A front door for all tests of this file."""
    with front_door(cluster) as found:
        yield found


@dataclass
class Place:
    """A service with pods of two revisions, r1 and r2, and a canary."""

    door: FrontDoor
    namespace: str
    stable: list[Pod]
    canary: list[Pod]

    @property
    def service(self) -> str:
        return f"{self.namespace}/{NAME}"

    @property
    def key(self) -> str:
        return key_of(self.namespace)

    def share(self, percent: float | None) -> None:
        """Give the canary a share, and wait until that holds."""
        self.door.canary(self.namespace, NAME, None if percent is None else f"r2={percent:g}")
        told = None if percent is None else f"{self.service} {round(percent * 100)}:r2:r1:"
        wait_for(lambda: self.mapped(told), f"{percent} %", timeout=20)

    def mapped(self, begin: str | None) -> bool:
        """Tell whether HAProxy's map has an entry of the service that begins so, or none."""
        stats, maps = self.door.directory / "stats.sock", self.door.directory / "maps"
        shown = ask_haproxy(str(stats), f"show map {maps}/canaries.map")
        mine = [line.partition(" ")[2] for line in shown.splitlines() if self.service in line]
        return not mine if begin is None else any(line.startswith(begin) for line in mine)

    def revision(self, address: str) -> str:
        return "r2" if address in {p.address for p in self.canary} else "r1"

    def tallies(self) -> dict[str, Tally]:
        """Return what the agent reports of this service, as the operator reads it."""
        report = report_of(self.door.report())
        return dict(report.canaries.get(ServiceKey(self.namespace, NAME), {}))

    def settled(self) -> dict[str, Tally]:
        """Return the tallies once they stand still; a canary that was taken out is not counted."""
        before: dict[str, Tally] = {}
        while before != (now := self.tallies()):
            before = now
            time.sleep(0.3)
        return before

    def counted(self, requests: int) -> dict[str, Tally]:
        """Return the tallies once so many requests are in them."""
        wait_for(
            lambda: sum(t.requests for t in self.tallies().values()) >= requests,
            "counts",
            timeout=10,
        )
        return self.tallies()


def ask_haproxy(path: str, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(path)
        asked.sendall(command.encode() + b"\n")
        asked.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: asked.recv(65536), b"")).decode()


@pytest.fixture
def made(door: FrontDoor, namespace: str) -> Iterator[Callable[..., Place]]:
    """What makes the service, without a share for the canary yet."""
    secret = door.key(namespace, key=key_of(namespace))

    def make(*, stable: int = 2, canary: int = 1, **endpoint: Any) -> Place:
        pods = door.service(namespace, NAME, pods=stable, **endpoint)
        others = [door.pod(namespace, NAME, revision="r2") for _ in range(canary)]
        answers(door, f"{namespace}/{NAME}", key_of(namespace))
        return Place(door, namespace, pods, others)

    yield make
    door.client.delete(secret)


@dataclass
class Load:
    """Callers over kept-alive connections, and what they were answered."""

    place: Place
    body: dict[str, Any] = field(default_factory=lambda: {"inputs": [{"name": "x"}]})
    told: list[tuple[int, str]] = field(default_factory=list)
    """Status, and address of who answered."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def ask(self, count: int) -> None:
        """Ask so many times over one connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.place.door.http, timeout=30)
        for _ in range(count):
            if self._stop.is_set():
                break
            connection.request(
                "POST",
                f"/{self.place.service}/v2/models/digits/infer",
                body=json.dumps(self.body),
                headers={"X-API-Key": self.place.key},
            )
            answer = connection.getresponse()
            text = answer.read()
            where = json.loads(text).get("from", "") if answer.status == 200 else ""
            self.told.append((answer.status, where))
        connection.close()

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self.ask, args=(10**6,)) for _ in range(3)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def bad(self) -> list[int]:
        return [status for status, _ in self.told if status != 200]

    def by_revision(self, since: int = 0) -> Counter[str]:
        return Counter(self.place.revision(where) for _, where in self.told[since:])


def within(hits: int, draws: int, share: float) -> bool:
    """Tell whether so many hits may be drawn with that probability."""
    return abs(hits - draws * share) <= SIGMAS * math.sqrt(draws * share * (1 - share)) + 1


def reloads(door: FrontDoor) -> str:
    """Return how many reloads there were, once none is under way."""
    told = [""]
    while len(set(told[-4:])) > 1 or len(told) < 4:
        found = re.search(r"^conch_front_door_reloads (.*)$", door.metrics(), re.MULTILINE)
        assert found
        told.append(found[1])
        time.sleep(0.5)
    return told[-1]


def test_each_request_is_drawn_on_its_own(made: Callable[..., Place]) -> None:
    place = made()
    place.share(20)
    load = Load(place)
    load.ask(1500)
    assert not load.bad
    got = load.by_revision()
    assert within(got["r2"], 1500, 0.2), got
    tallies = place.counted(1500)
    assert {r: t.requests for r, t in tallies.items()} == got
    assert all(t.errors == 0 and t.timed == t.requests for t in tallies.values())
    with Caller(place.door, place.service, place.key) as caller:
        told = Counter(place.revision(caller.infer()) for _ in range(800))
    assert within(told["r2"], 800, 0.2), told
    tallies = place.counted(2300)
    assert {r: t.requests for r, t in tallies.items()} == got + told


def test_other_shares_take_no_reload_and_no_request(made: Callable[..., Place]) -> None:
    place = made(canary=2)
    place.share(5)
    before = reloads(place.door)
    with Load(place) as load:
        for percent in (50, 0.01, 100, 25):
            place.share(percent)
            time.sleep(0.1)  # for those that were drawn before
            begun = len(load.told)
            wait_for(lambda begun=begun: len(load.told) >= begun + 400, "requests")  # type: ignore[misc]
            got = load.by_revision(begun)
            assert within(got["r2"], got.total(), percent / 100), (percent, got)
    assert not load.bad
    assert reloads(place.door) == before
    where = Counter(w for _, w in load.told if place.revision(w) == "r2")
    assert min(where[p.address] for p in place.canary) > where.total() / 4


def test_begin_and_end_under_load(made: Callable[..., Place], door: FrontDoor) -> None:
    place = made(canary=0)
    with Load(place) as load:
        for end in ("withdrawn", "promoted"):
            place.canary = [door.pod(place.namespace, NAME, revision="r2") for _ in range(2)]
            place.share(40)
            wait_for(lambda: load.by_revision()["r2"] > 20, "requests for the canary")
            if end == "withdrawn":
                place.share(None)
                for pod in place.canary:
                    door.delete(pod)
                time.sleep(0.5)
                for pod in place.canary:
                    pod.kill()
                load.told = [told for told in load.told if place.revision(told[1]) == "r1"]
            else:
                door.select(place.namespace, NAME, "r2")
                time.sleep(0.5)
                begun = len(load.told)
                wait_for(lambda: len(load.told) >= begun + 200, "requests")  # noqa: B023
                assert load.by_revision(begun)["r1"] == 0
    assert not load.bad
    assert not place.tallies()


def test_a_canary_that_fails_is_seen_by_nobody(made: Callable[..., Place]) -> None:
    place = made()
    place.share(30)
    place.canary[0].mode("fail")
    load = Load(place)
    load.ask(60)
    assert not load.bad
    assert {place.revision(where) for _, where in load.told} == {"r1"}
    tallies = place.settled()
    assert (tallies["r2"].failed, tallies["r2"].timed) == (0, 0)
    assert tallies["r2"].requests == tallies["r2"].retried >= 5
    assert tallies["r1"].errors == 0
    found = judge(tallies["r1"], tallies["r2"])
    assert found.kind is Kind.WORSE, found
    assert 'revision="r2"' in place.door.metrics()
    assert re.search(
        rf'canary_requests_total{{code="retried",revision="r2",service="{NAME}",service_namespace='
        rf'"{place.namespace}"}} {tallies["r2"].retried}[.]0',
        place.door.metrics(),
    )


def test_over_grpc_too(made: Callable[..., Place]) -> None:
    place = made()
    place.share(30)
    place.canary[0].mode("fail")
    with Caller(place.door, place.service, place.key) as caller:
        told = Counter(caller.infer() for _ in range(60))
    assert told.keys() <= {p.address for p in place.stable}, told
    tallies = place.settled()
    assert tallies["r2"].requests == tallies["r2"].retried > 0
    assert tallies["r1"].errors == 0


def test_what_is_not_safe_is_not_repeated(made: Callable[..., Place]) -> None:
    place = made()
    place.share(100)
    place.canary[0].mode("fail")
    safe = {"inputs": [{"name": "x"}]}
    for unsafe in ({"sequence_id": 7}, {"padding": "x" * 20_000}):
        load = Load(place, {**safe, "parameters": unsafe})
        load.ask(1)
        assert load.bad == [500]
    asked = question()
    asked.parameters["sequence_id"].int64_param = 7
    with Caller(place.door, place.service, place.key) as caller:
        with pytest.raises(grpc.RpcError) as refused:
            caller.stub.ModelInfer(asked, metadata=caller.metadata, timeout=20)
        assert refused.value.code() is grpc.StatusCode.INTERNAL
        assert refused.value.details() == "the model failed"
        assert isinstance(caller.infer(), str)
    tallies = place.counted(4)
    assert (tallies["r2"].failed, tallies["r2"].retried) == (3, 1)


def test_what_stable_answered_is_asked_once(made: Callable[..., Place]) -> None:
    place = made(stable=1)
    load, few = Load(place), FAILURES - 1
    for percent in (100, 0.01):
        for pod in (*place.stable, *place.canary):
            pod.mode("fail")
        place.share(percent)
        load.ask(few)
        failed = [failures(p) for p in (*place.stable, *place.canary)]
        assert failed == [few, few if percent == 100 else 0]
        load.ask(1)  # so that nobody failed too often in a row
    assert load.bad == [500] * 2 * few
    tallies = place.counted(2 * few + 2)
    assert (tallies["r1"].failed, tallies["r1"].retried) == (few, 0)
    assert (tallies["r2"].failed, tallies["r2"].retried) == (0, few)


def failures(pod: Pod) -> int:
    """Return how often a pod has failed since it was asked last; it fails no more."""
    url = f"http://{pod.address}:8000/mode/fine"
    found: int = fetch(url, method="POST", data=b"").json["failed"]
    return found


@pytest.mark.parametrize("way", ["cut", "killed", "deleted"])
def test_a_canary_that_vanishes_fails_nobody(
    made: Callable[..., Place], door: FrontDoor, way: str
) -> None:
    place = made(canary=2)
    place.share(50)
    with Load(place) as load:
        wait_for(lambda: load.by_revision()["r2"] > 20, "requests for the canary")
        for pod in place.canary:
            if way == "cut":
                pod.mode("cut")
            else:
                pod.kill()
            if way == "deleted":
                door.delete(pod)
        time.sleep(0.5)
        begun = len(load.told)
        wait_for(lambda: len(load.told) >= begun + 300, "requests")
        assert not load.by_revision(begun)["r2"]
    assert not load.bad
    if way != "deleted":
        assert place.tallies()["r2"].retried > 0
        assert place.tallies()["r2"].failed == 0


def test_who_is_ready_takes_all(made: Callable[..., Place], door: FrontDoor) -> None:
    place = made(canary=1)
    place.share(100)
    load = Load(place)
    door.set_ready(place.canary[0], ready=False)
    wait_for(lambda: place.mapped(None), "none is drawn")
    load.ask(20)
    assert load.by_revision() == {"r1": 20}
    door.set_ready(place.canary[0])
    place.share(10)
    for pod in place.stable:
        door.set_ready(pod, ready=False)
    alone = place.canary[0].address
    wait_for(lambda: door.infer(place.service, key=place.key).json["from"] == alone, "it takes all")
    load.ask(20)
    assert load.by_revision()["r2"] == 20
    assert not load.bad


def test_a_canary_is_drained_and_judged_as_others_are(
    made: Callable[..., Place], door: FrontDoor
) -> None:
    place = made(canary=2)
    place.share(100)
    one, other = place.canary
    slow = {"inputs": [{"name": "x"}], "parameters": {"sleep": 8}}
    with ThreadPoolExecutor(8) as pool:
        loads = [Load(place, slow) for _ in range(8)]
        asked = [pool.submit(load.ask, 1) for load in loads]
        time.sleep(1)
        door.drain(one)
        wait_for(
            lambda: door.report()["in_flight"].get(one.uid, 0) > 0, "what is under way is told"
        )
        fast = Load(place)
        fast.ask(20)
        assert {where for _, where in fast.told} == {other.address}
        for future in asked:
            future.result()
    assert not any(load.bad for load in loads)
    wait_for(lambda: door.report()["in_flight"].get(one.uid) == 0, "it may go")
    other.mode("fail")

    def broken() -> bool:
        fast.ask(8)
        return other.uid in door.report()["broken"]

    wait_for(broken, "it is told of", timeout=30)
    assert not fast.bad


@pytest.mark.parametrize("share", [100, None])
def test_a_stream_is_no_body_to_wait_for(
    made: Callable[..., Place], door: FrontDoor, share: float | None
) -> None:
    place = made(replay=True)
    if share:
        place.share(share)
    questions: queue.Queue[Any] = queue.Queue()
    with Caller(door, place.service, place.key) as caller:
        stream = caller.stub.ModelStreamInfer(
            iter(questions.get, None), metadata=caller.metadata, timeout=60
        )
        for _ in range(3):
            time.sleep(0.5)
            questions.put(question())
            found = next(stream).infer_response.parameters["from"].string_param
            assert place.revision(found) == ("r2" if share else "r1")
        questions.put(None)
        assert list(stream) == []
    if share:
        tally = place.counted(1)["r2"]
        assert (tally.requests, tally.errors, tally.timed) == (1, 0, 0)


def test_a_slow_canary_shows(made: Callable[..., Place]) -> None:
    place = made()
    place.share(50)
    place.canary[0].mode("slow")
    load = Load(place)
    load.ask(40)
    tallies = place.counted(40)
    found = judge(tallies["r1"], tallies["r2"])
    assert found.kind is Kind.WORSE, found
    assert "longer than" in found.text


def test_limits_and_reloads_are_as_ever(made: Callable[..., Place], door: FrontDoor) -> None:
    place = made(limits={"concurrentRequests": 2})
    place.share(50)
    with ThreadPoolExecutor(6) as pool:
        ask = (pool.submit(door.infer, place.service, key=place.key, sleep=1) for _ in range(6))
        told = sorted(f.result().status for f in list(ask))
    assert told == [200, 200, 429, 429, 429, 429]
    before = reloads(door)
    load = Load(place)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(load.ask, 3000)
        for number in range(3):
            door.service(place.namespace, f"more-{number}")
            answers(door, f"{place.namespace}/more-{number}", place.key)
        asking.result()
    assert not load.bad
    assert load.by_revision()["r2"] > 1000
    assert reloads(door) != before


def test_with_nobody_there_requests_wait(made: Callable[..., Place], door: FrontDoor) -> None:
    place = made(stable=1)
    place.share(50)
    [one], [two] = place.stable, place.canary
    for pod in (one, two):
        pod.kill()
    with ThreadPoolExecutor(6) as pool:
        held = [pool.submit(door.infer, place.service, key=place.key) for _ in range(6)]
        wait_for(lambda: door.report()["waiting"].get(place.service) == 6, "they wait", timeout=5)
        one.process = door.answering(one.address, place.service)
        assert [f.result().status for f in held] == [200] * 6


@pytest.mark.parametrize("said", ["r2", "r2=", "r2=0", "r2=101", "r2=5%", "r3=5", "=5", "r2=nan"])
def test_what_names_no_canary_is_none(
    made: Callable[..., Place], door: FrontDoor, said: str
) -> None:
    place = made()
    place.share(50)
    door.canary(place.namespace, NAME, said)
    wait_for(lambda: place.mapped(None), "there is none")
    log = (door.directory / "agent.log").read_text()
    assert log.count(f"{place.service}: the canary {said!r} ") == 1
    door.set_ready(place.stable[0])
    assert not place.tallies()
