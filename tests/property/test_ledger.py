"""The ledger's index finds what looking through every node would find, after any bookings."""

import math
from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import TypeVar

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from conch.decisions.fleet import Amounts, Pool, Shape, Sign
from conch.decisions.placement import Ledger, Wish, choose, explain, obstacle, room
from conch.decisions.placement.board import LEVEL, Board
from conch.decisions.placement.filters import ZONE
from conch.decisions.placement.fragmentation import Demand, Fragmentation, States
from tests.unit.decisions.stories import node, pool

T = TypeVar("T")
ILL = Sign("XIDErrors", "XIDErrors")
TAINT = {"key": "spot", "effect": "NoSchedule"}
TOLERATIONS: tuple[tuple[dict[str, str], ...], ...] = ((), ({"operator": "Exists"},))
NAMES = [f"n{i}" for i in range(6)]
ZONES = ["east", "west"]

shapes = st.builds(
    lambda gpus, cpu, tolerations: Shape(Amounts(gpus, cpu, 2.0**30, 1), tolerations),
    st.integers(0, 3),
    st.sampled_from([0.5, 4.0]),
    st.sampled_from(TOLERATIONS),
)
steps = st.lists(
    st.tuples(st.sampled_from(["book", "release", "ask"]), st.sampled_from(NAMES), shapes),
    max_size=25,
)
needs = st.builds(
    lambda gpus, cpu: Amounts(gpus, cpu, 2.0**30, 1),
    st.integers(0, 4),
    st.sampled_from([0.5, 4.0, 63.0]),
)
workloads = st.dictionaries(needs, st.sampled_from([0.5, 1.0, 3.0]), max_size=5)
wishes = st.none() | st.builds(
    Wish,
    cached=st.lists(st.sampled_from([*NAMES, "gone"]), unique=True),
    load_seconds=st.sampled_from([0.0, 20.0, 200.0]),
    beside=st.dictionaries(st.sampled_from([*NAMES, "gone"]), st.integers(1, 3)),
    apart=st.booleans(),
    zones=st.dictionaries(st.sampled_from([*ZONES, "gone"]), st.integers(1, 3)),
)


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    nodes = []
    for name in draw(st.permutations(NAMES)):
        gpus = draw(st.integers(0, 4))
        nodes.append(
            node(
                name,
                gpus=gpus,
                used=draw(st.integers(0, gpus)),
                ready=draw(st.integers(0, 5)) > 0,
                schedulable=draw(st.integers(0, 5)) > 0,
                signs=(ILL,) if draw(st.integers(0, 3)) == 0 else (),
                taints=(TAINT,) if draw(st.integers(0, 3)) == 0 else (),
                labels={ZONE: draw(st.sampled_from(ZONES))} if draw(st.booleans()) else {},
            )
        )
    return pool("a", *nodes)


def looked_through(where: Pool, shape: Shape, ledger: Ledger) -> tuple[str | None, int]:
    """Return the tightest node and the number of replicas that fit, asked of each node."""
    fits, total = [], 0
    for one in where.nodes:
        free = ledger.free(one, where)
        if obstacle(one, shape, free) is None:
            fits.append((bool(one.signs), free.gpus, free.cpu, one.name))
        while total < 50 and obstacle(one, shape, free) is None:
            free -= shape.need
            total += 1
    return (min(fits)[3] if fits else None), total


@given(pools(), steps, shapes)
def test_the_index_agrees_with_looking_through_every_node(
    where: Pool, history: list[tuple[str, str, Shape]], last: Shape
) -> None:
    ledger = Ledger()
    for what, name, shape in [*history, ("ask", NAMES[0], last)]:
        if what == "book":
            ledger.book(name, shape.need)
        elif what == "release":
            ledger.release(name, shape.need)
        else:
            node_name, total = looked_through(where, shape, ledger)
            assert choose(where, shape, ledger) == node_name
            assert room(where, shape, ledger, most=50) == total
            assert explain(where, shape, ledger) == explain(where, shape, _afresh(ledger, where))


Workload = dict[Amounts, float]


def stranded(free: Amounts, workload: Workload) -> float:
    """Return the fragmentation of a node, need by need."""
    counted = {need: weight for need, weight in workload.items() if need.gpus > 0}
    unable = math.fsum(w for need, w in counted.items() if not free.covers(need))
    idle = math.fsum(w for need, w in workload.items() if need.gpus == 0)
    return max(0, free.gpus) * (unable + idle) / (math.fsum(workload.values()) or 1.0)


