"""Which node takes a replica, and what is said where none does."""

from dataclasses import replace
from typing import Any, ClassVar

import pytest

from conch.decisions.fleet import Amounts, Shape, Sign, ordered
from conch.decisions.placement import (
    Ledger,
    Wish,
    bar,
    choose,
    explain,
    obstacle,
    popular,
    room,
    tolerates,
)
from tests.kit.rendering import service_spec
from tests.unit.decisions.stories import GPU, ONE_GPU, node, pool

ZONE = "topology.kubernetes.io/zone"
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "nvidia.com/gpu", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "nvidia.com/gpu", "value": "present"}, True),
        ({"key": "nvidia.com/gpu", "operator": "Equal", "value": "present"}, True),
        ({"key": "nvidia.com/gpu", "value": "absent"}, False),
        ({"key": "nvidia.com/gpu"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_tolerations_match_as_the_api_says(toleration: dict[str, Any], fits: bool) -> None:
    assert tolerates((toleration,), TAINT) is fits


def test_a_taint_without_value_matches_a_toleration_without_value() -> None:
    assert tolerates(({"key": "spot"},), {"key": "spot", "effect": "NoSchedule"})


def test_the_tightest_fit_is_chosen_so_that_whole_nodes_stay_free() -> None:
    where = pool("a", node("n1", gpus=4), node("n2", gpus=4, used=2), node("n3", gpus=4, used=4))
    assert choose(where, ONE_GPU, Ledger()) == "n2"


def test_ties_go_by_name_whatever_the_order() -> None:
    nodes = node("n2"), node("n1"), node("n3")
    assert choose(pool("a", *nodes), ONE_GPU, Ledger()) == "n1"
    assert choose(pool("a", *reversed(nodes)), ONE_GPU, Ledger()) == "n1"


def test_bookings_count_at_once_and_can_be_given_back() -> None:
    ledger, where = Ledger(), pool("a", node("n1", gpus=1))
    ledger.book("n1", ONE_GPU.need)
    assert choose(where, ONE_GPU, ledger) is None
    ledger.release("n1", ONE_GPU.need)
    assert choose(where, ONE_GPU, ledger) == "n1"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"ready": False}, "not ready"),
        ({"schedulable": False}, "cordoned"),
        ({"taints": (TAINT,)}, "with taint nvidia.com/gpu:NoSchedule, which is not tolerated"),
        ({"gpus": 0}, "with only 0 of 1 GPUs free"),
    ],
)
def test_a_node_says_what_is_in_the_way(fields: dict[str, Any], why: str) -> None:
    one = node("n1", **fields)
    assert obstacle(one, ONE_GPU, one.free(GPU)) == why


def test_a_preference_is_no_obstacle() -> None:
    one = node("n1", taints=({"key": "old", "effect": "PreferNoSchedule"},))
    assert obstacle(one, ONE_GPU, one.free(GPU)) is None


def test_what_the_pods_ask_of_nodes_is_obeyed() -> None:
    shape = Shape(ONE_GPU.need, (), {"zone": "b"})
    where = pool("a", node("n1", labels={"zone": "a"}), node("n2", labels={"zone": "b"}))
    assert choose(where, shape, Ledger()) == "n2"


def test_replicas_stay_in_their_zones() -> None:
    shape = Shape(ONE_GPU.need, (), zones=("b", "c"))
    nodes = node("n1", labels={ZONE: "a"}), node("n2", labels={ZONE: "c"}), node("n3")
    outside = "outside placement.zones"
    assert [bar(n, shape) for n in nodes] == [outside, None, outside]
    ledger, where = Ledger(), pool("a", *nodes)
    assert choose(where, shape, ledger) == "n2"
    assert choose(where, ONE_GPU, ledger) == "n1"
    assert explain(where, shape, ledger) == (
        "pool a, 3 nodes: 1 has room; 2 outside placement.zones"
    )


