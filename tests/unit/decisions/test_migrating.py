"""A migration goes on phase by phase, from its object and from what is there alone."""

from dataclasses import replace
from typing import Any

import pytest

from conch.api.migration import ModelMigrationSpec, ModelMigrationStatus, Phase, Seat
from conch.api.names import ANNOTATION_DISTURBED
from conch.decisions.fleet import Pod, Pool, Service, Sign
from conch.decisions.migrating import (
    Ground,
    Migration,
    Next,
    Order,
    Warmth,
    advanced,
    marked,
    orders,
    surge,
)
from conch.decisions.moving import moving, sent_off
from conch.decisions.placement import Ledger
from conch.decisions.replicas import plan
from conch.decisions.steps import Admission
from tests.unit.decisions.stories import (
    NOW,
    ONE_GPU,
    drained,
    gated,
    node,
    pod,
    pool,
    replica_set,
    service,
)

A = pool("a", node("n1", used=1), node("n2"))
B = pool("b", node("m1"))
OLD = Seat(pod="p1", uid="uid-p1", node="n1", pool="a")
P = Phase


def move(phase: Phase | None = None, *, ago: float = 1.0, **spec: Any) -> Migration:
    source = None if phase is None else OLD
    return Migration(
        name="move",
        spec=ModelMigrationSpec.model_validate({"service": "digits", **spec}),
        status=ModelMigrationStatus(phase=phase, source=source),
        created=NOW - ago,
        since=NOW - ago,
    )


def new(**fields: Any) -> Pod:
    """The replica that takes over, ready and without traffic."""
    return pod("new", **{"node": "m1", "pool": "b", "serving": False, "comes": "move", **fields})


def ground(*pods: Pod, **fields: Any) -> Ground:
    there = service(replica_set(len(pods)), *pods, **fields)
    return Ground(there, (A, B), {"a": ONE_GPU, "b": ONE_GPU}, Ledger())


def step(migration: Migration, *pods: Pod, **more: Any) -> Next:
    return advanced(migration, ground(*pods), NOW, **more)


def test_it_begins_with_the_oldest_that_is_not_there_already() -> None:
    pods = [pod("p1", created=NOW - 9), pod("p2", created=NOW - 99, node="m1", pool="b")]
    assert step(move(to={"pool": "b"}), *pods) == Next(P.RESERVE, "a place is free", OLD)
    found = step(move(), *pods)
    assert found.source is not None
    assert found.source.pod == "p2"
    named = step(move(replica="p1"), *pods)
    assert named.source == OLD


def test_one_that_was_moved_already_is_not_the_first_to_move_again() -> None:
    pods = [pod("p1", created=NOW - 9), pod("p2", created=NOW - 99, comes="earlier", node="n2")]
    assert step(move(to={"pool": "b"}), *pods).source == OLD


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"to": {"pool": "c"}}, "pool c is none that digits may use; these are: a, b"),
        ({"to": {"node": "x"}}, "node x is in no pool"),
        ({"to": {"node": "n1"}}, "p1 is on n1 already"),
        ({"to": {"pool": "a"}}, "p1 is on a already"),
        ({"replica": "p9"}, "no replica p9 of digits answers"),
    ],
)
def test_what_can_never_be_is_refused(spec: dict[str, Any], words: str) -> None:
    found = step(move(**spec), pod("p1"))
    assert found.phase is P.ROLLED_BACK
    assert words in found.message


def test_a_node_that_takes_nobody_or_is_too_small_is_refused() -> None:
    closed = pool("b", node("m1", schedulable=False), node("m2", gpus=0))
    there = Ground(service(pod("p1")), (A, closed), {"a": ONE_GPU, "b": ONE_GPU}, Ledger())
    for name, words in (("m1", "cordoned"), ("m2", "only 0")):
        found = advanced(move(to={"node": name}), there, NOW)
        assert found.phase is P.ROLLED_BACK
        assert words in found.message


ILL = (Sign("XIDErrors", "XIDErrors", 1.0),)


def on(spec: dict[str, Any], *where: Pool) -> tuple[Next, list[Admission]]:
    """Return the next step of a move of p1 in these pools, and the admissions of the pod in a."""
    pods = pod("p1"), gated("p2")
    there = service(replica_set(2, gated=True), *pods)
    shapes, migration = {p.name: ONE_GPU for p in where}, move(P.RESERVE, **spec)
    basis = Ground(there, where, shapes, Ledger())
    found = plan(
        marked(there, [migration], basis),
        2,
        pools=where,
        shapes=shapes,
        ledger=Ledger(),
        now=NOW,
        orders=orders(there, [migration], basis),
    )
    return advanced(migration, basis, NOW), list(found.admissions)


