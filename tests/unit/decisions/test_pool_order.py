"""Which pools a service may use, in which order, and what their devices are worth."""

from typing import Any

import pytest

from conch.decisions.fleet import Amounts, Misfit, misfit, ordered
from conch.decisions.placement import Ledger
from tests.kit.rendering import service_spec
from tests.unit.decisions.stories import node, pool

CPU = {"sharing": {"mode": "CPU"}}
MIG = {"sharing": {"mode": "MIG", "devicesPerGPU": 7}}


def order(*pools: Any, gpus: int = 1, **placement: Any) -> list[str]:
    spec = service_spec(placement=placement)
    return [p.name for p in ordered(pools, spec, gpus=gpus)]


class TestCPU:
    def test_is_not_used_unasked(self) -> None:
        assert order(pool("cpu", **CPU), pool("a")) == ["a"]

    def test_comes_after_all_gpus_however_fast(self) -> None:
        pools = pool("cpu", **CPU, relativeSpeed=99), pool("a"), pool("b", spot=True)
        assert order(*pools, cpu=True) == ["a", "b", "cpu"]

    def test_comes_first_where_it_is_named_first(self) -> None:
        pools = pool("cpu", **CPU), pool("a")
        assert order(*pools, pools=["cpu", "a"]) == ["cpu", "a"]
        assert order(*pools, accelerators=["cpu", "a"]) == ["cpu", "a"]

    def test_is_had_besides_the_accelerators_that_are_asked_for(self) -> None:
        pools = pool("cpu", **CPU), pool("a"), pool("b")
        assert order(*pools, accelerators=["b"], cpu=True) == ["b", "cpu"]

    def test_is_bound_by_the_pools_that_are_named(self) -> None:
        assert order(pool("cpu", **CPU), pool("a"), pools=["a"], cpu=True) == ["a"]

    def test_comes_first_for_replicas_that_need_no_gpu(self) -> None:
        assert order(pool("a", relativeSpeed=9), pool("cpu", **CPU), gpus=0) == ["cpu", "a"]


class TestEdgeAndSites:
    EDGE = pool("kiosk", edge=True, site="shop")
    HOME = pool("home", site="home")
    LOST = pool("lost")

    def test_the_edge_is_for_those_who_name_it(self) -> None:
        all_of_them = self.EDGE, self.HOME, self.LOST
        assert order(*all_of_them) == ["home", "lost"]
        assert order(*all_of_them, pools=["kiosk"]) == ["kiosk"]
        assert order(*all_of_them, sites=["shop"]) == ["kiosk"]

    def test_its_accelerator_is_no_name(self) -> None:
        assert order(self.EDGE, self.HOME, accelerators=["kiosk", "home"]) == ["home"]

    def test_sites_are_bounds_in_an_order(self) -> None:
        fast = pool("fast", site="shop", relativeSpeed=9)
        assert order(fast, self.HOME, self.LOST, sites=["home", "shop"]) == ["home", "fast"]

    def test_a_pool_of_another_site_is_none_even_if_it_is_named(self) -> None:
        assert order(self.EDGE, self.HOME, pools=["home"], sites=["shop"]) == []


def test_spot_capacity_comes_last_among_equally_preferred_pools() -> None:
    cheap = pool("cheap", spot=True, relativeSpeed=9)
    assert order(cheap, pool("safe")) == ["safe", "cheap"]
    assert order(cheap, pool("safe"), pools=["cheap", "safe"]) == ["cheap", "safe"]


def test_a_part_of_a_gpu_is_as_fast_and_as_dear_as_it_is_large() -> None:
    mig = pool("mig", **MIG, relativeSpeed=3.5, pricePerGPUHour=7)
    assert (mig.device_speed, mig.device_price) == (0.5, 1.0)
    assert order(mig, pool("slow", relativeSpeed=0.6)) == ["slow", "mig"]
    dear = pool("dear", relativeSpeed=0.5, pricePerGPUHour=2)
    assert order(dear, mig) == ["mig", "dear"]


def test_devices_count_as_the_gpus_that_they_are_parts_of() -> None:
    assert pool("a").gpus_of(3) == 3
    assert pool("a", **MIG).gpus_of(7) == 1
    assert pool("a", **MIG).gpus_of(1) == pytest.approx(1 / 7)
    assert pool("a", **CPU).gpus_of(3) == 0


@pytest.mark.parametrize(
    ("spec", "placement", "why"),
    [
        ({}, {}, None),
        ({}, {"pools": ["b"]}, Misfit.NOT_NAMED),
        ({}, {"accelerators": ["b"]}, Misfit.NOT_NAMED),
        ({}, {"sites": ["s"]}, Misfit.OTHER_SITE),
        ({"edge": True}, {}, Misfit.EDGE),
        (CPU, {}, Misfit.NO_GPUS),
        (CPU, {"accelerators": ["b"]}, Misfit.NOT_NAMED),
    ],
)
def test_what_is_refused_says_why(
    spec: dict[str, Any], placement: dict[str, Any], why: Misfit | None
) -> None:
    wish = service_spec(placement=placement).placement
    assert misfit(pool("a", **spec), wish) is why


def test_devices_of_one_kind_are_not_those_of_another() -> None:
    """A node with two MIG profiles; CPU and memory are the node's, whoever takes them."""
    small, large = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"
    offered = {small: 4.0, large: 1.0, "cpu": 8.0, "memory": 1e9, "pods": 110.0}
    both = node("n", allocatable=offered, requested={})
    pools = [pool(r.rpartition("/")[2], both, resourceName=r) for r in (small, large)]
    ledger = Ledger()
    ledger.book("n", Amounts(gpus=2, cpu=3.0, pods=1), small)
    assert [ledger.free(both, p) for p in pools] == [
        Amounts(gpus=2, cpu=5.0, memory=1e9, pods=109),
        Amounts(gpus=1, cpu=5.0, memory=1e9, pods=109),
    ]
    ledger.release("n", Amounts(gpus=1), large)
    assert [ledger.free(both, p).gpus for p in pools] == [2, 2]