@pytest.mark.parametrize("short", ["cpu", "memory", "pods"])
def test_gpus_alone_are_not_enough(short: str) -> None:
    plenty = {GPU: 4.0, "cpu": 64.0, "memory": 1e12, "pods": 110.0}
    one = node("n1", allocatable={**plenty, short: 0.0})
    assert obstacle(one, ONE_GPU, one.free(GPU)) is not None


def test_sums_of_floats_do_not_make_a_full_node_overfull() -> None:
    """Ten pods of 0.1 cores fit ten tenths."""
    asked = sum([0.1] * 9)
    one = node("n1", allocatable={GPU: 10, "cpu": 1.0, "memory": 1e9}, requested={"cpu": asked})
    assert obstacle(one, Shape(Amounts(1, 0.1, 0.0, 1), ()), one.free(GPU)) is None


def test_room_counts_replicas_over_all_nodes() -> None:
    two = Shape(Amounts(gpus=2, pods=1), ())
    where = pool("a", node("n1", gpus=5), node("n2", gpus=3), node("n3", ready=False))
    assert room(where, two, Ledger(), most=10) == 3
    assert room(where, two, Ledger(), most=2) == 2


def test_an_elastic_pool_has_all_the_room() -> None:
    assert room(pool("a", elastic=True), ONE_GPU, Ledger(), most=7) == 7


def test_a_pool_explains_itself_by_counts() -> None:
    nodes = node("n1", gpus=1, used=1), node("n2", ready=False), node("n3", ready=False)
    text = explain(pool("a", *nodes), ONE_GPU, Ledger())
    assert text == "pool a, 3 nodes: 2 not ready; 1 with only 0 of 1 GPUs free"


def test_a_pool_without_nodes_names_the_labels_to_set() -> None:
    assert explain(pool("a"), ONE_GPU, Ledger()) == "pool a: no node carries pool=a"


def gpus(count: int) -> Amounts:
    return Amounts(gpus=count, cpu=1.0, memory=1e9, pods=1)


class TestSignsOfFailing:
    """Nodes that show any come last, and are used where there is no other."""

    ILL = (Sign("XIDErrors", "XIDErrors", 1.0),)

    @pytest.mark.parametrize("wish", [None, Wish(), Wish(beside={"n2": 9}, apart=True)])
    @pytest.mark.parametrize("workload", [None, {Amounts(4, 1.0, 1e9, 1): 1.0}])
    def test_any_other_is_better(
        self, wish: Wish | None, workload: dict[Amounts, float] | None
    ) -> None:
        where = pool("a", node("n1", used=2, signs=self.ILL), node("n2", used=0))
        ledger, found = Ledger(workload), []
        for _ in range(6):
            found.append(choose(where, ONE_GPU, ledger, wish=wish))
            ledger.book(str(found[-1]), ONE_GPU.need, GPU)
        assert found == ["n2"] * 4 + ["n1"] * 2
        assert choose(where, ONE_GPU, ledger, wish=wish) is None

    @pytest.mark.parametrize("wish", [None, Wish(cached=("n3",), load_seconds=60.0)])
    def test_where_all_do_they_are_chosen_among_as_ever(self, wish: Wish | None) -> None:
        nodes = [node(f"n{n}", used=n) for n in (1, 2, 3)]
        sound = pool("a", *nodes)
        ill = pool("a", *(replace(n, signs=self.ILL) for n in nodes))
        assert choose(ill, ONE_GPU, Ledger(), wish=wish) == choose(
            sound, ONE_GPU, Ledger(), wish=wish
        )
        assert room(ill, ONE_GPU, Ledger(), most=9) == 6

    def test_it_is_said_why_such_a_node_is_not_taken(self) -> None:
        where = pool("a", node("n1", signs=self.ILL))
        assert explain(where, ONE_GPU, Ledger()) == "pool a, 1 node: 1 has room but shows XIDErrors"


