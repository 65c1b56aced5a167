"""What the benchmark of moves counts as failed, as a bad canary's, and as slow."""

from types import SimpleNamespace
from typing import Any, cast

from e2e.bench.front_door.flow import RIGHT, Outcomes
from e2e.bench.nothing_drops.__main__ import _figures, _unmet
from e2e.bench.nothing_drops.acts import MOVER, ROLLED, Acts, Window

BAD = Window("bad rollout (errors)", ROLLED, 100.0, 110.0)
MOVE = Window("migration", MOVER, 50.0, 60.0)
NEIGHBOUR = Window("neighbour", MOVER, 70.0, 80.0)


def outcomes(name: str, *rows: tuple[float, float, str]) -> Outcomes:
    began, ended, what = zip(*rows, strict=True)
    return Outcomes(name=name, began=began, ended=ended, what=what)


def acts(**fields: Any) -> Acts:
    facts = {
        "windows": [MOVE, NEIGHBOUR, BAD],
        "done": {"migration": 1, "rollout": 1},
        "endings": [{"message": "it failed"}, {"message": "it is slow"}],
        "met": {"r2": 1.0},
        "kills": 8,
    }
    return cast("Acts", SimpleNamespace(**{**facts, **fields}))


def rows(at: float, *, seconds: float = 0.01, count: int = 20) -> list[tuple[float, float, str]]:
    return [(at + n / 10, at + n / 10 + seconds, RIGHT) for n in range(count)]


MOVED = outcomes(f"{MOVER} http", *rows(50.0, seconds=0.02), *rows(70.0, seconds=0.02))


def test_what_a_bad_canary_answered_is_counted_apart() -> None:
    wrong = (105.0, 105.1, "unavailable")
    found = _figures([MOVED, outcomes(f"{ROLLED} grpc", wrong, *rows(100.0, count=19))], acts())
    assert (found["failed"], found["canary_failed"]) == (0, 1)
    assert found["bad_canary_percent"] == 5.0
    assert list(_unmet({**found, "requests": 100_000}, quick=False)) == []


def test_all_else_that_failed_is_a_failure() -> None:
    before = outcomes(f"{ROLLED} grpc", (90.0, 90.1, "unavailable"), *rows(100.0))
    other = outcomes(f"{MOVER} grpc", (105.0, 105.1, "unavailable"), *rows(70.0))
    found = _figures([MOVED, before, other], acts())
    assert found["failed"] == 2
    assert [u.goal for u in _unmet(found, quick=True)] == ["0 failed"]


def test_moves_are_compared_with_the_start_of_a_neighbour() -> None:
    slow = outcomes(f"{MOVER} http", *rows(50.0, seconds=0.05), *rows(70.0, seconds=0.02))
    calm = outcomes(f"{ROLLED} http", *rows(100.0))
    found = _figures([slow, calm], acts())
    assert found["p99_ratio"] == 2.5
    goals = [u.goal for u in _unmet({**found, "operator_kills": 2, "requests": 9}, quick=False)]
    assert goals == [
        "p99 at most 1.2 times",
        "the operator killed in each phase",
        "100,000 requests",
    ]


def test_a_bad_canary_that_meets_too_many_is_told() -> None:
    calm = outcomes(f"{ROLLED} http", *rows(100.0))
    found = _figures([MOVED, calm], acts(met={"r2": 3.0}, endings=[]))
    goals = [u.goal for u in _unmet(found, quick=True)]
    assert goals == ["two bad rollouts taken back", "a bad canary meets at most 5 %"]
