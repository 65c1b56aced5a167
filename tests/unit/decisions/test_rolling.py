"""A rollout goes on step by step, by what is there and what was counted, and is taken back in time."""

from dataclasses import replace
from typing import Any

import pytest

from conch.api.rollout import RolloutPhase, RolloutSpec
from conch.decisions.canary import BOUNDS, Tally
from conch.decisions.fleet import Pod, Service
from conch.decisions.placement import Ledger
from conch.decisions.replicas import plan
from conch.decisions.rolling import Course, Evidence, Order, Rollout, advanced, begun, course
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
    first = begun(None, there(), spec(), NOW)
    assert first is not None
    assert (first.revision, first.stable, first.step) == ("r2", "r1", 0)
    assert begun(first, there(), spec(), NOW + 9) is first
    over = service(new(), revision="r2", serving_revision="r2")
    done = begun(first, over, spec(), NOW)
    assert done is not None
    assert done.phase is P.DONE
    assert begun(None, over, spec(), NOW) is None
    assert begun(done, there(), spec(), NOW) != done, "somebody gave the traffic back"
    whole = begun(None, there(), spec("Replace"), NOW)
    assert whole is not None
    assert whole.step is None


def test_a_canary_gets_its_share_once_it_answers() -> None:
    waits = advanced(rollout(), there(new(ready=False)), spec(), known(), NOW)
    assert waits.percent is None
    assert course(waits, there(), spec(), 10) == Course(1, hold=True)
    starts = advanced(waits, there(new()), spec(), known(), NOW)
    assert (starts.step, starts.percent, starts.since) == (0, 5.0, NOW)
    assert course(starts, there(), spec(), 40) == Course(2, hold=True, percent=5.0)


def step(evidence: Evidence, *, ago: float = 100, **fields: Any) -> Rollout:
    given = {"percent": 5.0, "since": NOW - ago, **fields}
    return advanced(rollout(**given), there(new()), spec(), evidence, NOW)


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
        found = advanced(rollout(step=step), there(new()), spec(), other, NOW)
        assert found.phase is P.ROLLED_BACK
        assert found.message.startswith("its outputs are y FP32[3]")
    last = advanced(rollout(step=None), there(new()), spec("Replace"), other, NOW)
    assert last.phase is P.PROGRESSING, "what is applied last decides"
    wanted = replace(other, order=Order.PROMOTE)
    on = advanced(rollout(step=None), there(new()), spec(), wanted, NOW)
    assert on.promoted
    assert advanced(on, there(new()), spec(), wanted, NOW).phase is P.PROGRESSING


def test_a_model_of_another_name_gets_no_share() -> None:
    found = step(known(renamed=True))
    assert (found.step, found.percent) == (None, None)
    assert "another name" in found.message


def test_what_people_ask_for() -> None:
    at = rollout(percent=5.0)
    back = advanced(at, there(new()), spec(), known(order=Order.ABORT), NOW)
    assert back.phase is P.ROLLED_BACK
    assert advanced(back, there(new()), spec(), known(order=Order.ABORT), NOW + 1) is back
    on = advanced(back, there(new()), spec(), known(order=Order.PROMOTE), NOW)
    assert (on.phase, on.step, on.promoted) == (P.PROGRESSING, None, True)
    bad = known(order=Order.PROMOTE, tallies={"r1": tally(9_000), "r2": tally(99, 99)})
    assert advanced(on, there(new()), spec(), bad, NOW).phase is P.PROGRESSING
    stop = advanced(at, there(new()), spec(), known(order=Order.PAUSE), NOW)
    assert stop.phase is P.PAUSED
    assert course(stop, there(), spec(), 9).hold
    assert advanced(stop, there(new()), spec(), known(), NOW).phase is P.PROGRESSING


def test_blue_green_waits_until_somebody_promotes_it() -> None:
    how, at = spec("BlueGreen"), rollout(step=None)
    assert course(at, there(), how, 2) == Course(hold=True, whole=True)
    assert advanced(at, there(new()), how, known(), NOW).phase is P.PROGRESSING
    waits = advanced(at, there(new(), new("n2")), how, known(), NOW)
    assert waits.phase is P.WAITING
    much_later = advanced(waits, there(new(), new("n2")), how, known(), NOW + 10**6)
    assert much_later.phase is P.WAITING
    on = advanced(waits, there(new(), new("n2")), how, known(order=Order.PROMOTE), NOW)
    assert course(on, there(), how, 2) == Course()


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


def test_a_canary_gets_few_replicas_and_a_share_and_no_more() -> None:
    wide = pool("a", node("g1", gpus=8, used=2))
    of = service(
        replica_set(2),
        replica_set(1, revision="r2"),
        *OLD,
        new(),
        revision="r2",
        serving_revision="r1",
    )
    how = Course(1, hold=True, percent=5.0)
    shapes = {"a": ONE_GPU}
    found = plan(of, 2, pools=(wide,), shapes=shapes, ledger=Ledger(), now=NOW, course=how)
    assert {(s.revision, s.target) for s in found.sets} == {("r1", 2), ("r2", 1)}
    assert (found.serving_revision, found.canary) == ("r1", ("r2", 5.0))
    whole = replace(how, most=None, hold=False)
    after = plan(of, 2, pools=(wide,), shapes=shapes, ledger=Ledger(), now=NOW, course=whole)
    assert {(s.revision, s.target) for s in after.sets} == {("r1", 2), ("r2", 2)}
