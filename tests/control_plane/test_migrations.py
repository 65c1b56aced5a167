"""ModelMigrations: one replica is moved on purpose, or stays and says why.

Real API server, controllers and scheduler; nodes and pods are simulated.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from conch.api.migration import Phase
from conch.api.names import ANNOTATION_MIGRATION, LABEL_SERVING
from tests.control_plane.test_moving import NODES, Fewest, on
from tests.kit.client import ApiError, Object
from tests.kit.control_plane import condition
from tests.kit.scenario import CONCH, Scenario
from tests.kit.sweep import Lane

OVER = (Phase.DONE, Phase.ROLLED_BACK)


@pytest.fixture
def scenario(simulated_lane: Lane) -> Iterator[Scenario]:
    """A namespace without a service; the nodes are open again afterwards."""
    made = simulated_lane.scenario()
    yield made
    made.delete()
    for name in NODES:
        made.client.merge(f"/api/v1/nodes/{name}", {"spec": {"unschedulable": None, "taints": []}})


class Move:
    """A ModelMigration of the scenario's service."""

    def __init__(self, scenario: Scenario, name: str = "move", **spec: Any) -> None:
        self.scenario = scenario
        self._all = f"{CONCH}/namespaces/{scenario.namespace}/modelmigrations"
        self.path = f"{self._all}/{name}"
        body = {
            "apiVersion": "conch.dev/v1alpha1",
            "kind": "ModelMigration",
            "metadata": {"name": name},
            "spec": {"service": "digits", **spec},
        }
        scenario.client.create(self._all, body)

    @property
    def status(self) -> Object:
        """What it says of itself."""
        found: Object = self.scenario.client.get(self.path).get("status") or {}
        return found

    def ends(self, phase: Phase) -> Object:
        """Return the status once it is over, which is to be so."""
        self.scenario.wait(lambda: self.status.get("phase") in OVER, "the end of the migration")
        status = self.status
        assert status["phase"] == phase, status
        return status


def test_another_answers_where_it_is_wanted_before_one_goes(scenario: Scenario) -> None:
    scenario.create(2)
    before = scenario.serving()
    fewest = Fewest(before)
    with scenario.client.watching(scenario.pods, fewest.see):
        status = Move(scenario, to={"node": "node-t4"}).ends(Phase.DONE)
        scenario.wait(lambda: scenario.settled(2), "2 replicas")
    assert fewest.count == 2
    assert [p["phase"] for p in status["phases"]] == [
        *("Reserve", "Load", "Warm", "Shift", "Drain", "Done")
    ]
    (moved,) = on(scenario, "node-t4")
    assert status["to"]["uid"] == moved["metadata"]["uid"]
    assert moved["metadata"]["annotations"][ANNOTATION_MIGRATION] == "move"
    assert status["from"]["pod"] in {p["metadata"]["name"] for p in before}
    assert status["from"]["node"] == "node-a100"
    assert condition({"status": status}, "Ready")["status"] == "True"
    assert len(on(scenario, "node-a100")) == 1


def test_a_pool_will_do_and_a_replica_may_be_named(scenario: Scenario) -> None:
    scenario.create(2)
    chosen = max(p["metadata"]["name"] for p in scenario.serving())
    status = Move(scenario, replica=chosen, to={"pool": "t4"}).ends(Phase.DONE)
    assert status["from"]["pod"] == chosen
    assert status["to"]["node"] == "node-t4"


def test_it_gets_no_traffic_before_it_is_warm(scenario: Scenario) -> None:
    scenario.create(1)
    seen: list[tuple[str | None, bool]] = []

    def see(_: str, pod: Object) -> None:
        if ANNOTATION_MIGRATION in (pod["metadata"].get("annotations") or {}):
            serves = LABEL_SERVING in pod["metadata"]["labels"]
            seen.append((condition(pod, "Ready").get("status"), serves))

    with scenario.client.watching(scenario.pods, see):
        status = Move(scenario, to={"node": "node-t4"}).ends(Phase.DONE)
    assert seen[0] == (None, False) or not seen[0][1], "from its first moment with a node"
    assert ("True", False) in seen, "while it is ready, and warmed"
    assert seen[-1] == ("True", True)
    assert "neither replica" in status["warmth"], "simulated pods answer nothing"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"to": {"node": "node-nowhere"}}, "in no pool that digits may use; these are: a100, t4"),
        ({"to": {"pool": "nowhere"}}, "none that digits may use"),
        ({"to": {"node": "node-a100"}}, "is on node-a100 already"),
        ({"replica": "digits-nobody"}, "no replica digits-nobody of digits answers"),
    ],
)
def test_what_can_never_be_is_refused_at_once(scenario: Scenario, spec: Object, words: str) -> None:
    scenario.create(1)
    (before,) = scenario.serving()
    status = Move(scenario, **spec).ends(Phase.ROLLED_BACK)
    assert words in status["message"]
    assert condition({"status": status}, "Stalled")["status"] == "True"
    scenario.rest()
    assert scenario.serving()[0]["metadata"]["uid"] == before["metadata"]["uid"]