def test_a_node_that_seems_to_fail_is_moved_to_only_where_it_is_named() -> None:
    here = pool("a", node("n1", used=1), node("n2", signs=ILL))
    for others in ((), (B,)):
        _, admitted = on({}, here, *others)
        assert [a for a in admitted if a.migration] == []
    step_, _ = on({}, here)
    assert "1 has room but shows XIDErrors" in step_.message
    step_, admitted = on({"to": {"node": "n2"}}, here)
    assert step_.message == "another replica is begun"
    assert [(a.node, a.migration) for a in admitted] == [("n2", "move")]


def test_where_the_scheduler_chooses_a_moved_pod_is_kept_off_such_nodes() -> None:
    nodes = [node("n1", used=1), node("n2", signs=ILL), node("n3"), node("n4", signs=ILL)]
    _, admitted = on({}, pool("a", *nodes, elastic=True))
    assert [(a.node, a.migration, a.avoid) for a in admitted] == [
        (None, "move", ("n1", "n2", "n4"))
    ]


def test_a_second_one_is_refused_and_one_without_a_service_waits() -> None:
    assert step(move(), pod("p1"), ahead="first").phase is P.ROLLED_BACK
    assert advanced(move(), None, NOW).phase is P.RESERVE
    assert advanced(move(ago=200), None, NOW).phase is P.ROLLED_BACK


def test_each_phase_follows_from_what_is_there() -> None:
    old = pod("p1")
    assert step(move(P.RESERVE), old).phase is P.RESERVE
    assert step(move(P.RESERVE), old, new(ready=False)).phase is P.LOAD
    assert step(move(P.LOAD), old, new(ready=False)).phase is P.LOAD
    assert step(move(P.LOAD), old, new()).phase is P.WARM
    assert step(move(P.WARM), old, new()).phase is P.WARM
    good, bad = Warmth(passed=True, text="in 5 ms"), Warmth(passed=False, text="in 900 ms")
    assert step(move(P.WARM), old, new(), warmth=good).phase is P.SHIFT
    assert step(move(P.WARM), old, new(), warmth=bad).phase is P.ROLLED_BACK
    assert step(move(P.SHIFT), old, new()).phase is P.SHIFT
    assert step(move(P.SHIFT), drained("p1", ago=1), new(serving=True)).phase is P.DRAIN
    assert step(move(P.DRAIN), drained("p1", ago=1), new(serving=True)).phase is P.DRAIN
    done = step(move(P.DRAIN), new(serving=True))
    assert (done.phase, done.message) == (P.DONE, "new answers on m1")
    assert done.target is not None
    assert done.target.node == "m1"


@pytest.mark.parametrize("phase", [P.RESERVE, P.LOAD, P.WARM, P.SHIFT])
def test_a_phase_that_lasts_too_long_is_taken_back(phase: Phase) -> None:
    late = step(move(phase, ago=3600), pod("p1"), new(ready=phase is not P.LOAD, node="m1"))
    if phase is P.RESERVE:
        assert late.phase is P.LOAD, "it has begun just now"
        late = step(move(phase, ago=3600), pod("p1"))
    if phase is P.LOAD:
        late = step(move(phase, ago=3600), pod("p1"), new(ready=False))
    assert late.phase is P.ROLLED_BACK
    assert f"{phase} took longer than" in late.message


def test_a_drain_that_lasts_too_long_is_done_all_the_same() -> None:
    late = step(move(P.DRAIN, ago=3600), drained("p1", ago=999), new(serving=True))
    assert late.phase is P.DONE


@pytest.mark.parametrize("phase", [P.RESERVE, P.LOAD, P.WARM])
def test_one_that_ends_by_itself_needs_no_other(phase: Phase) -> None:
    assert step(move(phase), pod("p2"), new()).phase is P.ROLLED_BACK
    other = replace(pod("p1"), revision="r0")
    assert "update" in step(move(phase), other, new()).message


def test_the_place_that_is_asked_for() -> None:
    there = ground(pod("p1"))
    for_node = move(P.RESERVE, to={"node": "m1"})
    assert orders(there.service, [for_node], there) == (Order("move", "b", "m1", "n1"),)
    anywhere = move(P.RESERVE)
    assert orders(there.service, [anywhere], there) == (Order("move", None, None, "n1"),)
    begun = ground(pod("p1"), new(ready=False))
    assert orders(begun.service, [for_node], begun) == ()
    assert orders(there.service, [move(P.LOAD, to={"node": "m1"})], there) == ()


