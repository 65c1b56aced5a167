"""A revision on trial stands beside the one that serves, which is scaled and moved as ever."""

from typing import Any

import pytest

from conch.decisions.fleet import Pod, Pool, ReplicaSet, Service
from conch.decisions.placement import Ledger
from conch.decisions.replicas import book_admitted, plan
from conch.decisions.rolling import Course
from conch.decisions.shares import Grant
from conch.decisions.steps import Plan
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

FEW = Course(1, percent=5.0)


def tried(*parts: ReplicaSet | Pod, **fields: Any) -> Service:
    """r1 serves, r2 is on trial beside it."""
    return service(*parts, trial="r2", **fields)


def new(name: str = "c1", **fields: Any) -> Pod:
    return pod(name, revision="r2", **fields)


def young(replicas: int, **fields: Any) -> ReplicaSet:
    return replica_set(replicas, revision="r2", **fields)


def next_step(
    of: Service, wanted: int, *, gpus: int = 8, how: Course = FEW, grant: Grant | None = None
) -> Plan:
    there: list[Pool] = [
        pool("a", node("n1", gpus=gpus, used=sum(p.node == "n1" for p in of.pods)))
    ]
    books, shapes = Ledger(), {"a": ONE_GPU}
    book_admitted(of, there, shapes, books)
    return plan(
        of,
        wanted,
        pools=there,
        shapes=shapes,
        ledger=books,
        now=NOW,
        grant=grant,
        course=how,
        trial_shapes=shapes,
    )


def targets(found: Plan) -> dict[str, int]:
    return {s.revision: s.target for s in found.sets}


def old(count: int) -> list[Pod]:
    return [pod(f"o{n}") for n in range(count)]


def test_it_gets_few_replicas_and_a_share_and_the_other_one_keeps_its_own() -> None:
    found = next_step(tried(replica_set(2), young(1), *old(2), new()), 2)
    assert targets(found) == {"r1": 2, "r2": 1}
    assert (found.serving_revision, found.canary) == ("r1", ("r2", 5.0))
    assert not found.drains
    starts = next_step(tried(replica_set(2), young(1), *old(2), new(ready=False)), 2)
    assert starts.canary is None, "it does not answer yet"


@pytest.mark.parametrize("wanted", [1, 4])
def test_the_one_that_serves_is_scaled_meanwhile(wanted: int) -> None:
    found = next_step(tried(replica_set(2), young(1), *old(2), new()), wanted)
    assert targets(found) == {"r1": wanted, "r2": 1}


def test_all_of_it_may_stand_beside() -> None:
    found = next_step(tried(replica_set(2), *old(2)), 3, how=Course(3, whole=True))
    assert targets(found) == {"r1": 3, "r2": 3}


def test_what_is_free_goes_to_the_one_that_serves_first_where_nothing_is_given_up_for_all() -> None:
    found = next_step(tried(replica_set(2), *old(2)), 3, gpus=4, how=Course(3, whole=True))
    assert targets(found) == {"r1": 3, "r2": 1}


def test_it_stays_as_it_is_until_the_status_tells_of_it() -> None:
    found = next_step(tried(replica_set(2), young(1), *old(2), new()), 2, how=Course())
    assert targets(found) == {"r1": 2}
    assert (found.drains, found.deletions, found.retired) == ((), (), ())


def full(*parts: ReplicaSet | Pod, wanted: int = 3, **fields: Any) -> Plan:
    return next_step(tried(*parts), wanted, gpus=3, **fields)


def test_on_a_full_pool_one_replica_makes_way_and_the_place_is_not_taken_back() -> None:
    gives = full(replica_set(3), *old(3))
    assert targets(gives)["r1"] == 2
    assert len(gives.drains) == 1
    leaving = full(replica_set(3, gated=True), *old(2), drained("o2", ago=1))
    assert targets(leaving)["r1"] == 2, "no second one while the first leaves"
    assert not leaving.drains
    free = full(replica_set(2), *old(2))
    assert targets(free) == {"r1": 2, "r2": 1}, "the place is for the one on trial"
    waits = full(replica_set(2), young(1, gated=True), *old(2), gated("c1", revision="r2"))
    assert [a.pod.name for a in waits.admissions] == ["c1"]
    there = full(replica_set(2), young(1), *old(2), new())
    assert targets(there) == {"r1": 2, "r2": 1}
    assert there.shortage == 1, "the other one lacks a replica, and says so"
    assert not there.drains


def test_the_next_makes_way_once_the_first_of_the_new_ones_answers() -> None:
    two = Course(2, percent=50.0)
    starts = full(replica_set(2), young(1), *old(2), new(ready=False), how=two)
    assert not starts.drains
    answers = full(replica_set(2), young(1), *old(2), new(), how=two)
    assert len(answers.drains) == 1


def test_the_only_replica_makes_way_for_nothing() -> None:
    found = next_step(tried(replica_set(1), *old(1)), 1, gpus=1)
    assert not found.drains
    assert targets(found)["r1"] == 1


def test_shares_are_a_bound_like_places() -> None:
    limit = Grant({"a": 3})
    gives = next_step(tried(replica_set(3), *old(3)), 3, grant=limit)
    assert len(gives.drains) == 1
    there = next_step(tried(replica_set(2), young(1), *old(2), new()), 3, grant=limit)
    assert targets(there) == {"r1": 2, "r2": 1}
    assert not there.drains


def test_what_others_get_the_place_of_goes_and_the_other_revision_stays() -> None:
    taken = Grant({"a": 2}, given_up=frozenset({"uid-c1"}))
    found = next_step(tried(replica_set(2), young(1), *old(2), new()), 2, grant=taken)
    assert names(found.drains) == ["c1"]
    assert targets(found)["r1"] == 2
