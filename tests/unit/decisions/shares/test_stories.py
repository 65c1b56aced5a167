"""Stories of tenants that share a fleet: who gets what, who waits, and for how long."""

import pytest

from conch.api.conditions import Reason
from conch.decisions.shares import Grant, Tenant
from tests.unit.decisions.shares.fleets import World, a_has_all, of, pool, world


class TestWaking:
    def test_who_is_alone_gets_everything(self) -> None:
        here = world()
        here.want("a", 8)
        found = here.step()
        assert here.of("a") == 8
        assert found.standings["a"].entitlement == pytest.approx(8)
        assert of(found, "a") == Grant({"a100": 8})

    def test_who_wakes_reaches_its_entitlement_one_replica_at_a_time(self) -> None:
        here = a_has_all(disruptionBudget="10%")
        here.want("b", 8)
        seen = []
        for _ in range(6):
            here.step()
            seen.append((here.of("a"), here.of("b")))
        assert seen == [(7, 1), (6, 2), (5, 3), (4, 4), (4, 4), (4, 4)]
        assert here.moved == 4

    def test_a_larger_budget_is_used_at_once(self) -> None:
        here = a_has_all(disruptionBudget="3")
        here.want("b", 8)
        here.step()
        assert here.of("b") == 3

    def test_what_leaves_already_is_part_of_the_budget(self) -> None:
        here = a_has_all(disruptionBudget="3")
        here.want("b", 8)
        here.now += 60
        found = here.decide({"a100": 2.0})
        assert of(found, "b").total == 1
        assert of(here.decide({"a100": 3.0}), "b").total == 0

    def test_weights_decide_how_much(self) -> None:
        here = a_has_all(Tenant("b", weight=3))
        here.want("b", 8)
        here.settle()
        assert (here.of("a"), here.of("b")) == (2, 6)

    def test_nobody_gets_more_than_it_wants_and_the_rest_is_for_others(self) -> None:
        here = a_has_all(Tenant("b", weight=100))
        here.want("b", 1)
        here.settle()
        assert (here.of("a"), here.of("b")) == (7, 1)

    def test_idle_gpus_are_anyones_again_once_b_sleeps(self) -> None:
        here = a_has_all()
        here.want("b", 8)
        here.settle()
        here.want("b", 0)
        here.settle()
        assert (here.of("a"), here.of("b")) == (8, 0)

    def test_a_namespace_of_no_tenant_has_a_weight_of_one(self) -> None:
        here = a_has_all(Tenant("a", weight=1.0))
        here.want("stray/s", 8, tenant="namespace/stray")
        here.settle()
        assert here.of("namespace/stray") == 4


class TestQuotas:
    def test_a_quota_is_there_at_once_however_young_the_borrower(self) -> None:
        here = world(Tenant("b", quota={"a100": 3}), disruptionBudget="10%")
        here.want("a", 8, load_seconds=600.0)
        here.step()
        here.want("b", 8)
        here.step(seconds=1.0)
        assert (here.of("a"), here.of("b")) == (5, 3)

    def test_nobody_is_taken_below_its_quota(self) -> None:
        here = a_has_all(Tenant("a", quota={"a100": 6}), Tenant("b", weight=1000))
        here.want("b", 8)
        here.settle()
        assert (here.of("a"), here.of("b")) == (6, 2)

    def test_not_even_for_the_quota_of_another(self) -> None:
        here = a_has_all(Tenant("a", quota={"a100": 6}), Tenant("b", quota={"a100": 4}))
        here.want("b", 4)
        here.settle()
        assert (here.of("a"), here.of("b")) == (6, 2)

    def test_a_quota_is_first_when_what_is_free_is_handed_out(self) -> None:
        here = world(Tenant("a", weight=1000), Tenant("b", weight=0.001, quota={"a100": 5}))
        here.want("a", 8)
        here.want("b", 8)
        here.step()
        assert (here.of("a"), here.of("b")) == (3, 5)

    def test_a_quota_is_of_its_accelerator_only(self) -> None:
        here = World([pool(), pool("t4")], {"b": Tenant("b", quota={"t4": 8})})
        here.want("a", 16, load_seconds=600.0)
        here.step()
        here.want("b", 8, pools=["a100"])
        here.step(seconds=1.0)
        assert here.of("b") == 0

    def test_of_several_borrowers_the_one_farthest_above_its_share_gives(self) -> None:
        here = world(Tenant("b", quota={"a100": 2}))
        here.want("c", 3)
        here.step()
        here.want("a", 5)
        here.step()
        here.want("b", 2)
        here.step(seconds=1.0)
        assert (here.of("a"), here.of("b"), here.of("c")) == (3, 2, 3)


