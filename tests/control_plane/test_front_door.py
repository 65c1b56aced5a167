"""The front door: the real HAProxy, steered by the real agent from a real API server."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.kit.control_plane import Cluster
from tests.kit.front_door import KEY, SERVICES, FrontDoor, fetch, front_door
from tests.kit.proxy import wait_for


@pytest.fixture(scope="module")
def door(cluster: Cluster) -> Iterator[FrontDoor]:
    """A front door for all tests of this file."""
    with front_door(cluster) as found:
        yield found


@pytest.fixture
def place(door: FrontDoor, namespace: str) -> Iterator[str]:
    """A namespace with a key of its own, which is the namespace's name and then some."""
    secret = door.key(namespace, key=key_of(namespace))
    yield namespace
    door.client.delete(secret)


def key_of(namespace: str) -> str:
    """Return the key of a test's namespace."""
    return f"{KEY}-{namespace}"


def answers(door: FrontDoor, service: str, key: str | None) -> None:
    """Wait until a service answers."""
    wait_for(lambda: door.infer(service, key=key).status == 200, service, timeout=20)


def known(door: FrontDoor, service: str, key: str) -> None:
    """Wait until a service is known, and who has its key, though it may have no replica."""
    wait_for(lambda: door.ask(f"/{service}/", key=key).status not in (401, 404), "it is known")


def test_a_service_answers_by_its_path_and_by_its_host(door: FrontDoor, place: str) -> None:
    [pod] = door.service(place, "digits")
    key = key_of(place)
    answers(door, f"{place}/digits", key)
    told = door.infer(f"{place}/digits", key=key)
    assert told.json == {"from": pod.address, "headers": {}}, "keys stay with the front door"
    by_host = door.ask(
        "/v2/models/digits/infer",
        {"inputs": [{}]},
        key=key,
        headers={"Host": f"digits.{place}.models.test"},
    )
    assert by_host.json["from"] == pod.address


def test_who_may_not_ask_is_told_nothing(door: FrontDoor, place: str, cluster: Cluster) -> None:
    other = cluster.new_namespace()
    door.service(place, "mine")
    door.service(other, "theirs")
    key = key_of(place)
    answers(door, f"{place}/mine", key)
    assert door.infer(f"{place}/mine", key=None).status == 401
    assert door.infer(f"{place}/mine", key="of-nobody-0123456789").status == 401
    theirs, none = door.infer(f"{other}/theirs", key=key), door.infer(f"{other}/none", key=key)
    assert theirs.status == none.status == 404
    assert theirs.body == none.body, "whether there is such a service is nobody's business"
    assert door.infer(f"{other}/theirs", key=None).status == 401


def test_only_the_protocol_passes(door: FrontDoor, place: str) -> None:
    door.service(place, "digits")
    key, root = key_of(place), f"/{place}/digits"
    answers(door, root[1:], key)
    assert door.ask(f"{root}/v2/models/digits/ready", key=key).status == 200
    for path in (
        "/v2/repository/index",
        "/v2/repository/models/digits/unload",
        "/v2/models/other/infer",
        "/mode/hang",
        "/v2/../mode/hang",
        "/v2//repository/index",
        "/v2/models/digits/infer/more",
        "/metrics",
    ):
        told = door.ask(f"{root}{path}", {"inputs": [{}]}, key=key)
        assert told.status == 404, path
        assert told.json["error"]
    wrong = door.ask(f"{root}/v2/models/digits/infer", {"inputs": []}, key=key)
    assert (wrong.status, wrong.json["error"]) == (400, "expected 1 inputs but got 0 inputs")
    assert door.ask(f"{root}/v2/models/digits", key=key, method="DELETE").status == 404


def test_a_body_that_is_too_large_is_refused(door: FrontDoor, place: str) -> None:
    door.service(place, "small", maxBody="1Ki")
    key = key_of(place)
    answers(door, f"{place}/small", key)
    path = f"/{place}/small/v2/models/digits/infer"
    assert door.ask(path, {"inputs": [{"data": "x" * 900}]}, key=key).status == 200
    assert door.ask(path, {"inputs": [{"data": "x" * 1100}]}, key=key).status == 413


def test_limits_let_through_what_they_say(door: FrontDoor, place: str) -> None:
    door.service(place, "limited", limits={"requestsPerSecond": 20})
    key = key_of(place)
    answers(door, f"{place}/limited", key)
    begun, told = time.monotonic(), []
    while time.monotonic() - begun < 3:
        told.append(door.infer(f"{place}/limited", key=key))
    through = sum(a.status == 200 for a in told)
    refused = [a for a in told if a.status == 429]
    assert 40 <= through <= 85, (through, len(told))
    assert refused
    assert refused[0].headers["retry-after"] == "1"
    assert {a.status for a in told} == {200, 429}


