"""Which node takes a replica, and what is said where none does."""

from typing import Any

import pytest

from conch.decisions.fleet import Amounts, Shape, ordered
from conch.decisions.placement import Ledger, choose, explain, obstacle, room, tolerates
from tests.kit.rendering import service_spec
from tests.unit.decisions.stories import GPU, ONE_GPU, node, pool

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
