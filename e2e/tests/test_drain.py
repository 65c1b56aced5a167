"""Plain ``kubectl drain`` on real kubelets under load: nothing fails, and it goes through."""

from typing import Any

import pytest

from e2e.bench.front_door.door import Door, front_door
from e2e.bench.front_door.flow import Flow, Outcomes
from e2e.bench.front_door.load import Load
from e2e.install import Stage
from e2e.kubectl import CommandError, wait_for
from e2e.moves import drain, nodes_of, opened_again
from e2e.scratch import Scratch, adding, python_model, service, uids

pytestmark = pytest.mark.cluster
POOLS = ("a100", "t4")
RATE = 20.0
SCALING = {"minReplicas": 1, "maxReplicas": 3, "drainTimeout": "20s"}
WIDER = '{"spec": {"placement": {"pools": ["t4", "a100"]}}}'


def flow(door: Door, place: Scratch, name: str, protocol: Any) -> Flow:
    given = {"rate": RATE, "seconds": 600.0, "connections": 4, "model": "add"}
    return door.flow(f"{name} {protocol}", place.namespace, name, protocol, **given)


def none_failed(outcomes: list[Outcomes]) -> None:
    wrong = [(o.name, o.wrong) for o in outcomes if o.wrong or not o.right]
    assert wrong == [], [o.summary() for o in outcomes]


def test_kubectl_drain_goes_through_and_no_request_fails(place: Scratch, stage: Stage) -> None:
    place.apply(
        *python_model("add", adding(1)),
        service("single", of="add", pools=POOLS, replicas=1, scaling=SCALING),
        service("pair", of="add", pools=POOLS, replicas=2, scaling=SCALING),
    )
    place.await_ready("single")
    place.await_ready("pair", 2)
    (node,) = nodes_of(place.pods("single"))
    with front_door(place) as door, opened_again(stage, node):
        flows = [
            flow(door, place, n, p) for n in ("single", "pair") for p in ("http", "grpc", "stream")
        ]
        with Load(*flows) as load:
            load.more_answers(100)
            drain(stage, node)
            load.more_answers(100)
        none_failed(load.outcomes)
    for name, count in (("single", 1), ("pair", 2)):
        assert node not in nodes_of(place.await_ready(name, count))


def test_it_waits_where_there_is_no_other_place(place: Scratch, stage: Stage) -> None:
    place.apply(*python_model("add", adding(1)), service("bound", of="add", pools=("t4",)))
    before = place.await_ready("bound")
    (node,) = nodes_of(before)
    with opened_again(stage, node):
        with pytest.raises(CommandError, match="disruption budget"):
            drain(stage, node, "--pod-selector=conch.dev/service=bound", seconds=10)

        def why() -> str:
            return str(place.condition("bound", "Reconciling").get("message"))

        wait_for("what is told", lambda: "no other place yet" in why(), timeout=30, seen=why)
        assert uids(place.await_ready("bound")) == uids(before)
        place.kubectl("patch", "modelservice", "bound", "--type=merge", "-p", WIDER)
        wait_for("the other place", lambda: node not in nodes_of(place.pods("bound")), timeout=90)
        place.await_ready("bound")
