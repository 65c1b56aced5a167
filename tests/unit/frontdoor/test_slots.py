"""Places of pods, and the commands that fill and empty them."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from conch.frontdoor.commands import map_commands, slot_commands
from conch.frontdoor.slots import FEWEST, Slot, State, assigned, places
from tests.unit.frontdoor.routes import KEY, replica

FREE = Slot()


def test_a_pod_keeps_its_place_and_others_get_free_ones() -> None:
    one = assigned((), [replica("1")])
    assert one == (Slot("uid-1", "10.0.0.1", state=State.READY), FREE)
    two = assigned(one, [replica("2"), replica("1")])
    assert two == (one[0], Slot("uid-2", "10.0.0.2", state=State.READY))


def test_one_that_leaves_is_drained_and_its_place_kept_until_it_is_gone() -> None:
    old = assigned((), [replica("1"), replica("2")])
    drained = assigned(old, [replica("1", takes=False), replica("2")])
    assert drained[0] == Slot("uid-1", "10.0.0.1", state=State.DRAIN)
    assert assigned(drained, [replica("2")])[0] == FREE


def test_one_that_never_took_any_gets_no_place() -> None:
    assert assigned((), [replica("1", takes=False)]) == (FREE,) * FEWEST


def test_more_places_only_where_needed() -> None:
    two = assigned((), [replica("1")])
    assert len(assigned(two, [replica("1"), replica("2")])) == 2
    assert len(assigned(two, [replica(str(n)) for n in range(1, 4)])) == places(3) == 4


def test_in_a_broken_one_nothing_is_waited_for() -> None:
    old = assigned((), [replica("1")])
    cut = assigned(old, [replica("1")], broken={"uid-1"})
    assert cut[0] == Slot("uid-1", "10.0.0.1")
    assert slot_commands(KEY, old, cut) == [
        "set server vision:digits:http/s1 state maint",
        "shutdown sessions server vision:digits:http/s1",
        "shutdown sessions server vision:digits:grpc/s1",
    ]
    assert assigned(cut, [replica("1")]) == old, "it may come to itself"


def test_commands_of_a_pods_life() -> None:
    none, one = (FREE, FREE), assigned((), [replica("1")])
    assert slot_commands(KEY, none, one) == [
        "set server vision:digits:http/s1 addr 10.0.0.1 port 8000",
        "set server vision:digits:grpc/s1 addr 10.0.0.1 port 8001",
        "set server vision:digits:http/s1 weight 64",
        "set server vision:digits:grpc/s1 weight 64",
        "set server vision:digits:http/s1 state ready",
    ]
    drained = assigned(one, [replica("1", takes=False)])
    assert slot_commands(KEY, one, drained) == ["set server vision:digits:http/s1 state drain"]
    assert slot_commands(KEY, drained, none)[0] == "set server vision:digits:http/s1 state maint"
    assert slot_commands(KEY, one, one) == []


def test_a_faster_accelerator_takes_more() -> None:
    one = assigned((), [replica("1")])
    faster = assigned(one, [replace(replica("1"), weight=128)])
    assert slot_commands(KEY, one, faster) == [
        "set server vision:digits:http/s1 weight 128",
        "set server vision:digits:grpc/s1 weight 128",
        "set server vision:digits:http/s1 state ready",
    ]


def test_a_place_that_changes_hands_is_emptied_first() -> None:
    old, new = assigned((), [replica("1")]), assigned((), [replica("2")])
    words = [c.split()[-1] for c in slot_commands(KEY, old, new)]
    assert words[0] == "maint"
    assert words[-1] == "ready"


def test_what_is_taken_away_goes_first() -> None:
    old, new = {"a": "1", "b": "1"}, {"b": "2", "c": "1"}
    assert map_commands("m", old, new) == ["del map m a", "set map m b 2", "add map m c 1"]


@given(st.lists(st.sets(st.tuples(st.integers(1, 9), st.booleans()), max_size=6), max_size=8))
def test_whatever_happens_each_pod_has_one_place_and_nobody_moves(
    steps: list[set[tuple[int, bool]]],
) -> None:
    slots: tuple[Slot, ...] = ()
    for step in steps:
        pods = [replica(str(n), takes=takes) for n, takes in sorted(dict(step).items())]
        old, slots = slots, assigned(slots, pods)
        named = [s.uid for s in slots if s.uid]
        assert len(named) == len(set(named))
        assert {p.uid for p in pods if p.takes} <= set(named)
        assert all(s.state is not State.READY for s in slots if s.uid is None)
        for before, after in zip(old, slots, strict=False):
            if before.uid in {p.uid for p in pods}:
                assert before.uid == after.uid
