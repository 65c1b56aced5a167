"""Accelerators that differ: which suits whom, parts of GPUs, slower ones, and pools that grow."""

from dataclasses import replace

import pytest

from conch.decisions.fleet import Amounts, Shape
from conch.decisions.shares import Tenant
from tests.unit.decisions.shares.fleets import World, of, pool

GAINS = {"fast": 4.0, "slow": 1.0}
HARDLY = {"fast": 1.1, "slow": 1.0}


def two(fast: int = 2, slow: int = 2) -> World:
    return World([pool("fast", [fast], relativeSpeed=2), pool("slow", [slow], relativeSpeed=1)])


def where(here: World, name: str) -> dict[str, int]:
    pools = [h.pool for h in here.claims[name].held]
    return {p: pools.count(p) for p in sorted(set(pools))}


class TestWhoGetsTheFastOnes:
    @pytest.mark.parametrize(("gains", "hardly"), [("a", "b"), ("b", "a")])
    def test_whoever_gains_the_most_whatever_its_name(self, gains: str, hardly: str) -> None:
        here = two()
        here.want(gains, 2, rates=GAINS, indifferent=True)
        here.want(hardly, 2, rates=HARDLY, indifferent=True)
        here.step()
        assert where(here, gains) == {"fast": 2}
        assert where(here, hardly) == {"slow": 2}

    def test_with_room_for_all_everybody_gets_fast_ones(self) -> None:
        here = two(fast=4)
        here.want("a", 2, rates=GAINS, indifferent=True)
        here.want("b", 2, rates=HARDLY, indifferent=True)
        here.step()
        assert where(here, "a") == where(here, "b") == {"fast": 2}

    def test_a_users_own_order_stands(self) -> None:
        here = two()
        here.want("a", 2, rates=GAINS, indifferent=True)
        here.want("b", 2, rates=HARDLY, pools=["fast", "slow"])
        here.step()
        assert where(here, "a") == where(here, "b") == {"fast": 1, "slow": 1}

    def test_what_was_not_measured_counts_by_its_speed(self) -> None:
        here = two()
        here.want("a", 2, indifferent=True)
        here.want("b", 2, rates=HARDLY, indifferent=True)
        here.step()
        assert where(here, "a") == {"fast": 2}
        assert where(here, "b") == {"slow": 2}

    def test_nobody_waits_for_the_better_one(self) -> None:
        here = two(fast=1, slow=3)
        here.want("a", 4, rates=GAINS, indifferent=True)
        here.step()
        assert where(here, "a") == {"fast": 1, "slow": 3}


class TestWhatAGPUIsWorth:
    def test_a_slower_one_counts_as_less(self) -> None:
        here = two()
        here.want("a", 4)
        here.step()
        assert here.decide().standings["a"].allocated == pytest.approx(2 * 2 + 2 * 1)

    def test_shares_are_even_in_speed_not_in_number(self) -> None:
        here = World([pool("fast", [4], relativeSpeed=2), pool("slow", [8], relativeSpeed=1)])
        here.want("a", 12, pools=["fast"])
        here.want("b", 12, pools=["slow"])
        here.step()
        assert (here.of("a"), here.of("b")) == (4, 8)
        found = here.decide().standings
        assert found["a"].entitlement == found["b"].entitlement == pytest.approx(8)

    def test_who_takes_half_of_all_cpus_is_charged_half_of_the_fleet(self) -> None:
        here = World([pool(nodes=[8])])
        here.want("a", 1)
        greedy = Shape(Amounts(1, 500.0, 1.0, 1), ())
        here.claims["a"] = replace(here.claims["a"], shapes={"a100": greedy})
        here.step()
        assert here.decide().standings["a"].allocated == pytest.approx(4)


class TestPartsOfGPUs:
    def mig(self, *tenants: Tenant) -> World:
        parts = pool("mig", [14], sharing={"mode": "MIG", "devicesPerGPU": 7})
        return World([parts], {t.name: t for t in tenants})

    def test_limits_are_in_gpus(self) -> None:
        here = self.mig(Tenant("a", limit={"mig": 1}))
        here.want("a", 14)
        found = here.step()
        assert here.of("a") == 7
        assert of(found, "a").message == "tenant a is at its limit: it holds 1 of 1 mig"

    def test_so_are_quotas(self) -> None:
        here = self.mig(Tenant("b", quota={"mig": 0.5}))
        here.want("a", 14, load_seconds=600.0)
        here.step()
        here.want("b", 14)
        here.step(seconds=1.0)
        assert here.of("b") == 3

    def test_and_charges(self) -> None:
        here = self.mig()
        here.want("a", 14)
        here.step()
        assert here.decide().standings["a"].allocated == pytest.approx(2)


class TestPoolsThatGrow:
    def test_all_is_granted_without_any_room(self) -> None:
        here = World([pool("cloud", [], elastic=True)])
        here.want("a", 50)
        found = here.decide()
        assert of(found, "a").replicas == {"cloud": 50}
        assert of(found, "a").reason is None

    def test_up_to_the_limit(self) -> None:
        here = World([pool("cloud", [], elastic=True)], {"a": Tenant("a", limit={"cloud": 7})})
        here.want("a", 50)
        assert of(here.decide(), "a").replicas == {"cloud": 7}

    def test_what_is_there_comes_first_where_it_is_preferred(self) -> None:
        here = World([pool(nodes=[3]), pool("cloud", [], elastic=True)])
        here.want("a", 5)
        assert of(here.decide(), "a").replicas == {"a100": 3, "cloud": 2}

    def test_nothing_is_taken_from_others_there(self) -> None:
        here = World([pool("cloud", [4], elastic=True)])
        here.want("a", 4)
        here.step()
        here.want("b", 4)
        found = here.step()
        assert not of(found, "a").given_up
        assert of(found, "b").total == 4
