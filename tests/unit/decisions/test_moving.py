"""Replicas leave nodes that are to be left only once others answer in their place."""

from typing import Any

import pytest

from conch.decisions.fleet import Pod, Service
from conch.decisions.moving import Moving, leaving, marked, movable, moving, sent_off, to_leave
from conch.decisions.placement import Ledger
from conch.decisions.replicas import plan
from tests.unit.decisions.stories import (
    NOW,
    ONE_GPU,
    drained,
    gated,
    names,
    node,
    pod,
    pool,
    replica_set,
    service,
)

CORDONED = "cordoned"
SPOT = {"key": "cloud.example/spot-notice", "effect": "NoSchedule"}
PRESSED = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}


def old(name: str, **fields: Any) -> Pod:
    return pod(name, **{"leaves": CORDONED, **fields})


def of(*pods: Pod, **fields: Any) -> Service:
    return service(replica_set(len(pods)), *pods, **fields)


def move(*pods: Pod, wanted: int, room: int = 9, most: float = 9) -> Moving:
    return moving(of(*pods), wanted, room=room, most=most)


def test_what_says_that_a_node_is_to_be_left() -> None:
    tolerated = {"key": "nvidia.com/gpu", "effect": "NoSchedule"}
    there = pool(
        "a",
        node("plain"),
        node("cordoned", schedulable=False),
        node("gpu", taints=(tolerated,)),
        node("spot", taints=(tolerated, SPOT)),
        node("pressed", taints=(PRESSED,)),
        node("softly", taints=({"key": "x", "effect": "PreferNoSchedule"},)),
        tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists"}],
    )
    assert sorted(to_leave([there])) == ["cordoned", "pressed", "spot"]


def test_a_replica_that_tolerates_the_taint_stays() -> None:
    nodes = to_leave([pool("a", node("n1", taints=(SPOT,)), node("n2", schedulable=False))])
    both = of(pod("p1"), pod("p2", node="n2"), pod("p3", node="n3"), gated("p4"))
    why = {p.name: p.leaves for p in marked(both, nodes, {"a": ONE_GPU}).pods if p.leaves}
    taint = "with taint cloud.example/spot-notice:NoSchedule, which is not tolerated"
    assert why == {"p1": taint, "p2": CORDONED}
    calm = ONE_GPU.__class__(ONE_GPU.need, ({"operator": "Exists"},))
    found = marked(both, nodes, {"a": calm}).pods
    assert [p.name for p in found if p.leaves] == ["p2"], "a cordon is meant for all"
    other_pool = marked(both, nodes, {"b": ONE_GPU})
    assert other_pool is both


def test_only_who_answers_has_to_be_replaced_first() -> None:
    there = of(
        old("p1"),
        old("p2", ready=False),
        old("p3", deleting=True),
        drained("p4", ago=2, leaves=CORDONED),
        pod("p5"),
    )
    assert [p.name for p in movable(there)] == ["p1"]
    assert [p.name for p in leaving(there)] == ["p1", "p4"], "one that drains may come back"


def test_nothing_leaves_nothing_changes() -> None:
    assert move(pod("p1"), pod("p2"), wanted=2) == Moving(2)


def test_the_other_comes_first_then_the_old_one_goes() -> None:
    assert move(old("p1"), wanted=1) == Moving(2)
    starting = pod("p2", ready=False)
    assert move(old("p1"), starting, wanted=1, room=0) == Moving(2), "it is on its way"
    assert move(old("p1"), pod("p2"), wanted=1, room=0) == Moving(1, frozenset({"uid-p1"}))


def test_as_many_at_a_time_as_there_is_room_for() -> None:
    three = [old(f"p{n}") for n in range(3)]
    assert move(*three, wanted=3) == Moving(6)
    assert move(*three, wanted=3, room=2) == Moving(5, stuck=1)
    assert move(*three, wanted=3, most=4) == Moving(4, stuck=2)
    arrived = move(*three, pod("new"), pod("next", ready=False), wanted=3)
    assert arrived == Moving(5, frozenset({"uid-p0"}))


def test_one_that_drains_goes_on_while_enough_others_answer() -> None:
    drains = drained("p2", ago=1, leaves=CORDONED)
    assert move(old("p1"), drains, pod("new"), wanted=2) == Moving(3, frozenset({"uid-p2"}))
    assert move(old("p1"), drains, wanted=2) == Moving(4), "the one that came is gone again"
    assert move(drains, pod("new"), wanted=1).going == {"uid-p2"}


def test_what_may_go_makes_room_for_another_at_once() -> None:
    """Two leave, one of two others answers: had it to wait for the second, none would ever go."""
    here, there = pool("a", node("n1", schedulable=False)), pool("b", node("n2"))
    pods = (old("p1"), old("p2"), pod("new", pool="b", node="n2"))
    found = moving(service(*pods), 2, room=3, most=9)
    both = service(replica_set(2), replica_set(1, pool="b"), *pods)
    step = plan(
        sent_off(both, found.going),
        found.replicas,
        pools=(here, there),
        shapes={"a": ONE_GPU, "b": ONE_GPU},
        ledger=Ledger(),
        now=NOW,
    )
    assert {(s.pool, s.target) for s in step.sets} == {("a", 1), ("b", 2)}
    assert names(step.drains) == ["p1"]


def test_without_another_place_it_stays() -> None:
    assert move(old("p1"), wanted=1, room=0) == Moving(1, stuck=1)


def test_what_is_too_much_anyway_goes_without_another() -> None:
    there = [old("p1", created=NOW - 10), old("p2"), pod("p3")]
    assert move(*there, wanted=2, room=0) == Moving(2, frozenset({"uid-p2"}), stuck=1)
    assert move(*there, wanted=0).going == {"uid-p1", "uid-p2"}


def test_what_starts_for_more_load_takes_the_place_of_none() -> None:
    there = [old("p1"), pod("p2", ready=False)]
    assert move(*there, wanted=2, room=0) == Moving(2, stuck=1)


@pytest.mark.parametrize("places", range(6))
@pytest.mark.parametrize("wanted", range(1, 5))
def test_at_no_time_answer_fewer_than_are_wanted_and_in_the_end_all_have_left(
    places: int, wanted: int
) -> None:
    """A small world with so many places elsewhere; in each step one replica that starts is ready."""
    pods = [old(f"p{n}") for n in range(wanted)]
    for step in range(40):
        elsewhere = sum(not p.leaves for p in pods)
        found = move(*pods, wanted=wanted, room=places - elsewhere)
        first = next((p for p in pods if not p.ready), None)
        leave = [p for p in pods if p.uid in found.going]
        pods = [pod(p.name) if p is first else p for p in pods if p not in leave]
        more = min(found.replicas - len(pods), places - elsewhere)
        pods += [pod(f"new{step}-{n}", ready=False) for n in range(more)]
        assert sum(p.ready for p in pods) >= wanted
    assert sum(bool(p.leaves) for p in pods) == max(0, wanted - places)
    assert len(pods) == wanted


def test_who_may_go_is_told_so() -> None:
    there = of(old("p1"), pod("p2"))
    assert [p.name for p in sent_off(there, ["uid-p1"]).pods if p.goes] == ["p1"]
    assert sent_off(there, []) is there


def test_a_cordoned_node_takes_nobody() -> None:
    left = pool("a", node("n1", schedulable=False))
    assert Ledger().room(left, ONE_GPU, 5) == 0
