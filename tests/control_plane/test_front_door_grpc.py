"""The front door over gRPC: the same service, the same rules, in gRPC's own words."""

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, Self

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.control_plane.test_front_door import answers, key_of, known
from tests.kit.control_plane import Cluster
from tests.kit.front_door import FrontDoor, front_door
from tests.kit.proxy import wait_for

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def door(cluster: Cluster) -> Iterator[FrontDoor]:
    """A front door for all tests of this file."""
    with front_door(cluster) as found:
        yield found


@pytest.fixture
def place(door: FrontDoor, namespace: str) -> Iterator[str]:
    """A namespace with a key of its own."""
    secret = door.key(namespace, key=key_of(namespace))
    yield namespace
    door.client.delete(secret)


class Caller:
    """A caller over one channel, which repeats nothing that has left it.

    What it gives to a connection that the other side has closed meanwhile, gRPC's library gives to the
    next one by itself, as long as nobody sets grpc.enable_retries to 0. No front door hears of it.
    """

    def __init__(self, door: FrontDoor, service: str, key: str | None, **options: str) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{door.http}", options=[*options.items()])
        self.stub = service_pb2_grpc.GRPCInferenceServiceStub(self.channel)
        self.metadata = [("conch-service", service)] if service else []
        self.metadata += [("authorization", f"Bearer {key}")] if key else []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()

    def infer(self, *, sleep_ms: int = 0, size: int = 0, timeout: float = 20) -> Any:
        """Ask for an inference; return what it came to: where it was answered, or the code."""
        try:
            told = self.stub.ModelInfer(
                question(sleep_ms, size), metadata=self.metadata, timeout=timeout
            )
        except grpc.RpcError as error:
            return error.code()
        return told.parameters["from"].string_param


def question(sleep_ms: int = 0, size: int = 0) -> Any:
    """Return a request, padded by so many bytes."""
    asked = service_pb2.ModelInferRequest(model_name="digits")
    asked.parameters["sleep"].int64_param = sleep_ms
    if size:
        asked.raw_input_contents.append(bytes(size))
    return asked


def test_a_service_is_named_by_metadata_or_by_its_host(door: FrontDoor, place: str) -> None:
    [pod] = door.service(place, "digits")
    key, name = key_of(place), f"{place}/digits"
    answers(door, name, key)
    with Caller(door, name, key) as caller:
        assert caller.infer() == pod.address
    host = {"grpc.default_authority": f"digits.{place}.models.test"}
    with Caller(door, "", key, **host) as caller:
        assert caller.infer() == pod.address


def test_refusals_have_codes_of_grpc(door: FrontDoor, place: str, cluster: Cluster) -> None:
    other = cluster.new_namespace()
    door.service(place, "digits", maxBody="1Ki", limits={"concurrentRequests": 1})
    door.service(other, "theirs")
    key, name = key_of(place), f"{place}/digits"
    answers(door, name, key)
    with Caller(door, name, None) as caller:
        assert caller.infer() == Code.UNAUTHENTICATED
    for service in (f"{other}/theirs", f"{place}/none", "", "a b|c"):
        with Caller(door, service, key) as caller:
            assert caller.infer() == Code.NOT_FOUND
    with Caller(door, name, key) as caller:
        sizes = 5 * [2_000, 20_000, 200_000, 3_000_000]
        assert {caller.infer(size=size) for size in sizes} == {Code.RESOURCE_EXHAUSTED}
        slow = threading.Thread(target=caller.infer, kwargs={"sleep_ms": 4000})
        slow.start()
        time.sleep(1.5)
        assert caller.infer() == Code.RESOURCE_EXHAUSTED
        slow.join()
        with pytest.raises(grpc.RpcError) as refused:
            caller.stub.RepositoryIndex(
                service_pb2.RepositoryIndexRequest(), metadata=caller.metadata
            )
        assert refused.value.code() == Code.UNIMPLEMENTED


def test_a_call_waits_for_a_service_that_sleeps(door: FrontDoor, place: str) -> None:
    door.service(place, "asleep", pods=0)
    key, name = key_of(place), f"{place}/asleep"
    known(door, name, key)
    told: list[Any] = []
    with Caller(door, name, key) as caller:
        held = [
            threading.Thread(target=lambda: told.append(caller.infer(timeout=60)))
            for _ in range(20)
        ]
        for thread in held:
            thread.start()
        wait_for(lambda: door.report()["waiting"].get(name) == 20, "they wait")
        pod = door.pod(place, "asleep")
        for thread in held:
            thread.join()
    assert told == [pod.address] * 20


def test_a_stream_lives_through_a_drain_and_a_reload(door: FrontDoor, place: str) -> None:
    one, other = door.service(place, "stream", pods=2)
    key, name = key_of(place), f"{place}/stream"
    answers(door, name, key)
    questions: queue.Queue[Any] = queue.Queue()
    with Caller(door, name, key) as caller:
        stream = caller.stub.ModelStreamInfer(
            iter(questions.get, None), metadata=caller.metadata, timeout=60
        )

        def ask() -> str:
            questions.put(question())
            found: str = next(stream).infer_response.parameters["from"].string_param
            return found

        where = ask()
        mine = one if where == one.address else other
        door.drain(mine)
        wait_for(lambda: door.report()["in_flight"].get(mine.uid) == 1, "it is waited for")
        door.service(place, "makes-it-begin-anew")
        answers(door, f"{place}/makes-it-begin-anew", key)
        assert [ask() for _ in range(5)] == [where] * 5
        assert door.report()["in_flight"][mine.uid] == 1, "an old worker's counts"
        questions.put(None)
        assert list(stream) == []
    wait_for(lambda: door.report()["in_flight"].get(mine.uid) == 0, "it may go", timeout=5)


def test_channels_live_through_reloads(door: FrontDoor, place: str) -> None:
    door.service(place, "steady", pods=2)
    key, name = key_of(place), f"{place}/steady"
    answers(door, name, key)
    stop, told = threading.Event(), []

    def ask() -> None:
        with Caller(door, name, key) as caller:
            while not stop.is_set():
                told.append(caller.infer())

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(4):
        door.service(place, f"more-{number}")
        answers(door, f"{place}/more-{number}", key)
    stop.set()
    for thread in threads:
        thread.join()
    bad = [t for t in told if not isinstance(t, str)]
    assert not bad, f"{len(bad)} of {len(told)}: {bad[:3]}"
    assert len(told) > 100


def test_requests_of_one_connection_are_spread(door: FrontDoor, place: str) -> None:
    pods = door.service(place, "spread", pods=2)
    key, name = key_of(place), f"{place}/spread"
    answers(door, name, key)
    with Caller(door, name, key) as caller:
        seen: set[str] = set()
        for _ in range(400):
            seen.add(caller.infer())
        assert seen == {p.address for p in pods}
