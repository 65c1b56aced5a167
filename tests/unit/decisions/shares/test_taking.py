"""What is taken back, from whom and when: priorities, run times, turns, no reversal, several GPUs."""

from dataclasses import replace

import pytest

from conch.api.conditions import Reason
from conch.decisions.fleet import Amounts, Shape
from conch.decisions.placement import Ledger
from conch.decisions.shares import Holding, Tenant, share
from tests.unit.decisions.shares.fleets import GPU, LONG_AGO, World, a_has_all, of, pool, world


class TestPriorities:
    def low_has_all(self, *tenants: Tenant) -> World:
        here = world(*tenants, gpus=4)
        here.want("a/low", 4, priority=1)
        here.step()
        return here

    def test_a_higher_priority_of_the_same_tenant_takes_all_it_wants(self) -> None:
        here = self.low_has_all()
        here.want("a/high", 3, priority=2)
        here.settle()
        assert (here.held("a/low"), here.held("a/high")) == (1, 3)

    def test_equal_priorities_never_take_from_each_other(self) -> None:
        here = self.low_has_all()
        here.want("a/equal", 3, priority=1)
        here.settle()
        assert (here.held("a/low"), here.held("a/equal"), here.moved) == (4, 0, 0)

    def test_a_lower_priority_waits(self) -> None:
        here = self.low_has_all()
        here.want("a/lower", 3, priority=0)
        here.settle()
        assert here.held("a/lower") == 0

    def test_not_before_three_load_times(self) -> None:
        here = world(gpus=4)
        here.want("a/low", 4, priority=1, load_seconds=100.0)
        here.step()
        here.want("a/high", 4, priority=2)
        here.step(seconds=299.0)
        assert here.held("a/high") == 0
        here.step(seconds=1.0)
        assert here.held("a/high") == 4

    def test_of_all_lower_ones_the_lowest_goes_first_then_the_newest(self) -> None:
        here = world(gpus=4)
        for n, priority in enumerate((5, 1, 1, 3)):
            here.want(f"a/s{n}", 1, priority=priority)
            here.step()
        here.want("a/high", 1, priority=9)
        here.step()
        assert [here.held(f"a/s{n}") for n in range(4)] == [1, 1, 0, 1]

    def test_the_last_replica_of_a_service_goes_after_all_others(self) -> None:
        here = world(gpus=4)
        here.want("a/last", 1, priority=1, created="2026-01-02T00:00:00Z")
        here.want("a/many", 3, priority=1, created="2026-01-01T00:00:00Z")
        here.step()
        here.want("a/high", 2, priority=9)
        here.settle()
        assert (here.held("a/last"), here.held("a/many")) == (1, 1)

    def test_priorities_of_another_tenant_are_no_matter(self) -> None:
        here = a_has_all()
        here.want("b", 8, priority=1000)
        here.settle()
        assert here.of("b") == 4

    def test_what_is_free_goes_to_the_higher_priority_first(self) -> None:
        here = world(gpus=4)
        here.want("a/low", 4, priority=1)
        here.want("a/high", 3, priority=2)
        here.step()
        assert (here.held("a/low"), here.held("a/high")) == (1, 3)

    def test_among_equals_each_gets_one_before_any_gets_two(self) -> None:
        here = world(gpus=4)
        for name in ("one", "three", "two"):
            here.want(f"a/{name}", 4, created=f"2026-01-0{len(name)}T00:00:00Z")
        here.step()
        assert sorted(here.held(f"a/{n}") for n in ("one", "two", "three")) == [1, 1, 2]

    @pytest.mark.parametrize(
        "tenant", [Tenant("a", limit={"a100": 3}), Tenant("a", quota={"a100": 3}, borrowing=False)]
    )
    def test_at_its_limit_a_tenant_makes_room_for_its_own_higher_priority(
        self, tenant: Tenant
    ) -> None:
        here = self.low_has_all(tenant)
        assert here.held("a/low") == 3
        here.want("a/high", 2, priority=2)
        here.settle()
        assert (here.held("a/low"), here.held("a/high")) == (1, 2)
        assert of(here.decide(), "a/low").reason is Reason.TENANT_LIMIT

    def test_at_its_limit_it_takes_from_nobody_else(self) -> None:
        here = world(Tenant("a", limit={"a100": 1}), gpus=4)
        here.want("a/low", 1, priority=1)
        here.step()
        here.want("b", 3)
        here.step()
        here.want("a/high", 1, gpus=2, priority=2)
        here.settle()
        assert (here.held("a/low"), here.held("a/high"), here.of("b")) == (1, 0, 3)