def test_so_many_at_a_time_and_no_more(door: FrontDoor, place: str) -> None:
    door.service(place, "narrow", limits={"concurrentRequests": 2})
    key = key_of(place)
    answers(door, f"{place}/narrow", key)
    with ThreadPoolExecutor(6) as pool:
        told = list(
            pool.map(lambda _: door.infer(f"{place}/narrow", key=key, sleep=1).status, range(6))
        )
    assert sorted(told) == [200, 200, 429, 429, 429, 429]
    answers(door, f"{place}/narrow", key)


def test_a_key_that_is_revoked_opens_nothing(door: FrontDoor, namespace: str) -> None:
    door.service(namespace, "digits")
    key = "another-key-0123456789"
    secret = door.key(namespace, key=key)
    answers(door, f"{namespace}/digits", key)
    door.client.delete(secret)
    wait_for(lambda: door.infer(f"{namespace}/digits", key=key).status == 401, "401", timeout=5)


def test_a_pod_is_drained_before_it_goes(door: FrontDoor, place: str) -> None:
    one, other = door.service(place, "digits", pods=2)
    key, name = key_of(place), f"{place}/digits"
    answers(door, name, key)
    wait_for(lambda: door.infer(name, key=key).json["from"] == one.address, "one", timeout=10)
    with ThreadPoolExecutor(8) as pool:
        slow = [pool.submit(door.infer, name, key=key, sleep=2) for _ in range(8)]
        wait_for(lambda: sum(f.running() for f in slow) == 8, "all are under way")
        time.sleep(0.3)
        door.drain(one)
        wait_for(
            lambda: door.report()["in_flight"].get(one.uid, 0) > 0, "what is under way is told"
        )
        for _ in range(20):
            assert door.infer(name, key=key).json["from"] == other.address
        assert [f.result().status for f in slow] == [200] * 8
    wait_for(lambda: door.report()["in_flight"].get(one.uid) == 0, "it may go", timeout=5)
    before = one.mode("fine")
    assert door.infer(name, key=key).status == 200
    assert one.mode("fine") == before


def test_a_request_waits_for_a_replica_that_sleeps(door: FrontDoor, place: str) -> None:
    door.service(place, "asleep", pods=0)
    key, name = key_of(place), f"{place}/asleep"
    known(door, name, key)
    with ThreadPoolExecutor(20) as pool:
        held = [pool.submit(door.infer, name, key=key) for _ in range(20)]
        wait_for(lambda: door.report()["waiting"].get(name) == 20, "they wait", timeout=5)
        assert door.report()["asked"][name] < 2
        door.pod(place, "asleep")
        assert [f.result().status for f in held] == [200] * 20


def test_who_waits_too_long_or_is_one_too_many_is_told_so(door: FrontDoor, place: str) -> None:
    door.service(place, "asleep", pods=0, maxWait="2s", maxWaiting=3)
    key, name = key_of(place), f"{place}/asleep"
    known(door, name, key)
    with ThreadPoolExecutor(5) as pool:
        told = list(pool.map(lambda _: door.infer(name, key=key), range(5)))
    assert [a.status for a in told] == [503] * 5
    at_once, late = (
        sorted(told, key=lambda a: a.seconds)[:2],
        sorted(told, key=lambda a: a.seconds)[2:],
    )
    assert all(a.seconds < 1 for a in at_once)
    assert all(1.5 < a.seconds < 4 for a in late)
    assert "too many requests wait" in at_once[0].body
    assert late[0].headers["retry-after"]


def test_a_replica_that_crashes_loses_only_what_it_had(door: FrontDoor, place: str) -> None:
    [pod] = door.service(place, "digits")
    key, name = key_of(place), f"{place}/digits"
    answers(door, name, key)
    pod.kill()
    with ThreadPoolExecutor(10) as pool:
        held = [pool.submit(door.infer, name, key=key) for _ in range(10)]
        time.sleep(1.5)
        pod.process = door.answering(pod.address, name)
        assert [f.result().status for f in held] == [200] * 10


def test_what_waits_in_a_worker_that_is_replaced_goes_on_in_its_successor(
    door: FrontDoor, place: str
) -> None:
    [pod] = door.service(place, "digits")
    key, name = key_of(place), f"{place}/digits"
    answers(door, name, key)
    pod.kill()
    with ThreadPoolExecutor(5) as pool:
        held = [pool.submit(door.infer, name, key=key) for _ in range(5)]
        wait_for(lambda: door.report()["waiting"].get(name) == 5, "they wait", timeout=5)
        door.service(place, "another")
        answers(door, f"{place}/another", key)
        pod.process = door.answering(pod.address, name)
        assert [f.result().status for f in held] == [200] * 5


