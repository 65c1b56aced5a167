"""A rollout goes on step by step, by what is there and what was counted, and is taken back in time."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from conch.api.rollout import RolloutPhase, RolloutSpec
from conch.decisions.canary import BOUNDS, Tally
from conch.decisions.fleet import Pod, Service
from conch.decisions.placement import Ledger
from conch.decisions.replicas import plan
from conch.decisions.rolling import (
    Course,
    Evidence,
    Order,
    Rollout,
    advanced,
    begun,
    course,
    on_trial,
)
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

P = RolloutPhase
OLD = [pod("o1"), pod("o2")]


def spec(strategy: str = "Canary", **fields: Any) -> RolloutSpec:
    return RolloutSpec.model_validate({"strategy": strategy, **fields})


def there(*pods: Pod) -> Service:
    """r1 has the traffic, r2 is wanted."""
    return service(*OLD, *pods, revision="r2", serving_revision="r1")


def on(*pods: Pod, old: Sequence[Pod] = tuple(OLD)) -> Service:
    """r1 has the traffic, r2 is on trial beside it."""
    return service(*old, *pods, revision="r1", serving_revision="r1", trial="r2")


def new(name: str = "n1", **fields: Any) -> Pod:
    return pod(name, revision="r2", **fields)


def tally(requests: int, failed: int = 0, *, slow: bool = False) -> Tally:
    buckets = [0] * (len(BOUNDS) + 1)
    buckets[30 if slow else 10] = requests - failed
    return Tally(requests, failed, 0, tuple(buckets))


def known(**fields: Any) -> Evidence:
    facts: dict[str, Any] = {
        "tallies": {"r1": tally(10_000), "r2": tally(0)},
        "door": True,
        "room": True,
        "p99": None,
        "order": None,
        "failure": None,
    }
    return Evidence(**{**facts, **fields})


def rollout(**fields: Any) -> Rollout:
    facts = {"phase": P.PROGRESSING, "began": NOW - 100, "since": NOW - 100, "step": 0}
    return Rollout("r2", "r1", **{**facts, **fields})


def test_it_begins_once_and_is_done_once_it_has_the_traffic() -> None:
    first = begun(None, on(), spec(), NOW)
    assert first is not None
    assert (first.revision, first.stable, first.step) == ("r2", "r1", 0)
    assert begun(first, on(), spec(), NOW + 9) is first
    over = service(new(), revision="r2", serving_revision="r2")
    done = begun(first, over, spec(), NOW)
    assert done is not None
    assert done.phase is P.DONE
    assert begun(None, over, spec(), NOW) is None
    assert begun(done, there(), spec(), NOW) != done, "somebody gave the traffic back"
    whole = begun(None, there(), spec("Replace"), NOW)
    assert whole is not None
    assert whole.step is None


def test_what_a_person_goes_back_to_is_not_judged_again() -> None:
    back = begun(None, there(), spec(), NOW, undone="r3")
    assert back is not None
    assert (back.step, back.promoted) == (None, True)
    assert "undone revision r3" in back.message


@pytest.mark.parametrize(
    ("known", "how", "trial"),
    [
        (None, "Canary", True),
        (None, "BlueGreen", True),
        (None, "Replace", False),
        ({}, "Canary", True),
        ({}, "Replace", True),
        ({"phase": P.PAUSED}, "Canary", True),
        ({"step": None}, "Canary", False),
        ({"step": None}, "BlueGreen", True),
        ({"step": None, "promoted": True}, "BlueGreen", False),
        ({"phase": P.ROLLED_BACK}, "Canary", False),
        ({"phase": P.DONE}, "Canary", True),
    ],
)
def test_it_is_on_trial_until_it_may_have_all(
    known: dict[str, Any] | None, how: str, trial: bool
) -> None:
    stands = None if known is None else rollout(**known)
    assert on_trial(stands, "r2", spec(how)) is trial
    if stands is not None:
        assert on_trial(stands, "r3", spec(how)) is (how != "Replace"), "another one is asked for"


def test_a_canary_gets_its_share_once_it_answers() -> None:
    waits = advanced(rollout(), on(new(ready=False)), spec(), known(), NOW)
    assert waits.percent is None
    assert course(waits, on(), spec(), 10) == Course(1)
    starts = advanced(waits, on(new()), spec(), known(), NOW)
    assert (starts.step, starts.percent, starts.since) == (0, 5.0, NOW)
    assert course(starts, on(), spec(), 40) == Course(2, percent=5.0)
    assert course(starts, on(), spec(), 0) == Course(0, percent=5.0)


def test_where_the_revision_before_answers_no_more_it_takes_over_unjudged() -> None:
    at, dead = rollout(percent=5.0, since=NOW - 31), [pod("o1", ready=False)]
    for how, stands in (("Canary", at), ("BlueGreen", replace(at, step=None, percent=None))):
        came = known(came=NOW - 31)
        found = advanced(stands, on(new(), old=dead), spec(how), came, NOW)
        assert (found.promoted, found.step, found.percent) == (True, None, None)
        assert "takes over unjudged" in found.message
        soon = advanced(stands, on(new(), old=dead), spec(how), known(came=NOW - 9), NOW)
        assert not soon.promoted, "it may only be waking"
        assert not advanced(stands, on(new()), spec(how), came, NOW).promoted


@pytest.mark.parametrize(
    ("how", "old", "words"),
    [
        ("Canary", 2, "gives up a replica for it"),
        ("Canary", 1, "beside the only replica; kubectl conch rollout promote"),
        ("BlueGreen", 2, "for all of it"),
    ],
)
def test_without_a_free_gpu_what_is_on_trial_says_so(how: str, old: int, words: str) -> None:
    at = rollout(step=0 if how == "Canary" else None)
    of = on(old=OLD[:old])
    assert words in advanced(at, of, spec(how), known(room=False), NOW).message
    assert "no GPU" not in advanced(at, of, spec(how), known(), NOW).message


def step(evidence: Evidence, *, ago: float = 100, **fields: Any) -> Rollout:
    given = {"percent": 5.0, "since": NOW - ago, **fields}
    return advanced(rollout(**given), on(new()), spec(), evidence, NOW)


def test_one_that_is_fine_comes_forward_and_one_that_is_worse_goes() -> None:
    fine = known(tallies={"r1": tally(20_000), "r2": tally(2_000)})
    assert step(fine).step == 1
    assert step(fine, ago=10).step == 0, "not before its time"
    last = step(fine, step=1, percent=25.0)
    assert (last.step, last.percent, last.phase) == (None, 25.0, P.PROGRESSING)
    for bad in (tally(20, 20), tally(500, slow=True)):
        worse = step(known(tallies={"r1": tally(20_000), "r2": bad}), ago=1)
        assert (worse.phase, worse.percent) == (P.ROLLED_BACK, None)
        assert "step 1 of 2, 5 % of the requests" in worse.message


def test_few_requests_are_waited_for_but_not_for_ever() -> None:
    few = known(tallies={"r1": tally(10), "r2": tally(1)})
    assert step(few, ago=300).step == 0
    assert step(few, ago=700).step == 1
    bad = known(tallies={"r1": tally(10), "r2": tally(3, 1)})
    assert step(bad, ago=700).step == 0, "something speaks against it"
    assert step(known(tallies=None), ago=700).step == 0, "nobody counts"
    assert step(known(tallies=None), ago=1900).phase is P.ROLLED_BACK


def test_without_a_front_door_it_takes_over_whole() -> None:
    found = step(known(door=False))
    assert (found.step, found.percent) == (None, None)
    assert "no front door" in found.message


def test_one_that_callers_could_not_use_is_taken_back_unless_somebody_wants_it() -> None:
    other = known(breaks="its outputs are y FP32[3] where they were y FP32[2]")
    for step in (0, None):
        found = advanced(rollout(step=step), on(new()), spec(), other, NOW)
        assert found.phase is P.ROLLED_BACK
        assert found.message.startswith("its outputs are y FP32[3]")
    last = advanced(rollout(step=None), there(new()), spec("Replace"), other, NOW)
    assert last.phase is P.PROGRESSING, "what is applied last decides"
    wanted = replace(other, order=Order.PROMOTE)
    comes = advanced(rollout(step=None), there(new()), spec(), wanted, NOW)
    assert comes.promoted
    assert advanced(comes, there(new()), spec(), wanted, NOW).phase is P.PROGRESSING


def test_a_model_of_another_name_gets_no_share() -> None:
    found = step(known(renamed=True))
    assert (found.step, found.percent) == (None, None)
    assert "another name" in found.message


def test_what_people_ask_for() -> None:
    at = rollout(percent=5.0)
    back = advanced(at, there(new()), spec(), known(order=Order.ABORT), NOW)
    assert back.phase is P.ROLLED_BACK
    assert advanced(back, there(new()), spec(), known(order=Order.ABORT), NOW + 1) is back
    comes = advanced(back, there(new()), spec(), known(order=Order.PROMOTE), NOW)
    assert (comes.phase, comes.step, comes.promoted) == (P.PROGRESSING, None, True)
    bad = known(order=Order.PROMOTE, tallies={"r1": tally(9_000), "r2": tally(99, 99)})
    assert advanced(comes, there(new()), spec(), bad, NOW).phase is P.PROGRESSING
    stop = advanced(at, there(new()), spec(), known(order=Order.PAUSE), NOW)
    assert stop.phase is P.PAUSED
    assert course(stop, on(), spec(), 9) == Course(1, percent=stop.percent)
    whole = replace(stop, step=None)
    assert course(whole, there(), spec("Replace"), 9).hold
    assert advanced(stop, there(new()), spec(), known(), NOW).phase is P.PROGRESSING


def test_blue_green_waits_until_somebody_promotes_it() -> None:
    how, at = spec("BlueGreen"), rollout(step=None)
    assert course(at, on(), how, 2) == Course(2, whole=True)
    assert advanced(at, on(new()), how, known(), NOW).phase is P.PROGRESSING
    waits = advanced(at, on(new(), new("n2")), how, known(), NOW)
    assert waits.phase is P.WAITING
    much_later = advanced(waits, on(new(), new("n2")), how, known(), NOW + 10**6)
    assert much_later.phase is P.WAITING
    comes = advanced(waits, on(new(), new("n2")), how, known(order=Order.PROMOTE), NOW)
    assert course(comes, there(), how, 2) == Course()


def test_no_progress_for_too_long_is_taken_back_with_the_reason() -> None:
    late = replace(rollout(step=None), since=NOW - 1900)
    found = advanced(late, there(), spec("Replace"), known(failure="no such module"), NOW)
    assert found.phase is P.ROLLED_BACK
    assert found.message == "no progress within 1800 s: no such module"
    assert course(found, there(), spec("Replace"), 2).hold, "until the status says so"
    comes = known(failure="no such module", came=NOW - 60)
    assert advanced(late, there(), spec("Replace"), comes, NOW) is late, "one became ready lately"


@pytest.mark.parametrize(
    ("pods", "door", "words", "swaps"),
    [
        (2, True, "one replica after the other", False),
        (1, True, "the only replica gives up its own", True),
        (1, False, "without a front door", False),
    ],
)
def test_on_a_full_pool_the_choice_is_made_and_told(
    pods: int, door: bool, words: str, swaps: bool
) -> None:
    of = service(*OLD[:pods], revision="r2", serving_revision="r1")
    full = known(room=False, door=door)
    found = advanced(rollout(step=None), of, spec("Replace"), full, NOW)
    assert words in found.message
    assert course(found, of, spec("Replace"), pods).swap is swaps
    soon = replace(rollout(step=None), since=NOW - 1)
    assert advanced(soon, of, spec("Replace"), full, NOW) is soon, "a place may come free by itself"


def test_a_swap_for_one_that_does_not_start_is_taken_back_at_once() -> None:
    at = rollout(step=None, swaps=True)
    of = service(new(ready=False), revision="r2", serving_revision="r1")
    found = advanced(at, of, spec("Replace"), known(failure="no such module"), NOW)
    assert found.phase is P.ROLLED_BACK


A = pool("a", node("g1", gpus=1, used=1))


def full(*pods: Pod, old: int, young: int, how: Course, **fields: Any) -> Any:
    sets = (
        replica_set(old, **fields),
        *((replica_set(young, revision="r2"),) if young else ()),
    )
    of = service(*sets, *pods, revision="r2", serving_revision="r1")
    shapes = {"a": ONE_GPU}
    return plan(of, 1, pools=(A,), shapes=shapes, ledger=Ledger(), now=NOW, course=how)


def test_the_last_replica_goes_only_where_that_is_said() -> None:
    assert not full(pod("o1"), old=1, young=0, how=Course()).drains
    swap = Course(swap=True)
    first = full(pod("o1"), old=1, young=0, how=swap)
    assert names(first.drains) == ["o1"]
    assert first.serving_revision == "r1"
    drains = drained("o1", ago=60)
    gone = full(drains, old=1, young=0, how=swap, gated=True)
    assert names(gone.deletions) == ["o1"]
    assert not gone.restores
    lowered = full(gated("o2"), old=1, young=0, how=swap, gated=True)
    assert {(s.revision, s.replicas) for s in lowered.sets} == {("r1", 0)}