class TestTime:
    def test_a_share_is_not_taken_before_three_load_times(self) -> None:
        here = world()
        here.want("a", 8, load_seconds=100.0)
        here.step()
        here.want("b", 8)
        here.step(seconds=299.0)
        assert here.of("b") == 0
        here.step(seconds=1.0)
        assert here.of("b") == 4

    def test_what_only_starts_goes_before_what_serves(self) -> None:
        here = a_has_all(gpus=2)
        claim = here.claims["a"]
        young, old = claim.held
        here.claims["a"] = replace(claim, held=(replace(young, worth=2), old))
        here.want("b", 1)
        found = here.step()
        assert of(found, "a").given_up == {young.id}


class TestNoReversal:
    def test_who_could_only_swap_places_does_not(self) -> None:
        """Rule S2-a: 5 and 3 of 8 stay when both would be entitled to 4 but by one half replica."""
        here = a_has_all(gpus=7)
        here.want("b", 7)
        here.settle()
        assert (here.of("a"), here.of("b"), here.moved) == (4, 3, 3)

    def test_the_victims_share_afterwards_is_at_least_the_takers(self) -> None:
        here = a_has_all(Tenant("a", weight=2), Tenant("b", weight=1), gpus=4)
        here.want("b", 4)
        here.settle()
        # Entitled to 8/3 and 4/3: with a second one, b's share would be 1.5 and a's 0.75.
        assert (here.of("a"), here.of("b")) == (3, 1)

    def test_three_who_are_entitled_to_the_same_come_to_rest(self) -> None:
        here = a_has_all(gpus=8)
        here.want("b", 8)
        here.want("c", 8)
        here.settle()
        assert sorted(here.of(t) for t in "abc") == [2, 3, 3]


class TestTurn:
    def test_who_holds_nothing_takes_its_turn_and_it_is_not_taken_back(self) -> None:
        hog = Tenant("a", usage=1.0)
        here = World([pool(nodes=[1])], {"a": hog})
        here.want("a", 1)
        here.step()
        here.want("b", 1)
        here.step()
        assert (here.of("a"), here.of("b")) == (0, 1)
        for _ in range(5):
            here.step()
        assert (here.of("a"), here.of("b"), here.moved) == (0, 1, 1)

    def test_without_a_past_the_first_one_stays(self) -> None:
        here = World([pool(nodes=[1])])
        here.want("a", 1)
        here.step()
        here.want("b", 1)
        here.settle()
        assert (here.of("a"), here.of("b")) == (1, 0)

    def test_a_small_wish_is_met_although_the_hog_is_hardly_above_its_share(self) -> None:
        here = a_has_all(gpus=8)
        here.want("b", 1)
        here.settle()
        assert (here.of("a"), here.of("b")) == (7, 1)


