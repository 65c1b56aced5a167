"""The operator is killed at every write and ends where an undisturbed one does.

Real API server, controllers and scheduler; nodes and pods are simulated.
"""

import contextlib
import os
from collections.abc import Iterator

import pytest

from conch.clients.clock import SystemClock
from tests.kit.fleet import Place
from tests.kit.report import PROPERTY, Recorder
from tests.kit.scenario import LIVES, in_use
from tests.kit.sweep import Death, Expected, Lane, every_point, lane, storm, sweep, undisturbed

LANES, PLACES = 2, 6
"""Services live side by side: each waits more than it works."""
SHARE = int(os.environ.get("CONCH_SWEEP_SHARE", "13"))
"""Each run sweeps one of so many points; 1 sweeps all of them (`make sweep`). An odd number takes
deaths before and after a write in turns."""
TODAY = int(os.environ.get("CONCH_SWEEP_PART") or SystemClock().wall() // 86400)
"""Which ones: those of the day; the closing lines tell, so that a run can be repeated."""


@pytest.fixture(scope="module")
def lanes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Lane]]:
    places = tuple(Place(f"place-{number}") for number in range(PLACES))
    with contextlib.ExitStack() as stack:
        directories = [tmp_path_factory.mktemp("lane") for _ in range(LANES)]
        yield [stack.enter_context(lane(d, places=places, forked=True)) for d in directories]


@pytest.fixture(scope="module")
def expected(lanes: list[Lane]) -> dict[str, Expected]:
    """How each life ends undisturbed; two runs of it agree."""
    return undisturbed(lanes, list(LIVES))


@pytest.fixture(scope="module")
def deaths(lanes: list[Lane], expected: dict[str, Expected]) -> list[Death]:
    points = every_point(expected)
    return sweep(lanes, expected, points[TODAY % SHARE :: SHARE])


@pytest.mark.parametrize("life", LIVES)
def test_every_write_is_a_safe_place_to_die(
    life: str,
    expected: dict[str, Expected],
    deaths: list[Death],
    record_property: Recorder,
) -> None:
    mine = [d for d in deaths if d.point.life == life]
    swept = [d for d in mine if d.write]
    points = 2 * expected[life].writes
    part = f" (part {TODAY % SHARE} of {SHARE})" if SHARE > 1 else ""
    text = f"{len(swept)} of {points} points swept{part}"
    record_property(PROPERTY, f"crash sweep, {life}: {text}")
    # Timing moves a few writes; a sweep that misses many would show nothing.
    assert len(swept) >= 0.8 * points / SHARE
    failed = [d for d in mine if d.faults]
    assert not failed, f"{text}\n\n" + "\n\n".join(map(str, failed))


def test_a_storm_of_refusals_changes_nothing_in_the_end(
    lanes: list[Lane], expected: dict[str, Expected], record_property: Recorder
) -> None:
    survivors, count = storm(lanes, expected, rate=0.15, seed=TODAY)
    text = f"{count} faults befell {len(survivors)} services (seed {TODAY})"
    record_property(PROPERTY, f"storm: {text}")
    assert count > 50
    failed = sorted((f"{s.life}:\n" + "\n".join(s.faults) for s in survivors if s.faults), key=len)
    assert not failed, f"{text}\n\n" + "\n\n".join(failed)


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
