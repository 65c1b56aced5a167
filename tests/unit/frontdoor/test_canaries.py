"""Who is a canary, what is drawn for it, and what is counted of it."""

import logging
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from conch.decisions.canary import BOUNDS, Tally
from conch.frontdoor.canaries import Canaries, bucket, entries, retried
from conch.frontdoor.knowledge import Knowledge, kept
from conch.frontdoor.routes import Canary, Route, canary_of
from conch.frontdoor.slots import Slots, State, assigned
from conch.frontdoor.traffic import Request, request_of
from tests.unit.frontdoor.routes import KEY, pod, route

TOLD = "500:r2:r1:s3/64,s5/16"


def canary_pod(name: str, **more: Any) -> dict[str, Any]:
    return pod(name, labels={"conch.dev/revision": "r2", **more.pop("labels", {})}, **more)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a1b2c3=5", ("a1b2c3", 500)),
        (" r2=0.01 ", ("r2", 1)),
        ("r.2-x_=100.00", ("r.2-x_", 10_000)),
        ("r2=33.33", ("r2", 3333)),
        *((t, None) for t in ("", "r2", "=5", "r2=", "r2=0", "r2=0.00", "r2=100.01", "r2=0.001")),
        *((t, None) for t in ("r2=-1", "r2=5%", "r2=1e1", "r2=nan", "a b=5", "a:b=5", "r2=5,r3=5")),
    ],
)
def test_what_an_annotation_says(text: str, found: tuple[str, int] | None) -> None:
    assert canary_of(text) == found


def test_only_its_ready_pods_with_the_traffic_label_take_any() -> None:
    made = route(
        pod("a"),
        canary_pod("b"),
        canary_pod("cc", ready=False),
        canary_pod("ddd", labels={"conch.dev/serving": None}),
        pod("eeee", labels={"conch.dev/revision": "r3"}),
        canary=("r2", 500),
    )
    assert made.canary == Canary("r2", "r1", 500)
    assert {r.name: (r.takes, r.canary) for r in made.replicas} == {
        "a": (True, False),
        "b": (True, True),
        "cc": (False, True),
        "ddd": (False, True),
        "eeee": (False, False),
    }


@pytest.mark.parametrize(("revision", "canary"), [("r1", "r3"), ("r2", "r2"), (None, "r2")])
def test_a_canary_without_pods_or_with_all_traffic_is_none(
    revision: str | None, canary: str
) -> None:
    made = route(pod("a"), canary_pod("b"), revision=revision, canary=(canary, 500))
    assert made.canary is None
    assert not any(r.canary for r in made.replicas)


def test_callers_go_by_the_model_of_stable() -> None:
    other = canary_pod("b", args=["--load-model=other"])
    assert route(other, pod("c"), canary=("r2", 500)).model == "digits"


def weights(made: Route, broken: set[str] = frozenset()) -> list[int]:  # type: ignore[assignment]
    return [s.weight for s in assigned((), made.replicas, broken) if s.state is State.READY]


def test_a_canary_weighs_nothing_beside_others_and_takes_all_alone() -> None:
    both = route(pod("a"), canary_pod("b"), canary=("r2", 500))
    assert weights(both) == [64, 0]
    assert weights(both, {"uid-a"}) == [64]
    assert weights(route(pod("a", ready=False), canary_pod("b"), canary=("r2", 500))) == [64]


def test_its_places_stand_in_the_map_while_they_take_requests() -> None:
    made = route(pod("a"), canary_pod("b"), canary_pod("cc"), canary=("r2", 1234))
    slots: Slots = assigned((), made.replicas)
    assert entries(made, slots) == {"canaries": {"vision/digits": "1234:r2:r1:s2/64,s3/64"}}
    fewer = route(pod("a"), canary_pod("b"), canary_pod("cc", ready=False), canary=("r2", 5))
    drained = assigned(slots, fewer.replicas)
    assert entries(fewer, drained) == {"canaries": {"vision/digits": "5:r2:r1:s2/64"}}
    assert entries(fewer, slots[:1]) == {}, "not placed yet"
    assert entries(route(pod("a"), canary_pod("b")), slots) == {}
    assert entries(None, slots) == {}