class TestSeveralGPUs:
    def test_room_is_made_on_one_node(self) -> None:
        here = World([pool(nodes=[4, 4])])
        here.want("a", 8)
        here.step()
        here.want("b", 1, gpus=4)
        found = here.step()
        gone = {h.id for h in here.claims["b"].held}
        assert here.of("b") == 1
        assert gone
        assert len(of(found, "a").given_up) == 4
        assert here.of("a") == 4

    @pytest.mark.parametrize(("gpus", "left"), [(2, 3), (4, 2)])
    def test_no_more_than_twice_the_gain_is_moved(self, gpus: int, left: int) -> None:
        here = World([pool(nodes=[8, 8, 8])], {"c": Tenant("c", weight=100)})
        here.want("a", 3, gpus=8)
        here.step()
        # Entitles tenant a to little, and fits nowhere.
        here.want("c", 2, gpus=9)
        here.want("b", 1, gpus=gpus)
        here.settle()
        assert here.of("a") == left

    def test_twice_the_gain_is(self) -> None:
        here = World([pool(nodes=[4])])
        here.want("a", 1, gpus=4)
        here.step()
        here.want("b", 1, gpus=2)
        here.settle()
        assert (here.of("a"), here.of("b")) == (0, 1)

    def test_but_a_quota_is_worth_any_move(self) -> None:
        here = World([pool(nodes=[8])], {"b": Tenant("b", quota={"a100": 2})})
        here.want("a", 1, gpus=8)
        here.step()
        here.want("b", 1, gpus=2)
        here.step()
        assert (here.of("a"), here.of("b")) == (0, 1)

    def test_what_is_free_there_already_is_not_taken_again(self) -> None:
        here = World([pool(nodes=[4])])
        here.want("a", 3)
        here.step()
        here.want("b", 1, gpus=2)
        here.step()
        assert (here.of("a"), here.of("b")) == (2, 1)

    @pytest.mark.parametrize("nodes", [[4, 4], [8]])
    def test_one_large_replica_gives_way_to_several_small_ones(self, nodes: list[int]) -> None:
        here = World([pool(nodes=nodes, disruptionBudget="10%")])
        here.want("a", 2, gpus=4)
        here.step()
        here.want("b", 8)
        here.settle()
        assert (here.of("a"), here.of("b")) == (1, 4)

    def test_the_room_of_one_is_used_up_before_more_is_taken(self) -> None:
        here = World([pool(nodes=[4, 4, 4])])
        here.want("a", 3, gpus=4)
        here.step()
        here.want("b", 3)
        here.want("c", 1)
        found = here.step()
        assert len(of(found, "a").given_up) == 1
        assert (here.of("a"), here.of("b"), here.of("c")) == (2, 3, 1)

    def test_but_two_that_are_equal_do_not_swap_one_node(self) -> None:
        here = World([pool(nodes=[8])])
        here.want("a", 1, gpus=8)
        here.step()
        here.want("b", 8)
        here.settle()
        assert (here.of("a"), here.of("b")) == (1, 0)

    def test_until_the_past_of_one_is_longer(self) -> None:
        here = World([pool(nodes=[8])], {"a": Tenant("a", usage=4.0)})
        here.want("a", 1, gpus=8)
        here.step()
        here.want("b", 8)
        here.settle()
        assert (here.of("a"), here.of("b")) == (0, 8)

    def test_who_needs_less_room_is_taken_from_where_that_does(self) -> None:
        here = World([pool(nodes=[2, 2])])
        here.want("a/two", 1, gpus=2)
        here.step()
        here.want("a/one", 2)
        here.step()
        here.want("b", 1)
        here.settle()
        assert (here.held("a/two"), here.held("a/one"), here.of("b")) == (1, 1, 1)

    def test_devices_of_another_resource_of_the_node_make_no_room(self) -> None:
        part = "nvidia.com/mig-1g.10gb"
        whole, parts = pool("whole", [2]), pool("parts", [3], resourceName=part)
        full = {**whole.nodes[0].allocatable, part: 3.0}
        node = replace(whole.nodes[0], allocatable=full, requested={GPU: 2.0, part: 3.0})
        here = World([replace(p, nodes=(node,)) for p in (whole, parts)])
        here.tenants = {"b": Tenant("b", weight=9)}
        here.want("b", 2, pools=["whole"])
        # Those of tenant a would go first, since each of c's is a service's last one.
        for name, count, where in (("a", 3, "parts"), ("c/x", 1, "whole"), ("c/y", 1, "whole")):
            here.want(name, count, pools=[where])
            held = tuple(Holding(f"{name}{n}", where, node.name, LONG_AGO) for n in range(count))
            here.claims[name] = replace(here.claims[name], held=held)
        found = share(here.tenants.values(), here.claims.values(), here.pools, free=Ledger(), now=0)
        assert not of(found, "a").given_up
        assert of(found, "b").total == 1
        assert of(found, "c/x").given_up | of(found, "c/y").given_up


class TestSurplus:
    """Replicas of revisions that are over: charged, and nobody's to take."""

    def half_old(self) -> World:
        here = a_has_all()
        claim = here.claims["a"]
        here.claims["a"] = replace(claim, held=claim.held[:3], surplus=claim.held[3:])
        return here

    def test_they_are_charged(self) -> None:
        standing = self.half_old().decide().standings["a"]
        assert standing.allocated == 8

    def test_and_not_taken(self) -> None:
        here = self.half_old()
        old = {h.id for h in here.claims["a"].surplus}
        here.want("b", 8)
        here.settle()
        assert here.of("b") == 3
        assert not old & of(here.decide(), "a").given_up


def test_what_drains_is_free_already_and_nobodys_loss() -> None:
    here = a_has_all(gpus=4)
    claim = here.claims["a"]
    here.claims["a"] = replace(claim, held=claim.held[:2], wished=2)
    here.want("b", 2)
    found = here.decide()
    assert of(found, "b").total == 2
    assert not of(found, "a").given_up


def test_a_replica_that_takes_no_gpu_is_no_matter_of_limits() -> None:
    here = world(Tenant("a", limit={"a100": 0}))
    here.want("a", 3)
    none = Shape(Amounts(0, 0.1, 1.0, 1), ())
    here.claims["a"] = replace(here.claims["a"], shapes={"a100": none})
    assert here.step().grants[here.claims["a"].key].total == 3
