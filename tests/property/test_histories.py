"""What is wished for last decides, whatever was wished for before and however far it got.

The operator's decisions on a model of Kubernetes; tests/control_plane/test_differential.py asks the
same of the operator's process before a real API server.
"""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from conch.decisions.replicas import DRAIN_SETTLE_S
from tests.property.fleet_model import World
from tests.property.kube_model import ModelNode, ModelService

ROOM = {"a1": 3, "a2": 1, "b1": 4}


@dataclass(frozen=True)
class Wish:
    """What a service asks for, and how many rounds it gets until the next wish comes."""

    wanted: int
    revision: int
    allowed: tuple[str, ...]
    rounds: int

    def apply(self, world: World) -> None:
        service = world.services["s0"]
        service.wanted, service.revision = self.wanted, f"r{self.revision}"
        service.allowed = self.allowed


wishes = st.builds(
    Wish,
    st.integers(0, 9),
    st.integers(1, 3),
    st.sampled_from([("a", "b"), ("a",), ("b",)]),
    st.integers(0, 12),
)
# Beyond what its pools hold, replicas that answer elsewhere go on; a fresh service has none.
possible = wishes.filter(lambda w: w.wanted <= sum(ROOM[n] for n in ROOM if n[0] in w.allowed))


def world() -> World:
    nodes = {name: ModelNode(name, name[0], gpus) for name, gpus in ROOM.items()}
    return World({"s0": ModelService("s0", 0)}, nodes)


def live(fleet: World, wish: Wish) -> None:
    wish.apply(fleet)
    for _ in range(wish.rounds):
        fleet.refresh_all()
        fleet.tick()
        for key in sorted(fleet.sets):
            fleet.sync(key)
        fleet.schedule()
        fleet.start(most=2)
        fleet.finish()
        fleet.now += DRAIN_SETTLE_S / 2


def outcome(fleet: World) -> dict[str, object]:
    """What is left that users notice: revisions, traffic, replicas. Where they run may differ."""
    pods = fleet.pods.values()
    return {
        "serves": fleet.services["s0"].serving if pods else None,
        "answering": sorted(p.key[1] for p in pods if p.traffic),
        "others": [p for p in pods if not p.traffic],
        "asked": sum(s.replicas for s in fleet.sets.values()),
        "revisions": sorted({s.key[1] for s in fleet.sets.values() if s.replicas}),
    }


def by_pool(fleet: World) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in fleet.sets.values():
        found[item.key[2]] = found.get(item.key[2], 0) + item.replicas
    return {pool: count for pool, count in found.items() if count}


def fresh(wish: Wish) -> World:
    fleet = world()
    wish.apply(fleet)
    fleet.settle()
    return fleet


@settings(deadline=None, max_examples=300)
@given(wishes, wishes, possible)
def test_the_last_wish_alone_decides(first: Wish, then: Wish, last: Wish) -> None:
    lived = world()
    for wish in (first, then, last):
        live(lived, wish)
    lived.settle()
    lived.check_rest()
    assert outcome(lived) == outcome(fresh(last))


@settings(deadline=None, max_examples=150)
@given(possible, wishes)
def test_a_wish_that_is_taken_back_leaves_nothing(good: Wish, bad: Wish) -> None:
    lived = world()
    for wish in (good, bad, good):
        live(lived, wish)
    lived.settle()
    lived.check_rest()
    assert outcome(lived) == outcome(fresh(good))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_replicas_that_come_and_go_end_where_fresh_ones_are(steps: list[int]) -> None:
    """Of one revision in the same pools, even the places are those of a fresh service."""
    lived = world()
    for wanted in steps:
        live(lived, Wish(wanted, 1, ("a", "b"), 0))
        lived.settle()
    alone = fresh(Wish(steps[-1], 1, ("a", "b"), 0))
    assert outcome(lived) == outcome(alone)
    assert by_pool(lived) == by_pool(alone)
