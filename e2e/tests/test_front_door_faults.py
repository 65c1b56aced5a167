"""Replicas whose health is fine and that answer nothing; and answers that need no model."""

import threading
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import pytest
import requests

from e2e.bench.front_door.door import Door, front_door
from e2e.install import Stage
from e2e.kubectl import wait_for
from e2e.load import request_body
from e2e.scratch import READY_S, Scratch, python_model, scratch, service, uids

pytestmark = pytest.mark.cluster

POISON = [[-1.0, 0.0, 0.0, 0.0]]
SLOW_S = 0.05
CODE = f"""\
import time

import triton_python_backend_utils as pb


class TritonPythonModel:
    def execute(self, requests):
        return [pb.InferenceResponse([_added(request)]) for request in requests]


def _added(request):
    x = pb.get_input_tensor_by_name(request, "x").as_numpy()
    while x.flat[0] < 0:
        time.sleep(1)
    time.sleep({SLOW_S})
    return pb.Tensor("sum", x + x.dtype.type(1))
"""
"""Of a model that waits where a GPU would compute, and hangs for ever at a number below 0."""


@pytest.fixture(scope="module")
def place(stage: Stage) -> Iterator[Scratch]:
    """A namespace with the model."""
    with scratch(stage, "e2e-front-door-faults") as found:
        found.apply(*python_model("brittle", CODE))
        yield found


def infer(door: Door, place: Scratch, name: str, x: Any, *, timeout: float = 30) -> Any:
    """Return what one inference came to: the sums, a status, or the error's name."""
    url = f"http://{door.address}/{place.namespace}/{name}/v2/models/brittle/infer"
    headers = {"Authorization": f"Bearer {door.key}"}
    try:
        body = request_body("x", "FP32", x)
        told = requests.post(url, json=body, headers=headers, timeout=timeout)
    except requests.RequestException as error:
        return type(error).__name__
    return told.json()["outputs"][0]["data"] if told.ok else told.status_code


def test_a_replica_that_hangs_is_taken_out_and_made_again(place: Scratch) -> None:
    place.apply(service("hangs", of="brittle", pools=("a100", "t4"), replicas=2, scaling=TWO))
    before = uids(place.await_ready("hangs", 2))
    with front_door(place) as door:
        good = [[1.0, 2.0, 3.0, 4.0]]
        wait_for("answers", lambda: infer(door, place, "hangs", good) == [2, 3, 4, 5], timeout=60)
        assert infer(door, place, "hangs", POISON, timeout=1) == "ReadTimeout"
        stop = threading.Event()
        threads = [threading.Thread(target=_ask, args=(stop, door, place, good)) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            _await_taken_out(door, place, good)
            wait_for(
                "another replica in the place of one",
                lambda: (
                    len(uids(place.pods("hangs", ready=True)) & before) == 1
                    and len(place.pods("hangs", ready=True)) == 2
                ),
                timeout=READY_S,
            )
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        events = place.kubectl("get", "events", "--field-selector=reason=ReplicaNotAnswering")
        assert "hangs" in events
        assert [infer(door, place, "hangs", good) for _ in range(20)] == [[2, 3, 4, 5]] * 20


TWO = {"minReplicas": 2, "maxReplicas": 3}


def _ask(stop: threading.Event, door: Door, place: Scratch, x: Any) -> None:
    while not stop.is_set():
        infer(door, place, "hangs", x, timeout=5)


def _await_taken_out(door: Door, place: Scratch, x: Any) -> None:
    """Wait until requests are answered, each of them, as with the one that hangs half would not be."""

    def all_answered() -> bool:
        return all(infer(door, place, "hangs", x, timeout=2) == [2, 3, 4, 5] for _ in range(20))

    begun = time.monotonic()
    wait_for("only who answers is asked", all_answered, timeout=60)
    assert time.monotonic() - begun < 45


def test_the_response_cache_answers_what_was_asked_before(place: Scratch) -> None:
    names = {"plain": {}, "cached": {"triton": {"responseCache": "16Mi"}}}
    for name, more in names.items():
        place.apply(service(name, of="brittle", pools=("a100", "t4"), **more))
    for name in names:
        place.await_ready(name)
    with front_door(place) as door:
        seconds = {name: _repeated(door, place, name) for name in names}
        assert infer(door, place, "cached", [[5.0, 6.0, 7.0, 8.0]]) == [6, 7, 8, 9]
    assert seconds["plain"] >= SLOW_S
    assert seconds["cached"] < seconds["plain"] / 2, seconds


def _repeated(door: Door, place: Scratch, name: str) -> float:
    """Return the median seconds of a request that was asked before."""
    x = [[1.0, 2.0, 3.0, 4.0]]
    wait_for("answers", lambda: infer(door, place, name, x) == [2, 3, 4, 5], timeout=60)
    found = []
    for _ in range(20):
        begun = time.monotonic()
        assert infer(door, place, name, x) == [2, 3, 4, 5]
        found.append(time.monotonic() - begun)
    return median(found)