def test_replays_where_that_is_asked_for(door: FrontDoor, place: str) -> None:
    pods = door.service(place, "again", pods=2, replay=True)
    key, name = key_of(place), f"{place}/again"
    answers(door, name, key)
    with ThreadPoolExecutor(10) as pool:
        slow = [pool.submit(door.infer, name, key=key, sleep=1.5) for _ in range(10)]
        time.sleep(0.7)
        pods[0].kill()
        told = [f.result() for f in slow]
    assert [a.status for a in told] == [200] * 10
    assert {a.json["from"] for a in told} == {pods[1].address}


@pytest.mark.parametrize("mode", ["hang", "fail"])
def test_a_replica_that_answers_health_alone_is_taken_out(
    door: FrontDoor, place: str, mode: str
) -> None:
    bad, good = door.service(place, mode, pods=2)
    key, name = key_of(place), f"{place}/{mode}"
    answers(door, name, key)
    wait_for(lambda: door.infer(name, key=key).json["from"] == bad.address, "both", timeout=20)
    bad.mode(mode)

    def told() -> bool:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(8):
                pool.submit(door.infer, name, key=key, timeout=1).exception()
        return bad.uid in door.report()["broken"]

    wait_for(told, "it is told of", timeout=30)
    time.sleep(0.5)
    assert {door.infer(name, key=key).json["from"] for _ in range(10)} == {good.address}
    bad.mode("fine")
    wait_for(lambda: bad.uid not in door.report()["broken"], "it is back", timeout=20)


def test_what_is_wrong_with_requests_takes_no_replica_out(door: FrontDoor, place: str) -> None:
    [pod] = door.service(place, "digits")
    key = key_of(place)
    answers(door, f"{place}/digits", key)
    for _ in range(20):
        door.ask(f"/{place}/digits/v2/models/digits/infer", {"inputs": []}, key=key)
    time.sleep(2.5)
    assert pod.uid not in door.report()["broken"]


def test_with_the_agent_dead_another_service_never_answers(
    cluster: Cluster, namespace: str
) -> None:
    with front_door(cluster) as door:
        door.key(namespace, tenant=None, key=key_of(namespace))
        [pod] = door.service(namespace, "digits", maxWait="1s")
        key, name = key_of(namespace), f"{namespace}/digits"
        answers(door, name, key)
        assert door.agent is not None
        door.agent.kill()
        door.agent.wait()
        assert door.infer(name, key=key).status == 200
        pod.kill()
        time.sleep(2.5)
        pod.process = door.answering(pod.address, "somebody/else")
        time.sleep(3)
        assert door.infer(name, key=key).status == 503
        pod.kill()
        pod.process = door.answering(pod.address, name)
        answers(door, name, key)
        assert fetch(f"http://127.0.0.1:{door.health}/healthz").status == 200


def test_haproxy_that_begins_anew_is_told_what_its_files_do_not_say(
    cluster: Cluster, namespace: str
) -> None:
    with front_door(cluster) as door:
        door.key(namespace, key=key_of(namespace))
        [old] = door.service(namespace, "digits")
        key, name = key_of(namespace), f"{namespace}/digits"
        answers(door, name, key)
        door.delete(old)
        old.kill()
        new = door.pod(namespace, "digits")
        wait_for(lambda: door.infer(name, key=key).json["from"] == new.address, "the new pod")
        door.crash_haproxy()
        door.start_haproxy()
        wait_for(door.ready, "HAProxy")
        answers(door, name, key)
        assert door.infer(name, key=key).json["from"] == new.address


def test_a_new_service_disturbs_none(door: FrontDoor, place: str) -> None:
    door.service(place, "digits")
    key, name = key_of(place), f"{place}/digits"
    answers(door, name, key)
    stop, bad = threading.Event(), []

    def ask() -> None:
        while not stop.is_set():
            told = door.infer(name, key=key)
            if told.status != 200:
                bad.append(told)

    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            pool.submit(ask)
        for number in range(3):
            begun = time.monotonic()
            door.service(place, f"new-{number}")
            answers(door, f"{place}/new-{number}", key)
            assert time.monotonic() - begun < 15
        stop.set()
    assert not bad


def test_a_service_that_is_gone_is_not_found(door: FrontDoor, place: str) -> None:
    door.service(place, "gone")
    key = key_of(place)
    answers(door, f"{place}/gone", key)
    door.client.delete(f"{SERVICES.format(place)}/gone")
    wait_for(lambda: door.infer(f"{place}/gone", key=key).status == 404, "404", timeout=5)


def test_metrics_tell_of_services_and_tenants(door: FrontDoor, place: str) -> None:
    door.service(place, "digits")
    key = key_of(place)
    answers(door, f"{place}/digits", key)
    line = (
        f'conch_front_door_requests_total{{code="200",protocol="http",service="digits",'
        f'service_namespace="{place}",tenant="namespace/{place}"}}'
    )
    wait_for(lambda: line in door.metrics(), "it is counted", timeout=5)
    assert (
        f'conch_front_door_seconds_bucket{{le="+Inf",service="digits",service_namespace="{place}"'
        in (door.metrics())
    )