class TestLimits:
    def test_a_limit_holds_on_an_empty_fleet_too_and_says_so(self) -> None:
        here = world(Tenant("a", limit={"a100": 3}))
        here.want("a", 8)
        found = here.step()
        assert here.of("a") == 3
        assert of(found, "a").reason is Reason.TENANT_LIMIT
        assert of(found, "a").message == "tenant a is at its limit: it holds 3 of 3 a100"

    def test_all_services_of_a_tenant_count(self) -> None:
        here = world(Tenant("a", limit={"a100": 3}))
        here.want("a/one", 8)
        here.want("a/two", 8)
        here.settle()
        assert (here.held("a/one"), here.held("a/two")) == (2, 1)

    def test_another_accelerator_is_another_limit(self) -> None:
        here = World([pool(), pool("t4")], {"a": Tenant("a", limit={"a100": 3})})
        here.want("a", 16)
        here.settle()
        assert here.of("a") == 11

    @pytest.mark.parametrize("switch", [{"borrowing": False}, {"preemptible": False}])
    def test_who_may_not_borrow_stays_at_its_quota(self, switch: dict[str, bool]) -> None:
        here = world(Tenant("a", quota={"a100": 2}, **switch))  # type: ignore[arg-type]
        here.want("a", 8)
        found = here.step()
        assert here.of("a") == 2
        assert of(found, "a").reason is Reason.TENANT_LIMIT
        assert of(found, "a").message == (
            "tenant a is at its quota, and may not borrow: it holds 2 of 2 a100"
        )

    def test_what_may_not_be_preempted_is_not_even_for_a_quota(self) -> None:
        here = a_has_all()
        here.tenants = {
            "a": Tenant("a", preemptible=False),
            "b": Tenant("b", quota={"a100": 4}),
        }
        here.want("b", 8)
        here.settle()
        assert (here.of("a"), here.of("b")) == (8, 0)


class TestWords:
    def test_who_waits_is_told_the_numbers(self) -> None:
        here = a_has_all()
        here.want("b", 8)
        here.settle()
        grant = of(here.decide(), "b")
        assert grant.reason is Reason.AWAITING_SHARE
        assert grant.message == (
            "no GPU is free that tenant b may have now: it holds 4 of the 4 GPUs (of speed 1) that "
            "it is entitled to, a share of 1.00; the largest share has a with 4 of the 4 GPUs "
            "(of speed 1) that it is entitled to, a share of 1.00"
        )

    def test_who_has_all_it_wished_for_is_told_nothing(self) -> None:
        here = a_has_all()
        assert of(here.decide(), "a") == Grant({"a100": 8})

    def test_a_fleet_that_is_too_small_is_no_matter_of_shares(self) -> None:
        here = world()
        here.want("a", 9)
        assert of(here.step(), "a").reason is None

    def test_standings_say_who_waits(self) -> None:
        here = a_has_all()
        here.want("b", 6)
        here.settle()
        standing = here.decide().standings["b"]
        assert (standing.allocated, standing.demand, standing.waiting) == (4, 6, 2)
        assert standing.share == pytest.approx(1.0)