def service(canary: str | None) -> dict[str, Any]:
    notes = {} if canary is None else {"conch.dev/canary": canary}
    selector = {"conch.dev/service": "digits", "conch.dev/revision": "r1"}
    meta = {"name": "digits", "namespace": "vision", "annotations": {**notes, "other": "x"}}
    return {"kind": "Service", "metadata": meta, "spec": {"selector": selector}}


@pytest.fixture
def knowledge() -> Knowledge:
    found = Knowledge(None)
    meta = {"name": "digits", "namespace": "vision"}
    found.changed(
        "ModelService", None, {"kind": "ModelService", "metadata": meta, "spec": {"endpoint": {}}}
    )
    for body in (pod("a"), canary_pod("b")):
        found.changed("Pod", None, kept(body))
    return found


def test_the_service_object_names_it(knowledge: Knowledge) -> None:
    def said(canary: str | None) -> Canary | None:
        knowledge.changed("Service", None, kept(service(canary)))
        found = knowledge.route(KEY)
        assert found is not None
        return found.canary

    assert said("r2=12.5") == Canary("r2", "r1", 1250)
    assert said(None) is None
    assert said("r2=12.5") is not None
    knowledge.changed("Service", kept(service("r2=12.5")), None)
    assert said(None) is None


@pytest.mark.parametrize("wrong", ["r2", "r3=5"])
def test_what_is_none_is_logged_once(
    knowledge: Knowledge, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    caplog.set_level(logging.WARNING)
    for _ in range(3):
        knowledge.changed("Service", None, kept(service(wrong)))
        knowledge.route(KEY)
    assert len(caplog.records) == 1
    assert repr(wrong) in caplog.text
    caplog.clear()
    for said in (None, "r2=5", wrong):
        knowledge.changed("Service", None, kept(service(said)))
        knowledge.route(KEY)
    assert len(caplog.records) == 1, "anew"


def request(
    *,
    status: int = 200,
    grpc: str = "-",
    ended: str = "--",
    server: str = "canary",
    end: str = "s3 s3 4000",
) -> Request:
    """Return a request that was drawn; with ``end``, what the line says of place, answer and time."""
    line = (
        f"R vision/digits acme {status} {grpc} http drawn-http {server} {ended} 0 9000 {TOLD} {end}"
    )
    found = request_of(line)
    assert found is not None
    return found


def test_a_line_tells_what_was_drawn() -> None:
    drawn = request().drawn
    assert drawn is not None
    assert (drawn.canary, drawn.stable, drawn.places) == ("r2", "r1", frozenset({"s3", "s5"}))
    assert (drawn.place, drawn.answered, drawn.seconds) == ("s3", "s3", 0.004)
    other = request(end="- - -").drawn
    assert other is not None
    assert (other.place, other.answered, other.seconds) == (None, None, None)


def counted(*requests: Request) -> dict[str, Tally]:
    canaries = Canaries()
    canaries.keep(KEY, route(pod("a"), canary_pod("b"), canary=("r2", 500)))
    for one in requests:
        canaries.count(one)
    return dict(canaries.tallies()["vision/digits"])


STABLE = {"server": "s1", "end": "- - 4000"}


@pytest.mark.parametrize(
    ("what", "requests", "failed", "again", "times"),
    [
        ({}, 1, 0, 0, 1),
        ({"status": 400}, 1, 0, 0, 1),
        ({"status": 500}, 1, 1, 0, 0),
        ({"status": 501}, 1, 1, 0, 0),
        ({"ended": "SD"}, 1, 1, 0, 0),
        ({"grpc": "0"}, 1, 0, 0, 1),
        ({"grpc": "3"}, 1, 0, 0, 1),
        *(({"grpc": str(code)}, 1, 1, 0, 0) for code in (2, 4, 8, 12, 13, 14, 15)),
        ({"server": "stable", "end": "s3 s1 4000"}, 1, 0, 1, 0),
        ({"server": "stable", "end": "s3 s1 4000", "status": 500}, 1, 0, 1, 0),
        ({"end": "s3 s1 4000"}, 1, 0, 1, 0),  # it could not be connected to
        ({"end": "s3 s3 -"}, 1, 0, 0, 0),  # a stream
        ({"status": 0, "ended": "CH", "end": "s3 - 4000"}, 1, 0, 0, 1),  # the caller left
        ({"status": 503, "end": "s3 - 4000"}, 0, 0, 0, 0),  # nobody of it was asked
    ],
)
def test_what_counts_for_a_canary(
    what: dict[str, Any], requests: int, failed: int, again: int, times: int
) -> None:
    found = counted(request(**what))
    tally = found["r2"]
    assert (tally.requests, tally.failed, tally.retried, tally.timed) == (
        *(requests, failed, again),
        times,
    )
    assert found["r1"] == Tally()
    assert tally.sound
    assert retried(request(**what)) == bool(again)


@pytest.mark.parametrize(
    ("what", "requests", "failed"),
    [
        ({}, 1, 0),
        ({"status": 502}, 1, 1),
        ({"server": "s3"}, 0, 0),  # a canary that was alone
        ({"server": "held"}, 0, 0),
        ({"server": "<NOSRV>"}, 0, 0),
    ],
)
def test_what_counts_for_stable(what: dict[str, Any], requests: int, failed: int) -> None:
    found = counted(request(**{**STABLE, **what}))
    assert (found["r1"].requests, found["r1"].failed) == (requests, failed)
    assert found["r2"] == Tally()


def test_counts_begin_with_a_canary_and_end_with_it() -> None:
    canaries, on = Canaries(), route(pod("a"), canary_pod("b"), canary=("r2", 500))
    canaries.count(request())
    assert canaries.tallies() == {}
    canaries.keep(KEY, on)
    assert canaries.tallies() == {"vision/digits": {"r2": Tally(), "r1": Tally()}}, "known at once"
    canaries.count(request())
    canaries.keep(KEY, route(pod("a"), canary_pod("b"), canary=("r2", 9000)))
    assert canaries.tallies()["vision/digits"]["r2"].requests == 1, "another share goes on"
    canaries.keep(KEY, route(pod("a"), canary_pod("b")))
    canaries.count(request())
    assert canaries.tallies() == {}
    canaries.keep(KEY, on)
    assert canaries.tallies()["vision/digits"]["r2"].requests == 0
    canaries.keep(KEY, None)
    assert canaries.tallies() == {}


def test_dashboards_see_classes_of_codes() -> None:
    canaries = Canaries()
    canaries.keep(KEY, route(pod("a"), canary_pod("b"), canary=("r2", 500)))
    for what in ({}, {"status": 404}, {"grpc": "13"}, {"grpc": "5"}, {"server": "stable"}, STABLE):
        canaries.count(request(**what))
    canaries.keep(KEY, route(pod("a")))
    registry = CollectorRegistry()
    registry.register(canaries)
    text = generate_latest(registry).decode()
    end = 'service="digits",service_namespace="vision"}'
    name = "conch_front_door_canary_requests_total"
    for code, count in (("2xx", 1), ("4xx", 2), ("5xx", 1), ("retried", 1)):
        assert f'{name}{{code="{code}",revision="r2",{end} {count}.0' in text
    assert f'{name}{{code="2xx",revision="r1",{end} 1.0' in text


def test_classes_of_latency() -> None:
    assert [bucket(s) for s in (0, BOUNDS[0], BOUNDS[0] * 1.01, 1e9)] == [0, 0, 1, len(BOUNDS)]