class TestFragmentation:
    """Room is kept for what is popular."""

    popular: ClassVar = {gpus(1): 1.0, gpus(3): 1.0}
    nodes = node("n1", gpus=8), node("n2", gpus=4), node("n3", gpus=3)

    def test_the_least_rise_of_fragmentation_decides(self) -> None:
        """A GPU of n3 strands its other two for half of the replicas; one of n2 or n1 strands none.

        The tightest fit takes n3, the loosest n1.
        """
        where = pool("a", *self.nodes)
        assert choose(where, ONE_GPU, Ledger(self.popular)) == "n2"
        assert choose(where, ONE_GPU, Ledger()) == "n3"

    def test_each_booking_counts_at_once(self) -> None:
        ledger, where, found = Ledger(self.popular), pool("a", *self.nodes), []
        for _ in range(4):
            name = choose(where, ONE_GPU, ledger)
            assert name
            ledger.book(name, ONE_GPU.need)
            found.append(name)
        # From three GPUs on each of n2 and n3 only n1 keeps room for another three.
        assert found == ["n2", "n1", "n1", "n1"]
        ledger.release("n2", ONE_GPU.need)
        assert choose(where, ONE_GPU, ledger) == "n2"

    def test_nothing_popular_is_the_tightest_fit(self) -> None:
        assert choose(pool("a", *self.nodes), ONE_GPU, Ledger({})) == "n3"

    def test_a_pool_may_have_a_workload_of_its_own(self) -> None:
        ledger = Ledger({gpus(1): 1.0}, by_pool={"b": self.popular})
        assert choose(pool("a", *self.nodes), ONE_GPU, ledger) == "n3"
        assert choose(pool("b", *self.nodes), ONE_GPU, ledger) == "n2"

    def test_a_node_without_cpu_for_others_is_used_up_first(self) -> None:
        poor = {GPU: 4.0, "cpu": 1.0, "memory": 1e12, "pods": 110.0}
        where = pool("a", node("n1", gpus=2), node("n2", allocatable=poor))
        need = Amounts(gpus=1, cpu=0.5, memory=1e9, pods=1)
        assert choose(where, Shape(need, ()), Ledger({gpus(1): 1.0})) == "n1"
        assert choose(where, Shape(need, ()), Ledger({Amounts(1, 2.0, 1e9, 1): 1.0})) == "n2"

    def test_no_node_is_taken_that_has_no_room(self) -> None:
        assert choose(pool("a", *self.nodes), Shape(gpus(9), ()), Ledger(self.popular)) is None
        assert choose(pool("a"), ONE_GPU, Ledger(self.popular)) is None


