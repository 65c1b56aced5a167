"""New revisions take over as their service says, or are taken back; the one before serves on.

Real API server, controllers and scheduler; nodes and pods are simulated.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from conch.api.names import ANNOTATION_ROLLOUT, ANNOTATION_UNDO, LABEL_REVISION
from tests.control_plane.test_moving import Fewest
from tests.kit.client import Object
from tests.kit.control_plane import condition
from tests.kit.fleet import BROKEN_URI
from tests.kit.scenario import Scenario
from tests.kit.sweep import Lane


@pytest.fixture
def scenario(simulated_lane: Lane) -> Iterator[Scenario]:
    """A namespace without a service."""
    made = simulated_lane.scenario()
    yield made
    made.delete()


def rollout(scenario: Scenario) -> Object:
    """What the service says of its last rollout."""
    found: Object = (scenario.client.get(scenario.service).get("status") or {}).get("rollout") or {}
    return found


def serving(scenario: Scenario) -> Any:
    return scenario.client.get(scenario.service)["status"]["revision"]


def another(scenario: Scenario, **variant: Any) -> None:
    """Have the service ask for another revision."""
    scenario.update(**(variant or {"parameters": {"again": "yes"}}))


def order(scenario: Scenario, word: str) -> None:
    """Ask for something as kubectl conch rollout does."""
    annotations = {ANNOTATION_ROLLOUT: f"{word}/{rollout(scenario)['revision']}"}
    scenario.client.merge(scenario.service, {"metadata": {"annotations": annotations}})


def test_whole_and_told(scenario: Scenario) -> None:
    scenario.create(1)
    assert rollout(scenario) == {}
    old = scenario.only_revision()
    another(scenario)
    scenario.await_update(1, past=old)
    told = rollout(scenario)
    assert (told["phase"], told["stable"]) == ("Done", old)
    assert told["revision"] == scenario.only_revision()


def test_one_that_does_not_load_is_taken_back_in_time(scenario: Scenario) -> None:
    scenario.create(2, rollout={"progressDeadline": "4s"})
    old, before = scenario.only_revision(), {p["metadata"]["uid"] for p in scenario.serving()}
    another(scenario, source={"uri": BROKEN_URI})
    scenario.wait(lambda: rollout(scenario).get("phase") == "RolledBack", "that it is taken back")
    scenario.wait(lambda: scenario.revisions() == {old}, "the old revision alone")
    scenario.wait(lambda: scenario.settled(2), "2 replicas")
    assert {p["metadata"]["uid"] for p in scenario.serving()} == before
    assert "no progress within 4 s" in rollout(scenario)["message"]
    stalled = condition(scenario.client.get(scenario.service), "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "RolledBack")
    scenario.rest()
    another(scenario)
    scenario.await_update(2, past=old)
    assert rollout(scenario)["phase"] == "Done"
    assert condition(scenario.client.get(scenario.service), "Stalled")["status"] == "False"


def test_blue_green_waits_whole_for_a_person(scenario: Scenario) -> None:
    scenario.create(2, rollout={"strategy": "BlueGreen"})
    old = scenario.only_revision()
    fewest = Fewest(scenario.serving())
    with scenario.client.watching(scenario.pods, fewest.see):
        another(scenario)
        scenario.wait(lambda: rollout(scenario).get("phase") == "Waiting", "that it waits")
        scenario.rest()
        assert serving(scenario) == old
        assert len(scenario.client.items(scenario.pods)) == 4
        assert "kubectl conch rollout promote" in rollout(scenario)["message"]
        order(scenario, "promote")
        scenario.await_update(2, past=old)
    assert fewest.count >= 2
    assert rollout(scenario)["phase"] == "Done"


def test_one_that_is_aborted_goes_and_one_that_is_promoted_then_comes(scenario: Scenario) -> None:
    scenario.create(1, rollout={"strategy": "BlueGreen"})
    old = scenario.only_revision()
    another(scenario)
    scenario.wait(lambda: rollout(scenario).get("phase") == "Waiting", "that it waits")
    order(scenario, "abort")
    scenario.wait(lambda: rollout(scenario)["phase"] == "RolledBack", "that it is taken back")
    scenario.wait(lambda: scenario.revisions() == {old}, "the old revision alone")
    scenario.rest()
    order(scenario, "promote")
    scenario.await_update(1, past=old)
    assert rollout(scenario)["phase"] == "Done"


def test_a_pause_holds_it_and_its_end_lets_it_go_on(scenario: Scenario) -> None:
    scenario.create(1)
    old = scenario.only_revision()
    scenario.operator.kill()
    another(scenario, source={"uri": BROKEN_URI})
    scenario.operator.revive()
    scenario.wait(lambda: rollout(scenario).get("phase") == "Progressing", "that it begins")
    order(scenario, "pause")
    scenario.wait(lambda: rollout(scenario)["phase"] == "Paused", "that it pauses")
    scenario.client.merge(
        scenario.service, {"metadata": {"annotations": {ANNOTATION_ROLLOUT: None}}}
    )
    scenario.wait(lambda: rollout(scenario)["phase"] == "Progressing", "that it goes on")
    another(scenario)
    scenario.await_update(1, past=old)


def test_a_canary_without_a_front_door_takes_over_whole_and_says_so(scenario: Scenario) -> None:
    scenario.create(2, rollout={"strategy": "Canary"})
    old = scenario.only_revision()
    seen: list[str] = []

    def see(_: str, __: Object) -> None:
        seen.append(rollout(scenario).get("message", ""))

    with scenario.client.watching(scenario.pods, see):
        another(scenario)
        scenario.await_update(2, past=old)
    assert rollout(scenario)["phase"] == "Done"
    assert any("no front door" in text for text in seen)


def of_revision(scenario: Scenario, revision: str) -> list[Object]:
    """The pods of a revision that have traffic and answer."""
    return [p for p in scenario.serving() if p["metadata"]["labels"][LABEL_REVISION] == revision]


def test_what_serves_is_scaled_and_leaves_nodes_while_another_is_on_trial(
    scenario: Scenario,
) -> None:
    scenario.create(1, rollout={"strategy": "BlueGreen"})
    old = scenario.only_revision()
    another(scenario)
    scenario.wait(lambda: rollout(scenario).get("phase") == "Waiting", "that it waits")
    (left,) = {p["spec"]["nodeName"] for p in of_revision(scenario, old)}
    fewest = Fewest(of_revision(scenario, old))

    def see(event: str, pod: Object) -> None:
        if pod["metadata"]["labels"][LABEL_REVISION] == old:
            fewest.see(event, pod)

    with scenario.client.watching(scenario.pods, see):
        scenario.cordon(left)
        scenario.wait(
            lambda: not any(p["spec"]["nodeName"] == left for p in scenario.serving()),
            "that both revisions left the node",
        )
        scenario.cordon(left, cordoned=False)
        assert serving(scenario) == old
        scenario.client.merge(scenario.service, {"spec": {"replicas": 2}})
        scenario.wait(lambda: len(of_revision(scenario, old)) == 2, "2 replicas of what serves")
        scenario.wait(lambda: len(scenario.serving()) == 4, "2 of each")
    assert fewest.count == 1
    scenario.wait(lambda: rollout(scenario)["phase"] == "Waiting", "that it waits again")
    order(scenario, "promote")
    scenario.await_update(2, past=old)


def test_one_that_is_undone_is_so_until_another_is_applied(scenario: Scenario) -> None:
    scenario.create(2)
    first = scenario.only_revision()
    another(scenario)
    scenario.await_update(2, past=first)
    second = scenario.only_revision()
    fewest = Fewest(scenario.serving())
    with scenario.client.watching(scenario.pods, fewest.see):
        annotations = {ANNOTATION_UNDO: f"{second}/{first}"}
        scenario.client.merge(scenario.service, {"metadata": {"annotations": annotations}})
        scenario.await_update(2, past=second)
        assert scenario.only_revision() == first
        assert f"undone revision {second}" not in rollout(scenario)["message"], "that is over"
        scenario.rest()
        another(scenario, parameters={"third": "yes"})
        scenario.await_update(2, past=first)
    assert scenario.only_revision() not in (first, second)
    assert fewest.count >= 2


def test_as_many_past_revisions_are_kept_as_the_service_says(scenario: Scenario) -> None:
    scenario.create(1, rollout={"revisionHistoryLimit": 1})
    seen = [scenario.only_revision()]
    for number in range(3):
        another(scenario, parameters={"number": str(number)})
        scenario.await_update(1, past=seen[-1])
        seen.append(scenario.only_revision())
    path = f"/apis/apps/v1/namespaces/{scenario.namespace}/controllerrevisions"

    def kept() -> list[str]:
        return [r["metadata"]["labels"][LABEL_REVISION] for r in scenario.client.items(path)]

    scenario.wait(lambda: set(kept()) == set(seen[-2:]), "the last two revisions")