def test_a_cordoned_target_is_refused_and_a_full_one_awaited(scenario: Scenario) -> None:
    scenario.create(1)
    scenario.cordon("node-t4")
    assert (
        "cordoned"
        in Move(scenario, "one", to={"node": "node-t4"}).ends(Phase.ROLLED_BACK)["message"]
    )
    scenario.cordon("node-t4", cordoned=False)
    blocker = {
        "metadata": {"name": "blocker"},
        "spec": {
            "nodeName": "node-t4",
            "containers": [
                {"name": "x", "image": "x", "resources": {"limits": {"nvidia.com/gpu": "3"}}}
            ],
        },
    }
    scenario.client.create(scenario.pods, blocker)
    late = Move(scenario, "two", to={"node": "node-t4"}, deadlines={"reserve": "4s"})
    scenario.wait(lambda: late.status.get("phase") == "Reserve", "that it waits")
    assert "nvidia.com/gpu" in late.status["message"] or "GPU" in late.status["message"]
    message = late.ends(Phase.ROLLED_BACK)["message"]
    assert "Reserve took longer than 4 s" in message
    fits = Move(scenario, "three", to={"node": "node-t4"})
    scenario.client.delete(f"{scenario.pods}/blocker", grace_seconds=0)
    fits.ends(Phase.DONE)


def test_a_second_one_at_a_time_is_refused(scenario: Scenario) -> None:
    scenario.create(2)
    scenario.operator.kill()
    first = Move(scenario, "first", to={"node": "node-t4"})
    second = Move(scenario, "second", to={"node": "node-t4"})
    scenario.operator.revive()
    assert "is being moved by first" in second.ends(Phase.ROLLED_BACK)["message"]
    first.ends(Phase.DONE)


def test_one_that_is_deleted_midway_is_taken_back(scenario: Scenario) -> None:
    scenario.create(1)
    (before,) = scenario.serving()
    scenario.operator.kill()
    move = Move(scenario, to={"node": "node-t4"})
    reserved: list[Object] = []

    def see(_: str, pod: Object) -> None:
        if ANNOTATION_MIGRATION in (pod["metadata"].get("annotations") or {}) and not reserved:
            reserved.append(pod)
            scenario.client.delete(move.path)

    with scenario.client.watching(scenario.pods, see):
        scenario.operator.revive()
        scenario.wait(lambda: reserved, "the other replica")
        scenario.wait(lambda: scenario.settled(1), "1 replica")
        scenario.rest()
    (after,) = scenario.serving()
    assert after["metadata"]["uid"] == before["metadata"]["uid"]


def test_it_can_not_be_changed_nor_name_two_targets(scenario: Scenario) -> None:
    scenario.create(1)
    with pytest.raises(ApiError, match="a node or a pool, not both"):
        Move(scenario, to={"node": "node-t4", "pool": "t4"})
    move = Move(scenario, to={"node": "node-a100"})
    with pytest.raises(ApiError, match="can't be changed"):
        scenario.client.merge(move.path, {"spec": {"service": "other"}})


def test_one_without_a_service_ends_in_time(scenario: Scenario) -> None:
    scenario.create(1)
    lost = Move(scenario, service="nobody", deadlines={"reserve": "2s"})
    assert "no service nobody" in lost.ends(Phase.ROLLED_BACK)["message"]


def test_those_long_over_are_deleted(scenario: Scenario) -> None:
    scenario.create(1)
    move = Move(scenario, to={"node": "node-a100"}, ttl="1s")
    scenario.wait(lambda: scenario.client.find(move.path) is None, "its deletion")
