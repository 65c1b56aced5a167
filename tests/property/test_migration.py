"""Moves come to an end, keep their budgets and rests, and never book more than there is."""

from collections import Counter
from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from conch.decisions.fleet import Amounts, ServiceKey
from conch.decisions.migration import (
    MovableFleet,
    Move,
    MoveReason,
    OpenMove,
    Option,
    Plan,
    Replica,
    propose,
    revalidate,
)
from conch.decisions.migration.rules import MOVED_PER_GAINED, REST, Limits, Scales
from tests.unit.decisions.migration.fleets import LOAD_S, NOW, World, nodes, shape
from tests.unit.decisions.stories import pool

POOLS = {"a": (4, 4, 8, 8), "b": (4, 8, 8)}
ZONES = ("east", "west", "east", "west")
maybe = st.none() | st.sampled_from([0.2, 0.6, 0.9, 1.3, 2.0])
busy = st.none() | st.sampled_from([0.1, 0.4, 0.8])
workloads = st.dictionaries(st.sampled_from([1, 2, 4, 8]), st.sampled_from([0.2, 0.5, 1.0]))


@st.composite
def worlds(draw: st.DrawFn, *, waits: bool = True, leaving: bool = False) -> World:
    """Return a fleet of two pools with services of all kinds on it, as they came and went."""
    pools = [
        pool(
            name,
            *nodes(name, *gpus, zones=ZONES),
            elastic=draw(st.booleans()) and name == "b",
            disruptionBudget=draw(st.sampled_from(["10%", "100%", "2"])),
        )
        for name, gpus in POOLS.items()
    ]
    here = World(pools, draw(workloads))
    free = {n.name: round(n.allocatable["nvidia.com/gpu"]) for p in pools for n in p.nodes}
    for index in range(draw(st.integers(1, 7))):
        _service(draw, here, f"s{index}", free)
    for index in range(draw(st.integers(0, 2)) if waits else 0):
        here.wait(f"w{index}", gpus=draw(st.sampled_from([1, 2, 4, 8])))
    if draw(st.booleans()):
        names = [n.name for p in pools for n in p.nodes]
        ill = draw(st.lists(st.sampled_from(names), unique=True, max_size=3))
        here.fail(*ill, ago=draw(st.sampled_from([5.0, 500.0])))
    if leaving and here.replicas:
        for uid in draw(st.lists(st.sampled_from(sorted(here.replicas)), unique=True, max_size=4)):
            here.open[uid] = OpenMove(uid, asked=True)
    return here


@st.composite
def full(draw: st.DrawFn) -> World:
    """Return a fleet where nothing of four GPUs fits, each replica of a service of its own."""
    sizes = draw(st.lists(st.sampled_from([4, 8]), min_size=2, max_size=5))
    here = World([pool("a", *nodes("a", *sizes), disruptionBudget="100%")])
    for node in here.pools[0].nodes:
        left, keep = round(node.allocatable["nvidia.com/gpu"]), draw(st.integers(0, 3))
        while left > keep:
            gpus = draw(st.sampled_from([g for g in (1, 2, 3, 4) if g <= left]))
            left -= gpus
            since = NOW - draw(st.sampled_from([1.0, 11.0, 11.0])) * LOAD_S
            here.run(f"s{len(here.replicas)}", node.name, gpus=gpus, since=since)
    return here


def _service(draw: st.DrawFn, here: World, name: str, free: dict[str, int]) -> None:
    gpus = draw(st.sampled_from([1, 1, 1, 2, 4]))
    ranks, prices = st.sampled_from([0, 1]), st.none() | st.sampled_from([1.0, 3.0])
    options = tuple(
        Option(p.name, shape(gpus), draw(ranks), draw(st.sampled_from([0.5, 1.0])), draw(prices))
        for p in here.pools
    )
    here.service(
        name,
        options=tuple(sorted(options, key=lambda o: o.rank)),
        late=draw(maybe),
        busy=draw(busy),
        steady_since=draw(st.sampled_from([None, NOW - 10, 0.0])),
        standby=draw(st.sampled_from([0, 0, 1])),
        held=draw(st.sampled_from([None, None, None, "it is paused"])),
    )
    for _ in range(draw(st.integers(1, 4))):
        able = sorted(n for n, left in free.items() if left >= gpus)
        if able:
            node = draw(st.sampled_from(able))
            free[node] -= gpus
            since = NOW - draw(st.sampled_from([1.0, 11.0, 1000.0])) * LOAD_S
            here.run(name, node, gpus=gpus, since=since, late=draw(maybe), busy=draw(busy))


def live(here: World, *, steps: int) -> None:
    """Carry out what is proposed, a tick each 10 s, and check each plan."""
    for _ in range(steps):
        fleet = here.fleet()
        plan = propose(fleet, here.now)
        check(fleet, plan, here.now)
        for move in plan.moves:
            here.begin(move)
        assert_books(here)
        here.pass_by(10.0)