def scored(where: Pool, shape: Shape, ledger: Ledger, wish: Wish, workload: Workload) -> set[str]:
    """Return the nodes that may be chosen, from the formula alone."""
    scores: dict[str, float] = {}
    for one in where.nodes:
        free = ledger.free(one, where)
        if obstacle(one, shape, free) is None:
            rise = stranded(free - shape.need, workload) - stranded(free, workload)
            load = 0.0 if one.name in wish.cached else wish.load_gpus(shape.need.gpus)
            near = (1.0 if wish.apart else 0.25) * wish.beside.get(one.name, 0)
            zone = 0.5 * wish.zones.get(one.labels.get(ZONE, ""), 0)
            scores[one.name] = rise + load + near + zone + (1e4 if one.signs else 0)
    least = min(scores.values(), default=0.0)
    return {name for name, score in scores.items() if score < least + LEVEL + 1e-6}


@given(pools(), steps, workloads, wishes, shapes)
def test_scores_follow_the_formula_and_the_books(
    where: Pool,
    history: list[tuple[str, str, Shape]],
    workload: Workload,
    wish: Wish | None,
    last: Shape,
) -> None:
    ledger = Ledger(workload)
    for what, name, shape in [*history, ("ask", NAMES[0], last)]:
        if what == "book":
            ledger.book(name, shape.need)
        elif what == "release":
            ledger.release(name, shape.need)
        else:
            found = choose(where, shape, ledger, wish=wish)
            allowed = scored(where, shape, ledger, wish or Wish(), workload)
            assert found in allowed if allowed else found is None
            assert found == choose(where, shape, _afresh(ledger, where, workload), wish=wish)


@given(pools(), workloads, wishes, st.lists(shapes, max_size=30))
def test_no_node_is_ever_booked_beyond_what_it_has(
    where: Pool, workload: Workload, wish: Wish | None, wanted: list[Shape]
) -> None:
    ledger = Ledger(workload)
    for shape in wanted:
        name = choose(where, shape, ledger, wish=wish)
        assert (name is None) == (room(where, shape, ledger, most=1) == 0)
        if name is not None:
            ledger.book(name, shape.need)
    for one in where.nodes:
        assert ledger.free(one, where).covers(Amounts())


@given(pools(), workloads, wishes, st.lists(shapes, max_size=10), st.randoms())
def test_the_order_of_inputs_does_not_matter(
    where: Pool,
    workload: Workload,
    wish: Wish | None,
    wanted: list[Shape],
    draw: Random,
) -> None:
    def shuffled(items: Iterable[T]) -> list[T]:
        found = list(items)
        draw.shuffle(found)
        return found

    other = replace(where, nodes=tuple(shuffled(where.nodes)))
    again = wish and replace(
        wish,
        cached=shuffled(wish.cached),
        beside=dict(shuffled(wish.beside.items())),
        zones=dict(shuffled(wish.zones.items())),
    )
    books, others = Ledger(workload), Ledger(dict(shuffled(workload.items())))
    for shape in wanted:
        name = choose(where, shape, books, wish=wish)
        assert choose(other, shape, others, wish=again) == name
        if name is not None:
            books.book(name, shape.need)
            others.book(name, shape.need)


demands = st.builds(
    lambda size, cpu: Demand(size[0], size[1], cpu=cpu),
    st.sampled_from([(0, 1.0), (1, 0.46), (1, 0.81), (1, 0.3), (1, 1.0), (2, 1.0)]),
    st.sampled_from([1.0, 3.0]),
)
measures = st.builds(Fragmentation, st.dictionaries(demands, st.integers(1, 9), min_size=1))


@given(measures, st.lists(demands, max_size=40))
def test_scores_kept_are_those_from_scratch_to_the_last_bit(
    measure: Fragmentation, wanted: list[Demand]
) -> None:
    """With parts of devices, too, which only the benchmark has."""
    count = 4
    full = States(
        np.array([0.0, 1.0, 2.0, 4.0]),
        np.zeros((count, 4)),
        np.array([9.0, 9.0, 30.0, 30.0]),
        np.ones(count),
        np.full(count, 20.0),
    )
    board = Board([f"n{i}" for i in range(count)], full, measure)
    for demand in wanted:
        spot = board.best(demand)
        fresh = Board(board.names, board.states.rows(np.arange(count)), measure)
        assert np.array_equal(board.rises(demand), fresh.rises(demand))
        assert fresh.best(demand) == spot
        if spot is not None:
            board.take(spot, demand)
        for left in (board.states.whole, board.states.parts, board.states.cpu, board.states.pods):
            assert (left >= 0).all()


def _afresh(ledger: Ledger, where: Pool, workload: Workload | None = None) -> Ledger:
    """Return a ledger with the same bookings that has not been asked yet."""
    fresh = Ledger(workload)
    for one in where.nodes:
        fresh.book(one.name, Ledger().free(one, where) - ledger.free(one, where))
    return fresh