class TestWish:
    """Load time and crowding, in GPUs."""

    two = pool("a", node("n1"), node("n2"))

    def test_a_node_with_the_files_is_preferred(self) -> None:
        wish = Wish(cached=["n2", "elsewhere"], load_seconds=30)
        assert choose(self.two, ONE_GPU, Ledger(), wish=wish) == "n2"
        assert choose(self.two, ONE_GPU, Ledger(), wish=Wish(cached=["n2"])) == "n1"

    def test_a_service_spreads(self) -> None:
        assert choose(self.two, ONE_GPU, Ledger(), wish=Wish(beside={"n1": 1})) == "n2"
        crowded = Wish(beside={"n1": 1, "n2": 2, "elsewhere": 1})
        assert choose(self.two, ONE_GPU, Ledger(), wish=crowded) == "n1"

    def test_a_minute_of_loading_weighs_less_than_a_neighbour_and_two_more(self) -> None:
        for seconds, name in ((60, "n1"), (120, "n2")):
            wish = Wish(cached=["n2"], load_seconds=seconds, beside={"n2": 1})
            assert choose(self.two, ONE_GPU, Ledger(), wish=wish) == name

    def test_neither_is_worth_a_whole_gpu_that_nobody_can_use(self) -> None:
        """On n2 a GPU of three would strand two for replicas that need three."""
        where = pool("a", node("n1", gpus=4), node("n2", gpus=3))
        wish = Wish(cached=["n2"], load_seconds=60, beside={"n1": 2})
        assert choose(where, ONE_GPU, Ledger({gpus(3): 1.0}), wish=wish) == "n1"

    def test_what_must_not_fail_together_goes_to_another_zone(self) -> None:
        east = [node(name, labels={ZONE: "east"}) for name in ("n1", "n2")]
        where = pool("a", *east, node("n3", labels={ZONE: "west"}), node("n4"))
        wish = Wish(beside={"n1": 1}, apart=True, zones={"east": 1})
        assert choose(where, ONE_GPU, Ledger(), wish=wish) == "n3"
        both = Wish(beside={"n1": 1, "n3": 1}, apart=True, zones={"east": 1, "west": 1})
        assert choose(where, ONE_GPU, Ledger(), wish=both) == "n4"
        # Another node of a zone that has one already is better than a third on the same.
        full = pool("a", *east)
        assert choose(full, ONE_GPU, Ledger(), wish=wish) == "n2"

    def test_to_be_apart_is_worth_a_gpu_that_nobody_can_use(self) -> None:
        """On n2 a GPU of two would strand one for replicas that need two."""
        where = pool("a", node("n1", gpus=4, used=1), node("n2", gpus=2))
        popular = {gpus(2): 1.0}
        near, apart = Wish(beside={"n1": 1}), Wish(beside={"n1": 1}, apart=True)
        assert choose(where, ONE_GPU, Ledger(popular), wish=near) == "n1"
        assert choose(where, ONE_GPU, Ledger(popular), wish=apart) == "n2"

    def test_who_joins_counts_for_the_next(self) -> None:
        wish = Wish(apart=True).joined("n1", "east").joined("n2", "east").joined("n3", None)
        assert wish.beside == {"n1": 1, "n2": 1, "n3": 1}
        assert wish.zones == {"east": 2}

    def test_without_a_difference_the_tightest_fit_decides(self) -> None:
        where = pool("a", node("n1"), node("n2", used=2))
        assert choose(where, ONE_GPU, Ledger(), wish=Wish(load_seconds=90)) == "n2"


class TestPopular:
    """Which needs count as popular."""

    def test_equal_needs_are_added_up_and_weights_sum_to_one(self) -> None:
        found = popular([(gpus(1), 1), (gpus(2), 2), (gpus(1), 1)])
        assert found == {gpus(1): 0.5, gpus(2): 0.5}

    def test_the_rare_are_left_out(self) -> None:
        assert list(popular([(gpus(1), 96), (gpus(8), 1), (gpus(2), 3)])) == [gpus(1)]
        assert list(popular([(gpus(1), 1), (gpus(2), 3), (gpus(3), 2)], most=2)) == [
            gpus(2),
            gpus(3),
        ]

    def test_what_asks_for_no_gpu_or_is_not_wished_for_is_left_out(self) -> None:
        assert popular([(gpus(0), 5), (gpus(1), 0)]) == {}


class TestOrder:
    """Which pools a service may use, the preferred first."""

    def order(self, *pools: Any, **placement: Any) -> list[str]:
        return [p.name for p in ordered(pools, service_spec(placement=placement))]

    def test_earlier_wishes_come_first(self) -> None:
        pools = pool("a"), pool("b"), pool("c")
        assert self.order(*pools, accelerators=["c", "a"]) == ["c", "a"]
        assert self.order(*pools, pools=["b", "a"]) == ["b", "a"]

    def test_without_a_wish_the_faster_comes_first_then_the_cheaper_then_the_name(self) -> None:
        pools = (
            pool("d"),
            pool("c"),
            pool("b", pricePerGPUHour=2),
            pool("a", relativeSpeed=2, pricePerGPUHour=9),
        )
        assert self.order(*pools) == ["a", "c", "d", "b"]

    def test_both_wishes_must_hold(self) -> None:
        assert self.order(pool("a"), pool("b"), pools=["a"], accelerators=["b"]) == []
