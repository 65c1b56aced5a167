"""New revisions take over as their service says, or are taken back; the one before serves on.

Real API server, controllers and scheduler; nodes and pods are simulated.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from conch.api.names import ANNOTATION_ROLLOUT
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
