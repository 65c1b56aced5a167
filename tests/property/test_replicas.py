"""Replicas under chance: wishes change, pods and nodes go, the operator crashes and sees late.

The model of Kubernetes asserts at each step what may never happen; see fleet_model.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conch.decisions.replicas import DRAIN_SETTLE_S
from tests.property.fleet_model import World
from tests.property.kube_model import EVICTION_S, ModelNode, ModelService

CALM = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=80)
"""A busy machine is no failure."""
NODES = ("a1", "a2", "b1", "b2")
index = st.integers(0, 5)


@dataclass(frozen=True)
class Step:
    """Something that happens; its name and numbers make a failure readable."""

    name: str
    numbers: tuple[int, ...]

    def happen(self, world: World) -> None:
        STEPS[self.name](world, *self.numbers)


def _tick(world: World, crash_after: int) -> None:
    """Decide and write; in most of these ticks the operator dies after so many writes."""
    world.tick(crash_after if crash_after < 4 else None)


def _fresh_tick(world: World, _: int) -> None:
    world.refresh_all()
    world.tick()


def _refresh(world: World, which: int) -> None:
    world.refresh(("pods", "sets", "nodes")[which % 3])


def _sync(world: World, which: int) -> None:
    keys = sorted(world.sets)
    if keys:
        world.sync(keys[which // 2 % len(keys)], sees=which % 2 == 0)


def _round(world: World, _: int) -> None:
    """Everything but the operator runs once."""
    for key in sorted(world.sets):
        world.sync(key)
    world.schedule()
    world.start()
    world.finish()


def _wish(world: World, which: int, wanted: int) -> None:
    names = sorted(world.services)
    world.services[names[which % len(names)]].wanted = wanted


def _revise(world: World, which: int) -> None:
    names = sorted(world.services)
    service = world.services[names[which % len(names)]]
    if service.trial is not None:
        service.trial = service.another()
    else:
        service.revision = service.another()


def _try(world: World, which: int, few: int) -> None:
    """Another revision comes on trial: a few of it, or all."""
    names = sorted(world.services)
    service = world.services[names[which % len(names)]]
    if service.serving is not None:
        service.trial, service.revision = service.another(), service.serving
        service.few = few % 3 or None


def _judge(world: World, which: int, good: int) -> None:
    """What is on trial takes over, or is taken back."""
    names = sorted(world.services)
    service = world.services[names[which % len(names)]]
    if service.trial is not None and good % 2:
        service.revision = service.trial
    service.trial = None


def _confine(world: World, which: int, where: int) -> None:
    names = sorted(world.services)
    allowed = (("a", "b"), ("a",), ("b",))[where % 3]
    world.services[names[which % len(names)]].allowed = allowed


def _lose(world: World, which: int) -> None:
    pods = [p for p in world.pods.values() if not p.deleting]
    if pods:
        world.lose(pods[which % len(pods)])


def _blip(world: World, which: int) -> None:
    pods = list(world.pods.values())
    if pods:
        world.blip(pods[which % len(pods)])


def _cordon(world: World, which: int, on: int) -> None:
    node = world.nodes.get(NODES[which % len(NODES)])
    if node:
        node.cordoned = on % 2 == 0


def _remove(world: World, which: int) -> None:
    world.remove_node(NODES[which % len(NODES)])


def _add(world: World, which: int) -> None:
    name = NODES[which % len(NODES)]
    world.nodes.setdefault(name, ModelNode(name, name[0], 1 + which % 2))


def _silence(world: World, which: int) -> None:
    world.silence(NODES[which % len(NODES)])


def _hear(world: World, which: int) -> None:
    world.hear(NODES[which % len(NODES)])


def _wait(world: World, seconds: int) -> None:
    world.now += seconds


def _ask(world: World, which: int, requests: int) -> None:
    """Requests begin at a pod with traffic; the front door tells of it only later."""
    serving = [p for p in world.pods.values() if p.traffic]
    if serving:
        pod = serving[which % len(serving)]
        pod.requests += requests
        world.untold.add(pod.uid)


def _answer(world: World, which: int) -> None:
    """A pod answers all that is under way to it."""
    pods = list(world.pods.values())
    if pods:
        pods[which % len(pods)].requests = 0


def _tell(world: World, _: int) -> None:
    """The front door has heard of all pods."""
    world.untold.clear()


def _break(world: World, which: int, heals: int) -> None:
    """A pod answers nothing any more, or does so again."""
    pods = list(world.pods.values())
    if pods:
        pods[which % len(pods)].broken = heals % 3 != 0


def _rest(world: World, minutes: int) -> None:
    world.now += 60 * minutes


STEPS: dict[str, Callable[..., None]] = {
    "tick": _tick,
    "fresh tick": _fresh_tick,
    "refresh": _refresh,
    "sync": _sync,
    "schedule": lambda world, last: world.schedule(last_first=last % 2 == 0),
    "start": lambda world, which: world.start(which, most=1),
    "finish": lambda world, _: world.finish(),
    "round": _round,
    "wish": _wish,
    "revise": _revise,
    "try": _try,
    "judge": _judge,
    "confine": _confine,
    "lose": _lose,
    "blip": _blip,
    "cordon": _cordon,
    "remove node": _remove,
    "add node": _add,
    "silence": _silence,
    "hear": _hear,
    "wait": _wait,
    "ask": _ask,
    "answer": _answer,
    "tell": _tell,
    "break": _break,
    "rest": _rest,
}
_TWO = {"wish", "try", "judge", "confine", "cordon", "ask", "break"}
_OFTEN = ("tick", "fresh tick", "fresh tick", "sync", "round", "round", "wait", "wish")


def _step(name: str) -> st.SearchStrategy[Step]:
    numbers = st.tuples(index, index) if name in _TWO else st.tuples(index)
    return st.builds(Step, st.just(name), numbers)


steps = st.lists(st.one_of([_step(n) for n in (*STEPS, *_OFTEN)]), min_size=12, max_size=60)


def world(*gpus_of_services: int, nodes: dict[str, int] | None = None) -> World:
    sizes = nodes or {"a1": 2, "a2": 1, "b1": 2}
    return World(
        {f"s{i}": ModelService(f"s{i}", 0, gpus) for i, gpus in enumerate(gpus_of_services)},
        {name: ModelNode(name, name[0], gpus) for name, gpus in sizes.items()},
    )


@settings(CALM, max_examples=250)
@given(steps, st.sampled_from([(1,), (1, 1), (1, 2)]), st.booleans())
def test_nothing_forbidden_happens_and_all_comes_to_rest(
    history: list[Step], services: tuple[int, ...], front_door: bool
) -> None:
    fleet = world(*services)
    fleet.front_door = front_door
    for step in history:
        step.happen(fleet)
    assert fleet.plans() == fleet.plans(backwards=True)
    fleet.settle()
    fleet.check_rest()


@CALM
@given(steps, st.integers(0, 4), st.none() | st.integers(1, 6))
def test_a_quota_that_refuses_pods_costs_no_running_replica(
    history: list[Step], limit: int, later: int | None
) -> None:
    fleet = world(1)
    fleet.quota = limit
    for step in history:
        step.happen(fleet)
    fleet.settle()
    fleet.quota = later
    fleet.settle()
    if later is None:
        fleet.check_rest()


@settings(CALM, max_examples=40)
@given(steps)
def test_the_order_of_inputs_does_not_matter(history: list[Step]) -> None:
    fleet = world(1, 1)
    for step in history:
        step.happen(fleet)
        assert fleet.plans() == fleet.plans(backwards=True)


@settings(CALM, max_examples=40)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.data())
def test_a_crash_at_any_write_changes_nothing_in_the_end(
    wishes: list[int], data: st.DataObject
) -> None:
    calm, stormy = world(1), world(1)
    for wanted in wishes:
        for fleet in (calm, stormy):
            fleet.services["s0"].wanted = wanted
        for crash in data.draw(st.lists(st.integers(0, 5), max_size=6)):
            stormy.refresh_all()
            stormy.tick(crash)
            _round(stormy, 0)
        calm.settle()
        stormy.settle()
        assert _spread(calm) == _spread(stormy)


@pytest.mark.parametrize(("gpus", "beside"), [(3, True), (2, False)])
def test_a_replica_that_answers_nothing_is_made_again(gpus: int, beside: bool) -> None:
    """First the other one, where it has a place; at most one is away meanwhile."""
    fleet = world(1, nodes={"a1": gpus})
    fleet.front_door = True
    fleet.services["s0"].wanted = 2
    fleet.settle()
    fleet.now += 60
    broken = next(iter(fleet.pods.values()))
    broken.broken = True
    good = []
    for _ in range(40):
        _fresh_tick(fleet, 0)
        _round(fleet, 0)
        fleet.now += 2
        good.append(sum(p.traffic and not p.broken for p in fleet.pods.values()))
        assert len(fleet.pods) <= gpus
    assert broken.uid not in fleet.pods
    assert (min(good), good[-1]) == (1, 2)
    assert (fleet.count == 4) is beside, "where it leaves by itself, its replacement is gated once"
    fleet.settle()
    fleet.check_rest()


@pytest.mark.parametrize(("requests", "told"), [(1, True), (0, False), (0, True)])
def test_a_drained_pod_goes_once_nobody_waits_for_it_or_the_time_is_over(
    requests: int, told: bool
) -> None:
    fleet = world(1)
    fleet.front_door = True
    fleet.services["s0"].wanted = 2
    fleet.settle()
    fleet.services["s0"].wanted = 1
    fleet.refresh_all()
    fleet.tick()
    (pod,) = (p for p in fleet.pods.values() if p.draining_since is not None)
    pod.requests, fleet.untold = requests, set() if told else {pod.uid}
    began = fleet.now
    while pod.uid in fleet.pods and not pod.deleting:
        assert fleet.now - began <= fleet.drain_timeout
        for key in sorted(fleet.sets):
            fleet.sync(key)
        _fresh_tick(fleet, 0)
        fleet.now += 1
    waited = fleet.now - 1 - began
    assert waited == (DRAIN_SETTLE_S if told and not requests else fleet.drain_timeout)


@pytest.mark.parametrize("returns", [True, False])
@pytest.mark.parametrize("nodes", [{"a1": 2, "a2": 2}, {"a1": 2, "b1": 2}])
def test_replicas_of_a_silent_node_answer_elsewhere_before_they_are_evicted(
    nodes: dict[str, int], returns: bool
) -> None:
    fleet = world(1, nodes=nodes)
    fleet.services["s0"].wanted = 2
    fleet.settle()
    fleet.silence("a1")
    evicted = fleet.now + EVICTION_S
    while fleet.now < evicted:
        _fresh_tick(fleet, 0)
        _round(fleet, 0)
        fleet.now += 1
    assert sum(p.traffic for p in fleet.pods.values()) == 2
    if returns:
        fleet.hear("a1")
    fleet.settle()
    fleet.check_rest()
    assert sum(p.traffic for p in fleet.pods.values()) == 2


def _spread(fleet: World) -> dict[tuple[str, str, str], tuple[int, bool]]:
    return {k: (s.replicas, s.gated) for k, s in fleet.sets.items()}


@pytest.mark.parametrize(
    ("start", "via", "end"),
    [(0, 2, 1), (1, 2, 1), (1, 3, 0), (2, 1, 1), (2, 3, 1), (3, 2, 1), (3, 2, 3)],
)
def test_every_order_of_events_on_the_way_is_harmless(start: int, via: int, end: int) -> None:
    """Small space, searched whole: whichever of the parts acts next, up to a depth.

    The wish changes from ``via`` to ``end`` while the first step towards ``via`` is under way.
    """
    fleet = world(1, nodes={"a1": 2, "b1": 1} if start == 1 else {"a1": 3})
    fleet.services["s0"].wanted = start
    fleet.settle()
    for number, pod in enumerate(fleet.pods.values()):
        pod.ready_at = number  # so that the controller's choice would be another than Conch's
    fleet.services["s0"].wanted = via
    fleet.refresh_all()
    fleet.tick()
    for key in sorted(fleet.sets):
        fleet.sync(key)
    fleet.refresh_all()
    fleet.services["s0"].wanted = end
    _search(fleet, depth=6)


MOVES = [
    Step("tick", (9,)),
    Step("tick", (1,)),
    Step("refresh", (0,)),
    Step("refresh", (1,)),
    Step("sync", (0,)),
    Step("sync", (1,)),
    Step("sync", (2,)),
    Step("schedule", (0,)),
    Step("start", (0,)),
    Step("finish", (0,)),
    Step("wait", (4,)),
]


def _search(start: World, *, depth: int) -> None:
    layer, known = [start], {_identity(start)}
    for _ in range(depth):
        following = []
        for fleet in layer:
            for move in MOVES:
                after = deepcopy(fleet)
                move.happen(after)
                identity = _identity(after)
                if identity not in known:
                    known.add(identity)
                    following.append(after)
        layer = following
    for fleet in layer[:: max(1, len(layer) // 50)]:
        fleet.settle()
        fleet.check_rest()


def _identity(fleet: World) -> tuple[object, ...]:
    return (fleet.frozen(), repr(fleet.seen), repr(fleet.unseen), fleet.now)
