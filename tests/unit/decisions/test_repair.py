"""Replicas that take requests and answer none: one at a time, seldom, and not for ever."""

from dataclasses import replace
from typing import Any

import pytest

from conch.decisions.fleet import Pod, Service
from conch.decisions.repair import (
    APART,
    CALM,
    Mending,
    Repair,
    hopeless,
    looked_at,
    marked,
    mending,
    sick,
)
from tests.unit.decisions.stories import NOW, drained, pod, replica_set, service

L = 10.0


def broken(name: str, **fields: object) -> Pod:
    return pod(name, **{"broken": "no answer to 12 requests in 8 s", **fields})


def of(*pods: Pod, **fields: object) -> Service:
    return service(replica_set(len(pods)), *pods, **fields)


def look(found: Service, known: Repair | None = None, now: float = NOW) -> Repair:
    return looked_at(found, known or Repair(), now, load_seconds=L)


def test_only_who_gets_requests_and_answers_none_is_sick() -> None:
    there = of(
        broken("p1"),
        broken("p2", ready=False),
        broken("p3", deleting=True),
        broken("p4", revision="r0"),
        broken("p5", serving=False),
        pod("p6"),
    )
    assert [p.name for p in sick(there)] == ["p1"]


def test_the_first_is_replaced_and_stays_the_one() -> None:
    there = of(broken("p2"), broken("p1"), pod("p3"))
    known = look(there)
    assert (known.uid, known.last, known.tries) == ("uid-p1", NOW, 1)
    assert look(there, known, NOW + 500.0) == known
    assert [p.name for p in marked(there, known).pods if p.replaced] == ["p1"]


def test_the_next_waits_its_time() -> None:
    known = look(of(broken("p1"), broken("p2")))
    rest = of(broken("p2"), pod("p9"))
    waits = look(rest, known, NOW + APART - 1.0)
    assert (waits.uid, waits.last) == (None, NOW)
    assert look(rest, waits, NOW + APART).uid == "uid-p2"


def test_it_waits_for_two_load_times_where_that_is_longer() -> None:
    known = replace(look(of(broken("p1"))), uid=None)
    for after, uid in ((199.0, None), (200.0, "uid-p2")):
        found = looked_at(of(broken("p2"), pod("p3")), known, NOW + after, load_seconds=100.0)
        assert found.uid == uid


def test_an_operator_that_begins_anew_takes_the_newest_for_the_last() -> None:
    there = of(broken("p1"), pod("p2", created=NOW - 30.0))
    assert look(there).uid is None
    assert look(there, now=NOW + 30.0).uid == "uid-p1"


def test_what_came_to_itself_is_left_alone() -> None:
    known = look(of(broken("p1"), pod("p2")))
    assert look(of(pod("p1"), pod("p2")), known, NOW + 5.0).uid is None


def test_it_ends_when_no_replica_answers_and_two_new_ones_did_not_either() -> None:
    known, now = Repair(), NOW
    for n in range(4):
        there = of(broken(f"p{n}"))
        known, now = look(there, known, now), now + 100.0
        assert (known.uid is not None) == (n < 2)
        assert hopeless(there, known) == (n >= 2)
    assert marked(there, known).irreparable
    one_answers = of(broken("p3"), pod("p4"))
    assert not hopeless(one_answers, known)
    assert look(one_answers, known, now).uid == "uid-p3"
    assert look(of(broken("p3"), revision="r1", serving_revision="r1"), known, now).uid is None
    assert look(of(broken("q1", revision="r2"), revision="r2"), known, now).uid == "uid-q1"


def test_what_was_tried_is_forgotten_after_a_long_calm() -> None:
    known = Repair("r1", last=NOW, tries=2)
    well = of(pod("p1"))
    assert look(well, known, NOW + CALM * APART - 1.0).tries == 2
    assert look(well, known, NOW + CALM * APART).tries == 0


def test_a_clock_that_went_back_holds_nobody_up() -> None:
    assert look(of(broken("p1"), pod("p2")), Repair("r1", last=NOW + 1e6)).uid == "uid-p1"


OLD = broken("p1", replaced=True)


def replaced(*others: Pod) -> Service:
    return of(OLD, *others)


@pytest.mark.parametrize(
    ("there", "wanted", "has", "said"),
    [
        (of(pod("p1")), 1, {"held": 1, "most": 1, "free": True}, Mending(1)),
        (replaced(), 1, {"held": 0, "most": 2, "free": True}, Mending(2)),
        (replaced(), 1, {"held": 0, "most": 1, "free": True}, Mending(1, OLD)),
        (replaced(), 1, {"held": 0, "most": 2, "free": False}, Mending(1, OLD)),
        (
            replaced(pod("p2", ready=False)),
            1,
            {"held": 1, "most": 2, "free": False},
            Mending(2),
        ),
        (replaced(pod("p2")), 1, {"held": 1, "most": 2, "free": False}, Mending(1)),
        (
            replaced(pod("p2"), broken("p3")),
            2,
            {"held": 2, "most": 3, "free": False},
            Mending(3),
        ),
        (replaced(drained("p2", ago=5.0)), 0, {"held": 0, "most": 0, "free": False}, Mending(0)),
    ],
    ids=[
        "nothing to do",
        "beside it",
        "no share",
        "no place",
        "it starts",
        "it answers",
        "another one answers nothing either",
        "nobody is wanted",
    ],
)
def test_the_replacement_comes_first_where_it_has_a_place(
    there: Service, wanted: int, has: Any, said: Mending
) -> None:
    assert mending(there, wanted, **has) == said
