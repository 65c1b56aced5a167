"""The operator is killed at every write and ends where an undisturbed one does.

Real API server, controllers and scheduler; nodes and pods are simulated.
"""

import contextlib
import sys
from collections.abc import Iterator

import pytest

from tests.kit.scenario import in_use
from tests.kit.sweep import Lane, lane, sweep, undisturbed


@pytest.fixture(scope="module")
def lanes(simulated_lane: Lane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Lane]]:
    """Three of them: each waits more than it works, so that they fit on two cores."""
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(lane(tmp_path_factory.mktemp("lane"))) for _ in range(2)]
        yield [simulated_lane, *others]


def test_every_write_is_a_safe_place_to_die(
    lanes: list[Lane], capsys: pytest.CaptureFixture[str]
) -> None:
    expected, count = undisturbed(lanes)
    points = sweep(lanes, expected, range(1, count + 1))
    swept = [p for p in points if p.write]
    with capsys.disabled():
        sys.stdout.write(f"\n{len(swept)} write points swept, {count} in the undisturbed run\n")
    # Timing moves a few writes; a sweep that misses many would show nothing.
    assert len(swept) >= 0.9 * count
    failed = [p for p in points if p.faults]
    assert not failed, "\n\n".join(map(str, failed))


def test_a_lost_pod_comes_back_without_the_operator(simulated_lane: Lane) -> None:
    scenario = simulated_lane.scenario()
    scenario.create(2)
    simulated_lane.operator.kill()
    lost = scenario.client.items(scenario.pods)[0]["metadata"]
    scenario.client.delete(f"{scenario.pods}/{lost['name']}")

    def replaced() -> bool:
        pods = scenario.client.items(scenario.pods)
        others = [p for p in pods if p["metadata"]["uid"] != lost["uid"]]
        return len(others) == len(pods) == 2 and all(map(in_use, others))

    scenario.wait(replaced, "another pod in its place", revive=False)
    scenario.delete()


def test_nothing_is_written_at_rest(simulated_lane: Lane) -> None:
    scenario = simulated_lane.scenario()
    scenario.create(3)
    scenario.rest(quiet_s=10 * simulated_lane.operator.tick_seconds)
    scenario.delete()
