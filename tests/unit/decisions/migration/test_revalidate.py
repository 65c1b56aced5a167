"""Whether an accepted move still makes sense on a fresh state."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from conch.decisions.migration import Move, revalidate
from tests.unit.decisions.migration.fleets import World, world
from tests.unit.decisions.migration.test_reasons import disturbed, two_pools


def waiting() -> World:
    here = world(8, 8)
    here.run("small", "n1", "n1")
    here.run("mid", "n2", gpus=4)
    here.wait("big", gpus=8)
    return here


def emptying() -> World:
    here = world(8, 8, 8, popular={8: 1.0})
    here.run("a", "n1")
    here.run("b", "n2", gpus=4)
    return here


def crowded() -> World:
    here = world(4, 4)
    here.run("s", "n1", "n1")
    return here


def cheaper() -> World:
    return two_pools(late=0.3, busy=0.3)


def failing() -> World:
    here = world(4, 4)
    here.run("s", "n1")
    here.fail("n1")
    return here


STORIES = [waiting, emptying, crowded, cheaper, disturbed, failing]


@pytest.mark.parametrize("story", STORIES)
def test_what_was_just_proposed_makes_sense_before_and_while_it_runs(
    story: Callable[[], World],
) -> None:
    here = story()
    (move,) = here.plan().moves
    assert revalidate(move, here.fleet(), here.now) is None
    here.begin(move)
    here.now += 5
    assert revalidate(move, here.fleet(), here.now) is None
    assert not here.plan().moves


@pytest.mark.parametrize("story", STORIES)
def test_once_it_is_through_it_is_over(story: Callable[[], World]) -> None:
    here = story()
    (move,) = here.plan().moves
    here.begin(move)
    here.pass_by(here.replicas[move.uid].load_seconds)
    assert "is gone by now" in str(revalidate(move, here.fleet(), here.now))


def proposed(here: World) -> Move:
    (move,) = here.plan().moves
    return move


def test_what_waited_waits_no_more() -> None:
    here = waiting()
    move = proposed(here)
    here.waiting.clear()
    assert revalidate(move, here.fleet(), here.now) == "t/big waits no more"


def test_what_waited_has_room_elsewhere() -> None:
    here = waiting()
    move = proposed(here)
    del here.replicas["u-mid-2"]
    assert revalidate(move, here.fleet(), here.now) == "t/big has room in pool a without it"


def test_others_came_to_the_node() -> None:
    here = waiting()
    move = proposed(here)
    here.run("new", "n1")
    assert "would not fit on n1 any more" in str(revalidate(move, here.fleet(), here.now))
    here = emptying()
    move = proposed(here)
    here.run("new", "n1")
    assert revalidate(move, here.fleet(), here.now) == "others came to n1"


def test_the_new_place_is_taken_or_closed() -> None:
    here = waiting()
    move = proposed(here)
    here.run("new", "n2", gpus=4)
    assert revalidate(move, here.fleet(), here.now) == "n2 has no room for it any more"
    here = waiting()
    one = here.pools[0]
    here.pools = [replace(one, nodes=(one.nodes[0], replace(one.nodes[1], schedulable=False)))]
    assert revalidate(move, here.fleet(), here.now) == "n2 is cordoned"


def test_its_service_is_held_or_it_rests() -> None:
    here = waiting()
    move = proposed(here)
    here.change(move.uid, since=here.now)
    assert "it rests for 300 s more" in str(revalidate(move, here.fleet(), here.now))
    key = move.service
    here.services[key] = replace(here.services[key], held="it is paused")
    assert "it is paused" in str(revalidate(move, here.fleet(), here.now))


def test_data_that_is_gone_stops_a_move() -> None:
    here = disturbed()
    move = proposed(here)
    here.change(move.uid, late=None)
    assert "nothing is known of its latency" in str(revalidate(move, here.fleet(), here.now))
    here = cheaper()
    move = proposed(here)
    here.services[move.service] = replace(here.services[move.service], late=None)
    assert "nothing is known of its latency" in str(revalidate(move, here.fleet(), here.now))


def test_the_service_is_crowded_no_more() -> None:
    here = crowded()
    move = proposed(here)
    here.run("s", "n2")
    assert "has not too many of t/s any more" in str(revalidate(move, here.fleet(), here.now))


def test_the_node_shows_no_sign_of_failing_any_more() -> None:
    here = failing()
    move = proposed(here)
    here.begin(move)
    here.fail()
    text = revalidate(move, here.fleet(), here.now)
    assert text == "n1 shows no sign of failing any more"
    here.fail("n1", "n2")
    assert "showing signs of failing itself" in str(revalidate(move, here.fleet(), here.now))


@pytest.mark.parametrize("story", STORIES)
def test_the_new_place_seems_to_fail(story: Callable[[], World]) -> None:
    here = story()
    move = proposed(here)
    here.fail(*({"n1"} if story is failing else ()), str(move.target_node))
    text = f"{move.target_node} is showing signs of failing itself: KernelDeadlock (TaskHung)"
    assert revalidate(move, here.fleet(), here.now) == text
