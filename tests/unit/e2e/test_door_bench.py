from pathlib import Path
from typing import Any

import pytest

from e2e.bench.front_door import changes, goals, nginx
from e2e.bench.front_door.compare import BARE, DIRECT, DOOR, NGINX, Measured, figures_of
from e2e.bench.front_door.flow import RIGHT, Outcomes
from e2e.bench.front_door.plot import plot

WARM = 0.5


def a_round(way: str, ms: float, *, failed: int = 0) -> Outcomes:
    """One round: a slow start that doesn't count, then a hundred alike."""
    began = [0.0, *(WARM + i * 0.01 for i in range(100))]
    ended = [9.0, *(b + ms / 1e3 for b in began[1:])]
    return Outcomes(way, began, ended, [RIGHT] * (101 - failed) + ["closed"] * failed)


def measured(door_ms: tuple[float, ...], door_rps: tuple[float, ...]) -> Measured:
    direct = (1.0, 5.0, 1.2)
    half = {
        DIRECT: [a_round(DIRECT, ms) for ms in direct],
        DOOR: [a_round(DOOR, d + ms) for d, ms in zip(direct, door_ms, strict=True)],
    }
    full = {DIRECT: [1000.0, 500.0, 1100.0], DOOR: [*door_rps]}
    for way in (BARE, NGINX):
        half[way], full[way] = half[DIRECT], full[DIRECT]
    return Measured(full, half)


def test_a_way_is_compared_with_the_direct_one_of_the_same_round() -> None:
    found = measured((0.2, 0.25, 4.0), (980.0, 500.0, 880.0)).figures(DOOR)
    assert found["added_ms_p50"] == 0.25
    assert found["added_ms_p50_by_round"] == [0.2, 0.25, 4.0]
    assert found["throughput_ratio"] == 0.98
    assert found["half_load"]["requests"] == 303


def test_the_worse_protocol_stands_for_both() -> None:
    http = measured((0.2, 0.2, 0.2), (990.0, 495.0, 1089.0))
    grpc = measured((0.4, 0.4, 0.4), (960.0, 480.0, 1056.0))
    found = figures_of({"http": http, "grpc": grpc})
    assert found["direct_rps"] == 1000
    assert (found["added_ms_p50"], found["throughput_ratio"]) == (0.4, 0.96)
    assert (found[NGINX]["added_ms_p50"], found[BARE]["throughput_ratio"]) == (0, 1)
    assert found[DOOR]["http"]["added_ms_p50"] == 0.2


def test_steps_are_changes_and_the_same_each_time() -> None:
    found = changes.steps(50, seed=1)
    assert set(found) == {1, 2, 3}
    assert all(a != b for a, b in zip([1, *found], found, strict=False))
    assert found == changes.steps(50, seed=1)


def test_nginx_has_the_shape_of_the_front_door() -> None:
    config, service, deployment = nginx.objects("10.96.0.7")
    text = config["data"]["nginx.conf"]
    assert "server 10.96.0.7:8000; keepalive 64;" in text
    assert "server 10.96.0.7:8001; keepalive 64;" in text
    assert text.count("{") == text.count("}")
    spec = deployment["spec"]
    assert spec["replicas"] == 2
    assert service["spec"]["selector"] == spec["template"]["metadata"]["labels"]


GOOD: dict[str, Any] = {
    "direct_rps": 1200,
    "added_ms_p50": 0.2,
    "throughput_ratio": 0.97,
    "requests": 50_000,
    "failed": 0,
    "changes": 50,
    "kills": {"front_door": {"failed_not_in_flight": 0}},
    "replay_kill_failed": 0,
    "cold_burst_lost": 0,
    "endpoint_change_s_at_2000": 0.5,
    "new_service_s_at_2000": 2.0,
    "disturbed_at_2000": 0,
}


def test_goals_are_reached() -> None:
    assert goals.unmet(GOOD) == []
    assert goals.unmet({}) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("direct_rps", 999),
        ("added_ms_p50", 0.31),
        ("throughput_ratio", 0.94),
        ("requests", 49_999),
        ("failed", 1),
        ("changes", 49),
        ("kills", {"pod": {"failed_not_in_flight": 1}}),
        ("replay_kill_failed", 1),
        ("cold_burst_lost", 1),
        ("endpoint_change_s_at_2000", 1.0),
        ("new_service_s_at_2000", 3.0),
        ("disturbed_at_2000", 1),
    ],
)
def test_each_goal_counts(name: str, value: Any) -> None:
    assert len(goals.unmet({**GOOD, name: value})) == 1


def test_the_picture(tmp_path: Path) -> None:
    way = [a_round(DIRECT, 1.0), a_round(DIRECT, 2.0)]
    drawn = plot(tmp_path / "p.png", {DIRECT: way}, [a_round("http", 2.0, failed=1)])
    assert drawn is not None
    assert drawn.stat().st_size > 10_000
    assert plot(tmp_path / "q.png", {}, []) is None