def test_who_comes_for_one_that_neighbours_disturb_is_told_so() -> None:
    mark: dict[str, Any] = {"metadata": {"annotations": {ANNOTATION_DISTURBED: "true"}}}
    there, known = ground(pod("p1")), ground(pod("p1", body=mark))
    for migration, here, wanted in (
        (move(P.RESERVE), there, False),
        (move(P.RESERVE, reason="Interference"), there, True),
        (move(P.RESERVE), known, True),
    ):
        (order,) = orders(here.service, [migration], here)
        assert order.disturbed is wanted
    first = planned(move(P.RESERVE, reason="Interference"), pod("p1"), gated("new", pool="b"))
    assert [(a.migration, a.disturbed) for a in first.admissions] == [("move", True)]


def parts(migration: Migration, *pods: Pod) -> Service:
    there = ground(*pods)
    return marked(there.service, [migration], there)


def test_who_leaves_stays_until_the_other_is_warm() -> None:
    for phase in (P.RESERVE, P.LOAD, P.WARM):
        found = parts(move(phase), pod("p1", leaves="cordoned"), new())
        assert surge(found) == 1
        assert found.pods[0].leaves is None, "one replacement is enough"
        assert not found.pods[1].warm
    shifted = parts(move(P.SHIFT), pod("p1"), new())
    assert surge(shifted) == 0
    assert shifted.pods[0].leaves
    assert shifted.pods[1].warm


def test_whose_migration_is_over_goes_unless_it_has_traffic() -> None:
    for phase in (P.ROLLED_BACK, P.DONE):
        found = parts(move(phase), pod("p1"), new())
        assert [p.goes for p in found.pods] == [False, True]
        assert surge(found) == 0
        kept = parts(move(phase), pod("p1"), new(serving=True))
        assert not any(p.goes for p in kept.pods)


def test_where_there_is_no_room_nothing_is_begun() -> None:
    full = pool("b", node("m1", used=4))
    there = Ground(service(pod("p1", leaves="cordoned")), (full,), {"b": ONE_GPU}, Ledger())
    found = marked(there.service, [move(P.RESERVE, to={"node": "m1"})], there)
    assert surge(found) == 0
    assert found.pods[0].leaves, "its node is left by other ways meanwhile"


def planned(migration: Migration, *pods: Pod, wanted: int = 1) -> Any:
    """One pass of the planner over a service whose sets are in a and b."""
    in_b = sum(p.pool == "b" for p in pods)
    sets = [replica_set(len(pods) - in_b), replica_set(in_b, pool="b")]
    there = service(*sets, *pods)
    found = Ground(there, (A, B), {"a": ONE_GPU, "b": ONE_GPU}, Ledger())
    now = marked(there, [migration], found)
    moves = moving(now, wanted, room=9, most=9)
    return plan(
        sent_off(now, moves.going),
        moves.replicas + surge(now),
        pools=found.pools,
        shapes=found.shapes,
        ledger=Ledger(),
        now=NOW,
        orders=orders(now, [migration], found),
    )


def test_the_other_replica_is_begun_placed_and_warmed_where_it_is_wanted() -> None:
    wish: dict[str, Any] = {"to": {"node": "m1"}}
    first = planned(move(P.RESERVE, **wish), pod("p1"))
    assert {(s.pool, s.replicas) for s in first.sets} == {("a", 1), ("b", 1)}
    waiting = planned(move(P.RESERVE, **wish), pod("p1"), gated("new", pool="b"))
    (admission,) = waiting.admissions
    assert (admission.node, admission.migration) == ("m1", "move")
    warm = planned(move(P.WARM, **wish), pod("p1"), new())
    assert [*warm.drains, *warm.restores, *warm.deletions] == []
    shift = planned(move(P.SHIFT, **wish), pod("p1"), new())
    assert [p.name for p in shift.restores] == ["new"]
    assert not shift.drains
    leave = planned(move(P.SHIFT, **wish), pod("p1"), new(serving=True))
    assert [p.name for p in leave.drains] == ["p1"]
    back = planned(move(P.ROLLED_BACK, **wish), pod("p1"), new())
    assert [p.name for p in back.drains] == []
    assert {(s.pool, s.target) for s in back.sets} == {("a", 1), ("b", 0)}


def test_another_node_of_the_same_pool_is_not_the_one_that_is_left() -> None:
    there = planned(move(P.RESERVE, to={"pool": "a"}), pod("p1"), gated("new"))
    assert [a.node for a in there.admissions] == ["n2"]
