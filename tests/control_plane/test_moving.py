"""A cordoned node is left before it is drained: another replica answers first.

Real API server with its evictions, controllers and scheduler; nodes and pods are simulated.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from conch.api.conditions import Reason
from tests.kit.client import ApiError, Object
from tests.kit.control_plane import condition
from tests.kit.scenario import Scenario, in_use
from tests.kit.sweep import Lane

NODES = ("node-a100", "node-t4")
SPOT = {"key": "cloud.example/spot-notice", "value": "soon", "effect": "NoSchedule"}


@pytest.fixture
def scenario(simulated_lane: Lane) -> Iterator[Scenario]:
    """A namespace without a service; the nodes are open again afterwards."""
    made = simulated_lane.scenario()
    yield made
    made.delete()
    for name in NODES:
        made.client.merge(f"/api/v1/nodes/{name}", {"spec": {"unschedulable": None, "taints": []}})


class Fewest:
    """The fewest pods that had traffic at a time, where these had it at first."""

    def __init__(self, pods: list[Object]) -> None:
        self._pods = {p["metadata"]["uid"]: in_use(p) for p in pods}
        self.count = sum(self._pods.values())

    def see(self, event: str, pod: Object) -> None:
        """Take over an event."""
        gone = event == "DELETED" or "deletionTimestamp" in pod["metadata"]
        self._pods[pod["metadata"]["uid"]] = in_use(pod) and not gone
        self.count = min(self.count, sum(self._pods.values()))


def on(scenario: Scenario, node: str) -> list[Object]:
    return [p for p in scenario.client.items(scenario.pods) if p["spec"].get("nodeName") == node]


def evict(scenario: Scenario, pod: Object) -> int:
    """Ask for an eviction as kubectl drain does; return the status of the answer."""
    name = pod["metadata"]["name"]
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": scenario.namespace},
    }
    try:
        scenario.client.create(f"{scenario.pods}/{name}/eviction", body)
    except ApiError as error:
        return error.status
    return 201


def reconciling(scenario: Scenario) -> Any:
    return condition(scenario.client.get(scenario.service), "Reconciling")


@pytest.mark.parametrize("replicas", [1, 3])
def test_others_answer_before_a_cordoned_node_is_left(scenario: Scenario, replicas: int) -> None:
    scenario.create(replicas)
    (left,) = {p["spec"]["nodeName"] for p in scenario.serving()}
    fewest = Fewest(scenario.serving())
    with scenario.client.watching(scenario.pods, fewest.see):
        scenario.cordon(left)
        scenario.wait(lambda: not on(scenario, left), f"no pod on {left}")
        scenario.wait(lambda: scenario.settled(replicas), f"{replicas} replicas elsewhere")
    assert fewest.count == replicas


def test_an_eviction_is_refused_until_the_other_answers(scenario: Scenario) -> None:
    scenario.create(1)
    (old,) = scenario.serving()
    scenario.wait(lambda: evict(scenario, old) == 429, "the budget")
    scenario.cordon(old["spec"]["nodeName"])
    answers = []

    def through() -> bool:
        answers.append(evict(scenario, old))
        others = [p for p in scenario.serving() if p["metadata"]["uid"] != old["metadata"]["uid"]]
        assert others or answers[-1] == 429, "it was let go before another answered"
        return answers[-1] in (201, 404)

    scenario.wait(through, "the eviction to go through")
    scenario.wait(lambda: scenario.settled(1), "1 replica elsewhere")


def test_a_taint_that_is_not_tolerated_does_the_same(scenario: Scenario) -> None:
    scenario.create(1)
    (old,) = scenario.serving()
    node = old["spec"]["nodeName"]
    scenario.client.merge(f"/api/v1/nodes/{node}", {"spec": {"taints": [SPOT]}})
    scenario.wait(lambda: not on(scenario, node), f"no pod on {node}")
    scenario.wait(lambda: scenario.settled(1), "1 replica elsewhere")


def test_without_another_place_it_stays_and_says_why(scenario: Scenario) -> None:
    scenario.create(2, placement={"accelerators": ["NVIDIA-A100"]})
    before = {p["metadata"]["uid"] for p in scenario.serving()}
    scenario.cordon("node-a100")
    scenario.wait(lambda: reconciling(scenario)["reason"] == Reason.MOVING, "what is told")
    scenario.rest()
    message = reconciling(scenario)["message"]
    assert message.count("leaves node-a100, which is cordoned") == 2
    assert "no other place yet: pool a100, 1 node: 1 cordoned" in message
    assert {p["metadata"]["uid"] for p in scenario.serving()} == before
    assert condition(scenario.client.get(scenario.service), "Admitted")["status"] == "True"
    scenario.client.merge(
        scenario.service, {"spec": {"placement": {"accelerators": ["NVIDIA-A100", "Tesla-T4"]}}}
    )
    scenario.wait(lambda: not on(scenario, "node-a100"), "both moved")


def test_all_at_once_ends_as_one_after_the_other(scenario: Scenario) -> None:
    """Another revision, a node that is to be left, one replica more, and an operator that begins anew."""
    scenario.create(2)
    first = scenario.only_revision()
    fewest = Fewest(scenario.serving())
    with scenario.client.watching(scenario.pods, fewest.see):
        scenario.operator.kill()
        scenario.cordon("node-a100")
        scenario.update(parameters={"version": "2"})
        scenario.client.merge(scenario.service, {"spec": {"replicas": 3}})
        scenario.operator.revive()
        scenario.await_update(3, past=first)
    assert fewest.count == 2
    assert on(scenario, "node-a100") == []


def test_a_cordon_that_is_taken_back_stops_what_has_not_begun(scenario: Scenario) -> None:
    scenario.create(1, placement={"accelerators": ["NVIDIA-A100"]})
    before = {p["metadata"]["uid"] for p in scenario.serving()}
    scenario.cordon("node-a100")
    scenario.wait(lambda: reconciling(scenario)["reason"] == Reason.MOVING, "what is told")
    scenario.cordon("node-a100", cordoned=False)
    scenario.wait(lambda: scenario.settled(1), "1 replica at rest")
    assert {p["metadata"]["uid"] for p in scenario.serving()} == before