def check(fleet: MovableFleet, plan: Plan, now: float) -> None:
    """Assert what holds of each plan."""
    moved = Counter(m.source_pool for m in plan.moves)
    for name, count in moved.items():
        opened = sum(fleet.by_uid[m.uid].pool == name for m in fleet.open if not m.asked)
        assert count + opened <= max(1, len(fleet.by_pool[name]) // 10)
    open_now = {fleet.by_uid[m.uid].service for m in fleet.open}
    services = [m.service for m in plan.moves]
    assert len(services) == len(set(services)), "one move of a service at a time"
    assert not open_now & set(services)
    for move in (*plan.moves, *plan.later):
        one, failing = fleet.by_uid[move.uid], move.reason is MoveReason.NODE_FAILING
        assert failing or now >= one.since + REST * one.load_seconds
        assert not failing or fleet.nodes[one.node].signs
        target = fleet.nodes.get(str(move.target_node))
        assert target is None or not target.signs, "nobody is moved to a node that seems to fail"
        assert fleet.services[one.service].held is None
        assert move.moved <= MOVED_PER_GAINED * move.gained + 1e-6
        assert str(move.service) in move.text
    first = [m for m in plan.moves if m.reason is MoveReason.NODE_FAILING]
    for move in first or plan.moves:
        # The others find the books as those that come first leave them.
        assert revalidate(move, fleet, now) is None
    # Nothing but a missing place is told of what waits; all else says whose move it is.
    assert all(str(r.service) in r.text for r in plan.refused)


def assert_books(here: World) -> None:
    """Assert that both places of each move fit."""
    fleet = here.fleet()
    for one in here.pools:
        for node in one.nodes:
            assert fleet.ledger.free(node, one).covers(Amounts())


@settings(max_examples=60, deadline=None)
@given(worlds(leaving=True))
def test_books_budgets_and_rests_hold_whatever_is_carried_out(here: World) -> None:
    live(here, steps=80)


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_no_replica_goes_back_within_its_rest(here: World) -> None:
    live(here, steps=80)
    begun: dict[str, tuple[float, Move]] = {}
    for when, move, successor in here.history:
        earlier = begun.get(move.uid)
        if earlier is not None and move.reason is not MoveReason.NODE_FAILING:
            assert when - earlier[0] >= REST * LOAD_S
        begun[successor] = when, move


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_where_inputs_stand_still_it_comes_to_an_end(here: World) -> None:
    """With rests over each time: no way leads round to where it began."""
    here.services = {k: replace(s, late=None) for k, s in here.services.items()}
    here.settle(most=120)
    assert not here.plan().moves
    for _, move, successor in here.history:
        assert successor != move.uid


@settings(max_examples=60, deadline=None)
@given(worlds(), st.data())
def test_signs_that_come_and_go_move_nobody_back(here: World, data: st.DataObject) -> None:
    """To a node that was left as it seemed to fail."""
    names = st.lists(st.sampled_from(["a1", "a2", "b1", "b2"]), unique=True, max_size=2)
    for _ in range(6):
        here.fail(*data.draw(names))
        live(here, steps=8)
    left: set[str] = set()
    for _, move, _ in here.history:
        assert move.target_node not in left
        left |= {move.source_node} if move.reason is MoveReason.NODE_FAILING else set()


@settings(max_examples=60, deadline=None)
@given(worlds(waits=False))
def test_without_data_metrics_move_nothing(here: World) -> None:
    here.services = {k: replace(s, late=None, busy=None) for k, s in here.services.items()}
    for uid in here.replicas:
        here.change(uid, late=None, busy=None)
    reasons = {m.reason.value for m in here.plan().moves}
    assert "Interference" not in reasons
    for move in here.plan().moves:
        if move.reason.value == "Accelerator":
            options = here.services[move.service].by_pool
            target, source = options[move.target_pool], options[move.source_pool]
            assert target.rank < source.rank
            assert target.speed >= source.speed


@settings(max_examples=60, deadline=None)
@given(worlds(), st.randoms())
def test_the_order_of_inputs_does_not_matter(here: World, draw: Random) -> None:
    fleet = here.fleet()
    replicas, services = list(fleet.replicas), list(fleet.services.items())
    pools = [replace(p, nodes=tuple(draw.sample(p.nodes, len(p.nodes)))) for p in fleet.pools]
    draw.shuffle(replicas)
    draw.shuffle(services)
    draw.shuffle(pools)
    other = replace(fleet, pools=pools, replicas=replicas, services=dict(services))
    assert propose(other, here.now) == propose(fleet, here.now)


def helps(fleet: MovableFleet, one: Replica, need: Amounts, scales: Scales) -> bool:
    """Tell whether moving one replica would be enough, asked of each place that it might go to."""
    (where,) = fleet.pools
    free = {n.name: fleet.ledger.free(n, where) for n in where.nodes}
    makes_room = (free[one.node] + one.shape.need).covers(need)
    worth = scales.worth([one], need.gpus, where.name).enough
    others = (left for name, left in free.items() if name != one.node)
    return makes_room and worth and any(left.covers(one.shape.need) for left in others)


@settings(max_examples=100, deadline=None)
@given(full())
def test_where_one_move_is_enough_it_is_found(here: World) -> None:
    here.wait("w", gpus=4)
    fleet = here.fleet()
    scales = Scales(fleet)
    limits = Limits(fleet, scales, here.now)
    able = [r for r in fleet.replicas if limits.never(r) is None]
    plan = propose(fleet, here.now)
    found = [m for m in plan.moves if m.waiting == ServiceKey("t", "w")]
    if any(helps(fleet, r, shape(4).need, scales) for r in able):
        assert found
        assert len(found[0].uids) == 1 or found[0].moved <= MOVED_PER_GAINED * 4


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_a_plan_leaves_what_it_was_given_as_it_was(here: World) -> None:
    fleet = here.fleet()
    before = [fleet.ledger.free(n, p) for p in fleet.pools for n in p.nodes]
    assert propose(fleet, here.now) == propose(fleet, here.now)
    assert [fleet.ledger.free(n, p) for p in fleet.pools for n in p.nodes] == before
    assert ServiceKey("t", "s0") in fleet.services
